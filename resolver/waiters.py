"""Who waits for a port: a service that is started again and again, because somebody else has it.

Whoever frees the port hands it over to such a service. So what would be ended is looked at once
more: where a program of supervisord is in BACKOFF or STARTING, a unit of systemd in auto-restart,
an application of pm2 between two starts, a process of monit's missing or new, or a service of
runit, s6, daemontools or circus never older than seconds, and is for this port, the holder is that
manager's business. Where it only may be for it, that is said, and stops nothing. Read-only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.classify import circus, monit, pm2, supervise, supervisord, systemd
from resolver.errors import CommandFailedError, TimedOutError
from resolver.gather.processes import described
from resolver.host.files import namespace_of
from resolver.host.identity import identified
from resolver.host.processes import name_of, pids
from resolver.managed import classification
from resolver.model import Command, Kind, Respawn
from resolver.programs import ENGINES, PM2, SYSTEM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from resolver.model import Classification, Holder, Process
    from resolver.protocols import CommandRunner
    from resolver.waiting import Waiting

    Ask = Callable[[Holder, Process, CommandRunner], Iterator[Waiting]]

_KEEPERS: dict[str, Ask] = {
    **dict.fromkeys((each.program for each in supervise.FAMILIES), supervise.waiting),
    "supervisord": supervisord.waiting,
    "circusd": circus.waiting,
    "monit": monit.waiting,
}


def with_waiters(found: Sequence[Classification], run: CommandRunner) -> tuple[Classification, ...]:
    """The same; what a service waits for is that service's manager's."""
    if not any(map(_would_be_ended, found)):
        return tuple(found)
    keepers = _keepers()
    units = tuple(systemd.waiting(run))
    return tuple(
        _waited(each, keepers, units, run) if _would_be_ended(each) else each for each in found
    )


def _would_be_ended(each: Classification) -> bool:
    """Whether its step would free the port, and nobody is known who would take it back."""
    if each.kind is Kind.CONTAINER:
        return each.stops_container
    if each.holder.hidden or each.harm or each.respawners:
        return False
    return each.kind is Kind.LOCAL or (each.kind is Kind.SERVICE and each.respawn is Respawn.NO)


def _waited(
    each: Classification, keepers: Sequence[Process], units: Sequence[Waiting], run: CommandRunner
) -> Classification:
    found = each
    sources = [tuple(units)]
    for keeper in keepers:
        try:
            sources.append(tuple(_asked(each.holder, keeper, run)))
        except TimedOutError as error:
            says = f"whether {keeper} would take this port is not known: {error}"
            found = _may_be_handed_over(found, says, says)
        except CommandFailedError:  # of others', or without a way to be asked
            continue
    for waiting in (one for source in sources for one in source):
        claim = waiting.claim(each.holder.binding.port)
        if claim and claim.certain:
            return handed_over(each, waiting, claim.why)
        if claim:
            service = waiting.service
            says = f"{service.title} of {service.kind} ({waiting.state}) may wait for this port"
            found = _may_be_handed_over(found, says, f"{says}: {claim.why}")
    return found


def _asked(holder: Holder, keeper: Process, run: CommandRunner) -> Iterator[Waiting]:
    ask = _ask_of(keeper.name)
    return ask(holder, keeper, run) if ask else iter(())


def _ask_of(name: str) -> Ask | None:
    """How a manager is asked who waits; None for what is none."""
    return pm2.waiting if name.startswith(PM2) else _KEEPERS.get(name)


def _may_be_handed_over(each: Classification, says: str, evidence: str) -> Classification:
    """The same, and what may take its port: a service that fails, maybe for another reason."""
    return replace(
        each,
        evidence=(*each.evidence, evidence),
        restart="; ".join(filter(None, (each.restart, says))),
    )


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
        reason=f"{each.reason}; {service.title} of {service.kind} ({waiting.state}) waits for "
        "this port, and would take it",
        commands=tuple(dict.fromkeys((*service.commands, *_commands(each)))),
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
        return (Command(container.command("stop")),)
    return (Command(("kill", *(str(master.pid) for master in each.holder.masters))),)


def _keepers() -> tuple[Process, ...]:
    """Every supervisor that runs here; one in a container has its files elsewhere."""
    ours = namespace_of("self", "mnt")
    found = (pid for pid in pids() if _ask_of(name_of(pid)) and namespace_of(pid, "mnt") == ours)
    return described(identified(found)) if ours else ()
