"""What starts again what a step has ended, as a command to be pasted. PURE."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.model import Command, Kind, PortRequest
from resolver.portspec import is_name
from resolver.programs import retitled
from resolver.settings import LEASES_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.model import Classification, Container, Process

_PORT_VARIABLE = r"(?:[A-Z][A-Z0-9_]*_)?PORT"
_PASSED = "LISTEN_FDS"  # sd_listen_fds(3)
# Started by a launcher (erl) that sets variables and rewrites the words: by these it does not start
_LAUNCHED = frozenset({"beam.smp"})


def all_started(each: Classification, masters: Iterable[Process], euid: int) -> Iterator[Command]:
    """What starts them again, as whose they were, where that is not the caller's effective user.

    An engine alone starts a forwarder, and for a container.
    """
    if each.kind is not Kind.ORPHAN:
        for found in masters:
            yield from _how_started(each, each.launcher or found, euid)


def _how_started(each: Classification, process: Process, euid: int) -> tuple[Command, ...]:
    """The command that starts the process again; none where it hides how it was started."""
    words, container = process.command, each.holder.container
    if not words or retitled(process) or process.name in _LAUNCHED:
        return ()
    if container is not None and container.engine:
        return (Command((*container.client, "exec", "-d", container.handle, *words)),)
    by_run = _by_run(each, process)
    before = by_run or _with_its_port(process, str(each.holder.binding.port))
    argv = (*_as_its_user(process, euid), *before, *words)
    return (Command(argv, folder=process.cwd),)


def _as_its_user(process: Process, euid: int) -> tuple[str, ...]:
    """What makes a command line its user's; `sudo` takes a number with a `#` (sudo(8))."""
    if process.uid in {None, euid}:
        return ()
    return ("sudo", "-u", process.user or f"#{process.uid}", "--")


def _with_its_port(process: Process, port: str) -> tuple[str, ...]:
    """The variables that gave it the port, where its command line does not."""
    named = any(port in word for word in process.command)
    given = [e for e in process.environment if re.fullmatch(_PORT_VARIABLE, e[0]) and e[1] == port]
    return () if named or not given else ("env", *("=".join(each) for each in given))


def _by_run(each: Classification, process: Process) -> tuple[str, ...]:
    """What was typed before the command, where `ultra-ports run` became it."""
    service, binding = each.ownership.leased, each.holder.binding
    if not (process.variable(LEASES_VARIABLE) and is_name(service)):
        return ()
    port = PortRequest(binding.port, binding.transport).typed
    passed = ("--pass-socket",) if process.variable(_PASSED) else ()
    return ("ultra-ports", "run", "-p", f"{service}:{port}", *passed, "--")


def container_started(container: Container) -> tuple[Command, ...]:
    """What starts a container again that was stopped; one with --rm is gone then."""
    if container.auto_remove:
        words = (*container.client, "run", "…", container.image)
        return (Command(words, "--rm: it is removed when stopped"),)
    return (Command(container.command("start")),)
