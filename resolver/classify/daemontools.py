"""daemontools: services of a supervise.

Suspected from a supervise that is the nearest supervisor above, confirmed by `svstat` on the
service directory (cr.yp.to/daemontools: supervise, svstat, svc). `svstat` does not tell a service
that was started by `svc -o` from one that is started again, so the wanted state is read where it
reads it: byte 17 of `supervise/status` is `u`, `d`, or 0 after `svc -o` (svstat.c, supervise.c).
"""

from __future__ import annotations

import os

from resolver.ancestry import (
    Service,
    Supervised,
    classification,
    service_directory,
    service_name,
    supervised,
    tool,
)
from resolver.errors import CommandFailedError
from resolver.host.files import read
from resolver.model import Confidence, Respawn
from resolver.patterns import pattern
from resolver.settings import COMMAND_TIMEOUT_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resolver.model import Classification, Holder, Snapshot
    from resolver.protocols import CommandRunner

RANK = 54

_PROGRAMS = frozenset({"supervise"})
_STATUS = pattern(r"up \(pid (\d+)\) \d+ seconds")
_WANT = 17  # the place of the wanted state in supervise/status
_POLICIES = {
    b"u": ("want up", Respawn.YES),
    b"d": ("want down", Respawn.NO),
    b"\0": ("run once, as after `svc -o`", Respawn.NO),
}
_UNKNOWN = ("restart policy unknown", Respawn.UNKNOWN)


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A service that supervise started, and may start again."""
    found = supervised(holder, snapshot, _PROGRAMS)
    if found is None:
        return None
    folder = service_directory(found, snapshot)
    control = tool("svc", found.supervisor)
    try:
        said = _ask(folder, found, run)
    except CommandFailedError as error:
        why = f"daemontools could not be asked: {error}"
        evidence = ("its nearest supervisor is a supervise", why)
        return classification(holder, found, _service(control, folder, None, evidence))
    wanted = want(folder) if folder else None
    return classification(
        holder, found, _service(control, folder, wanted, (f"svstat {folder}: {said}",))
    )


def _ask(folder: str | None, found: Supervised, run: CommandRunner) -> str:
    """What `svstat` says, where it is this very process that it speaks of."""
    if folder is None:
        raise CommandFailedError("the service directory is hidden from this user")
    control = tool("svstat", found.supervisor)
    answer = run((control, folder), timeout_seconds=COMMAND_TIMEOUT_SECONDS)
    said = answer.stdout.strip().removeprefix(f"{folder}: ")
    if pid(said) != found.root.pid:
        raise CommandFailedError(f"svstat said: {said or answer.stderr.strip()}")
    return said


def pid(said: str) -> int | None:
    """The PID in `up (pid 7) 1 seconds, normally down`; None where it is not up."""
    match = _STATUS.match(said)
    return int(match[1]) if match else None


def want(folder: str) -> bytes | None:
    """The wanted state; None where this user may not read it."""
    path = f"{folder}/supervise/status"
    try:
        status = read(path) if os.path.isfile(path) else b""
    except OSError:
        return None
    return status[_WANT : _WANT + 1] or None


def _service(
    control: str, folder: str | None, wanted: bytes | None, evidence: tuple[str, ...]
) -> Service:
    policy, respawn = _POLICIES.get(wanted or b"", _UNKNOWN)
    unsure = respawn is Respawn.UNKNOWN
    again = "-o" if wanted == b"\0" else "-u"
    return Service(
        manager="daemontools",
        name=service_name(folder),
        policy=policy,
        respawn=respawn,
        confidence=Confidence.SUSPECTED if unsure else Confidence.CONFIRMED,
        evidence=evidence,
        stop=(control, "-d", folder) if folder else (),
        start=(control, again, folder) if folder else (),
    )
