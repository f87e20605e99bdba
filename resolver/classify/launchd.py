"""launchd: agents and daemons of macOS.

Suspected from a process whose line ends at a PID 1 that is launchd, confirmed by `launchctl list`,
which has a line `PID STATUS LABEL` for each job of the caller's domain (the system's, for root).
What launchd does when the job ends is read from `launchctl print` (launchctl(1), launchd.plist(5):
KeepAlive). Recorded facts, see tests/units/test_recorded_managers.py: nothing here has run in CI.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import CommandFailedError
from resolver.managed import ask, ask_text
from resolver.model import Classification, Command, Confidence, Kind, Manager, Respawn

if TYPE_CHECKING:
    from resolver.model import Holder, Process, Snapshot
    from resolver.protocols import CommandRunner

_AIRPLAY = "ControlCenter"
_AIRPLAY_PORTS = {5000, 7000}
_AIRPLAY_SETTINGS = Command(
    ("open", "x-apple.systempreferences:com.apple.AirDrop-Handoff-Settings.extension"),
    "switch AirPlay Receiver off",
)
# Programs that somebody opened by hand are jobs of launchd, too; nobody starts them again.
_OPENED = ("application.", "[0x")
_HOMEBREW = "homebrew.mxcl."
# Of what `launchctl print` says
_PLIST = r"(?m)^\s*path = (/.*\.plist)$"
_PROPERTIES = r"(?m)^\s*properties = (.*)$"


class _Job(Struct, frozen=True):
    """A job of launchd; `target` is the name by which launchctl(1) wants it (`gui/501/LABEL`)."""

    label: str
    target: str
    plist: str | None
    keep_alive: bool | None


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A job of launchd, or None where launchd is not PID 1 or does not know it as a service."""
    master = holder.master
    init = snapshot.process(master.ancestors[-1]) if master and master.ancestors else None
    if master is None or init is None or init.pid != 1 or init.name != "launchd":
        return None
    if master.name == _AIRPLAY and holder.binding.port in _AIRPLAY_PORTS:
        return _airplay(holder, master)
    try:
        job = _job(master, run)
    except CommandFailedError as error:
        return _suspected(holder, master, str(error)) if master.parent == init.identity else None
    return _service(holder, job) if job else None


def _airplay(holder: Holder, master: Process) -> Classification:
    """The system's own receiver, by far the most frequent holder of port 5000 on a Mac."""
    return Classification(
        holder,
        Kind.SERVICE,
        respawn=Respawn.YES,
        chain=(str(master), "AirPlay Receiver", "launchd"),
        reason=f"{master} is macOS's AirPlay Receiver, which launchd would start again",
        commands=(_AIRPLAY_SETTINGS,),
    )


def _job(master: Process, run: CommandRunner) -> _Job | None:
    """The service whose process is the holder, or is above it.

    Raises:
        CommandFailedError: launchctl is missing, or did not answer.
    """
    line = {str(master.pid), *(str(each.pid) for each in master.ancestors if each.pid > 1)}
    uid = os.geteuid()
    words: tuple[str, ...] = ("launchctl", "list")
    if not uid and master.uid:  # root asks for another's session
        uid = master.uid
        words = ("launchctl", "asuser", str(uid), *words)
    for row in ask_text(run, words).splitlines():
        pid, _, rest = row.partition("\t")
        label = rest.partition("\t")[2].strip()
        if pid in line and label and not label.startswith(_OPENED):
            return _described(label, uid, run)
    return None


def _described(label: str, uid: int, run: CommandRunner) -> _Job:
    target = f"gui/{uid}/{label}" if uid else f"system/{label}"
    answer = ask(run, ("launchctl", "print", target))
    if answer.status != 0:
        return _Job(label, target, None, None)
    plist = re.search(_PLIST, answer.stdout)
    properties = re.search(_PROPERTIES, answer.stdout)
    keep = None if properties is None else "keepalive" in properties[1].lower()
    if "\tsemaphores = {" in answer.stdout:  # KeepAlive with conditions, such as SuccessfulExit
        keep = True
    return _Job(label, target, plist[1] if plist else None, keep)


def _service(holder: Holder, job: _Job) -> Classification:
    policy = {True: "KeepAlive", False: "no KeepAlive", None: "KeepAlive unknown"}[job.keep_alive]
    respawn = {True: Respawn.YES, False: Respawn.NO, None: Respawn.UNKNOWN}[job.keep_alive]
    domain = job.target.removesuffix(f"/{job.label}")
    start: tuple[str, ...] = ("launchctl", "kickstart", job.target)
    if job.plist and respawn is not Respawn.NO:  # bootout has unloaded it
        start = ("launchctl", "bootstrap", domain, job.plist)
    brew = job.label.removeprefix(_HOMEBREW) if job.label.startswith(_HOMEBREW) else None
    return Classification(
        holder,
        Kind.SERVICE,
        respawn=respawn,
        manager=Manager(
            kind="launchd",
            name=job.label,
            policy=policy,
            stop=(("launchctl", "bootout", job.target),),
            start=(start,),
        ),
        chain=(str(holder.master), job.label, policy, "launchd"),
        evidence=(
            f"launchctl list: {job.label}",
            *((f"{job.plist} brings it back at the next login or start",) if job.plist else ()),
            *((f"Homebrew's own way: brew services stop {brew}",) if brew else ()),
        ),
        reason=f"service {job.label} of launchd ({policy})",
    )


def _suspected(holder: Holder, master: Process, why: str) -> Classification:
    return Classification(
        holder,
        Kind.SERVICE,
        respawn=Respawn.UNKNOWN,
        confidence=Confidence.SUSPECTED,
        chain=(str(master), "launchd"),
        evidence=(f"its parent is launchd, which could not be asked: {why}",),
        reason=f"{master} may be a service of launchd, which could not be asked: {why}",
        commands=(Command(("launchctl", "list"), f"the line of process {master.pid}"),),
    )
