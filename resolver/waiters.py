"""Who waits for a port: a service that is started again and again, because somebody else has it.

Whoever frees the port hands it over to such a service. So what would be ended is looked at once
more: where a program of supervisord is in BACKOFF or STARTING, a unit of systemd in auto-restart,
or a service of runit, s6 or daemontools never older than seconds, and is for this port, the holder
is that manager's business. Read-only.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.classify import supervise, supervisord, systemd
from resolver.errors import StateChangedError
from resolver.gather.processes import describe
from resolver.host.identity import identify
from resolver.host.processes import name_of, pids
from resolver.managed import classification
from resolver.model import Command, Kind, Respawn
from resolver.programs import ENGINES, SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resolver.managed import Waiting
    from resolver.model import Classification, Holder, Pid, Process
    from resolver.protocols import CommandRunner

_KEEPERS = frozenset({"supervisord", "runsv", "s6-supervise", "supervise"})


def with_waiters(found: Sequence[Classification], run: CommandRunner) -> tuple[Classification, ...]:
    """The same; what a service waits for is that service's manager's."""
    if not any(map(_would_be_ended, found)):
        return tuple(found)
    keepers = _keepers()
    units = tuple(systemd.waiting(run))
    once = cache(run)  # of a listing, each port asks the same
    return tuple(
        _waited(each, keepers, units, once) if _would_be_ended(each) else each for each in found
    )


def _would_be_ended(each: Classification) -> bool:
    """Whether its step would free the port, and nobody is known who would take it back."""
    if each.kind is Kind.CONTAINER:
        container = each.holder.container
        return container is not None and bool(container.engine) and not each.spared
    if each.holder.hidden or each.harm or each.respawners:
        return False
    return each.kind is Kind.LOCAL or (each.kind is Kind.SERVICE and each.respawn is Respawn.NO)


def _waited(
    each: Classification, keepers: Sequence[Process], units: Sequence[Waiting], run: CommandRunner
) -> Classification:
    for waiting in _waiting(each.holder, keepers, units, run):
        if why := waiting.wants(each.holder.binding.port):
            return handed_over(each, waiting, why)
    return each


def _waiting(
    holder: Holder, keepers: Sequence[Process], units: Sequence[Waiting], run: CommandRunner
) -> Iterator[Waiting]:
    yield from units
    for keeper in keepers:
        manager = supervisord if keeper.name == "supervisord" else supervise
        yield from manager.waiting(holder, keeper, run)


def handed_over(each: Classification, waiting: Waiting, why: str) -> Classification:
    """The holder as its manager's business: `why` says how it is known what the service wants."""
    service = waiting.service
    if is_way_in(waiting.command):
        service = replace(service, stop=(), start=())
    judged = classification(each.holder, (), service)
    return replace(
        judged,
        respawn=Respawn.YES,
        chain=(*each.chain, service.title, waiting.state, service.keeper),
        evidence=(
            *each.evidence,
            f"{service.title} is in {waiting.state}: {why}",
            *service.evidence,
        ),
        reason=f"{each.reason}; {service.title} of {service.manager} ({waiting.state}) waits for "
        "this port, and would take it",
        commands=_commands(each),
        waited=each.kind,
        restart="",
    )


def is_way_in(command: str) -> bool:
    """Whether a service is a way into the machine, or an engine: not to be stopped from here."""
    programs = {word.rpartition("/")[2] for word in command.split()}
    return not programs.isdisjoint(SYSTEM | ENGINES)


def _commands(each: Classification) -> tuple[Command, ...]:
    """What frees the port once nobody waits for it any more."""
    container = each.holder.container
    if each.kind is Kind.CONTAINER and container is not None:
        return (Command((*container.client, "stop", container.handle)),)
    return (Command(("kill", *(str(master.pid) for master in each.holder.masters))),)


def _keepers() -> tuple[Process, ...]:
    """Every supervisor that runs here; one in a container has its files elsewhere."""
    found = []
    for pid in pids():
        try:
            if name_of(pid) in _KEEPERS and _mounts(pid) == _mounts("self"):
                found.append(identify(pid))
        except (OSError, StateChangedError):
            continue
    described = {each.identity: each for each in describe(found)}
    return tuple(described[each] for each in found if each in described)


def _mounts(pid: Pid | str) -> Path:
    """The mount namespace of a process (namespaces(7))."""
    return Path(f"/proc/{pid}/ns/mnt").readlink()
