"""Somebody's terminal in the holder: a pty with a living session on it, or a debugger's prompt."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.host import jobs
from resolver.host.files import status_words
from resolver.host.processes import name_of
from resolver.model import Collateral, CollateralKind, Command, Degree, Pid
from resolver.phrases import counted
from resolver.programs import known_as, options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.collateral.family import Family
    from resolver.model import Process

_MASTERS = {"/dev/ptmx", "/dev/pts/ptmx"}  # pts(4)
_SSH = frozenset({"ssh"})
_TEMPORARY = r"\.\w{16}\Z"  # the name under which ssh makes its socket, before it links it (mux.c)
_TRACERS = {"strace", "ltrace", "perf"}  # they end with what they look at, and nobody minds


def lost(family: Family) -> Iterator[Collateral]:
    """The sessions that hang on the holder, and the debugger that is attached to it."""
    yield from _sessions(family)
    yield from _shared(family)
    yield from _debugged(family)


def _sessions(family: Family) -> Iterator[Collateral]:
    masters = [each for each in family.group.descriptors if each.target in _MASTERS]
    numbers = {int(each.facts().get("tty-index", "-1")) for each in masters}
    for number in sorted(numbers - {-1}):
        living = [each for each in family.group.below if jobs.terminal(each.pid) == number]
        if living:
            yield Collateral(
                CollateralKind.SESSION,
                Degree.REFUSED,
                f"the terminal session of {', '.join(map(str, living[:3]))}",
                f"it holds the other end of /dev/pts/{number}",
            )


def _shared(family: Family) -> Iterator[Collateral]:
    """The sessions of other terminals that an ssh carries (ssh_config(5), ControlMaster).

    One that does nothing else (ControlPersist) is stopped as a service, and has another title.
    """
    masters = [e for e in family.members if known_as(e, _SSH) and "[mux]" not in e.command_line]
    for path in family.group.paths if masters else ():
        count = family.sockets.clients_at(path)
        if count:
            control = re.sub(_TEMPORARY, "", path)
            forward, why = _forward(masters[0], family.holder.binding.port)
            cancel = ("ssh", "-S", control, "-O", "cancel", "-L", forward, "localhost")
            yield Collateral(
                CollateralKind.SESSION,
                Degree.REFUSED,
                f"{counted(count, 'session')} of other terminals through {control}",
                f"{masters[0]} listens there for them",
                (Command(cancel, why),),
            )


def _forward(master: Process, port: int) -> tuple[str, str]:
    """The forward of a port as it was given, which is how it is cancelled (ssh(1), -O)."""
    for given in options(master.command, "-L"):
        if re.search(rf"(?:^|[:/]){port}:", given):
            return given, "takes this forward away alone"
    return f"{port}:HOST:PORT", "with the forward as its configuration has it"


def _debugged(family: Family) -> Iterator[Collateral]:
    """TracerPid of proc_pid_status(5)."""
    for process in family.members:
        tracer = Pid(int("".join(status_words(process.pid, "TracerPid")) or 0))
        if tracer and name_of(tracer) not in _TRACERS:
            yield Collateral(
                CollateralKind.STATE,
                Degree.REFUSED,
                f"what a debugger looks at: {name_of(tracer)} {tracer} is attached to {process}",
                f"TracerPid of {process.pid} is {tracer}",
            )
