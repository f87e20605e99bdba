"""Ports that sshd listens on for somebody elsewhere: `ssh -R`, and forwarded X11 displays.

The daemon's own port belongs to its listener (`sshd: … [listener]`); any other socket of an sshd
is a forward of one session, whose process it is (sshd(8); sshd-session since OpenSSH 9.8). It is
asked before the protected programs, since it knows more than they do, and comes to the same end: a
session is never ended from here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.model import Classification, Command, Kind, Respawn
from resolver.programs import known_as

if TYPE_CHECKING:
    from resolver.model import Holder, Process, Snapshot
    from resolver.protocols import CommandRunner

_DAEMONS = frozenset({"sshd", "sshd-session"})
_SESSION = r"(?:sshd|sshd-session): (?!.*\[listener\])([^\s@]+)(?:@(\S+))?"
_DISPLAYS = range(6010, 6100)  # X11DisplayOffset 10 and up (sshd_config(5))


def classify(holder: Holder, _snapshot: Snapshot, _run: CommandRunner) -> Classification | None:
    """A forward that a client asked for; None for a daemon's own port."""
    for process in holder.processes:
        known = known_as(process, _DAEMONS)
        match = re.match(_SESSION, process.command_line) if known else None
        if match:
            return _forward(holder, process, match[1], match[2] or "")
    return None


def _forward(holder: Holder, process: Process, user: str, terminal: str) -> Classification:
    where = f" on {terminal}" if terminal else ""
    what = "remote forward (ssh -R)"
    if holder.binding.port in _DISPLAYS:
        what = "forwarded X11 display, or a remote forward (ssh -R),"
    return Classification(
        holder,
        Kind.PROTECTED,
        respawn=Respawn.UNKNOWN,
        chain=(str(process), f"session of {user}{where}", what.rstrip(",")),
        evidence=(f"command line: {process.command_line}",),
        reason=(
            f"{process} holds this port as a {what} of a session of {user}{where}: "
            "it closes where the ssh client was started, and ending it here cuts off that session"
        ),
        commands=(
            Command(("ss", "-tnp"), f"at pid={process.pid}: the client's address"),
            Command(("kill", str(process.pid)), f"ends the whole session of {user}"),
        ),
    )
