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

from resolver.errors import CommandFailedError
from resolver.managed import ManagedService, ask, ask_text, classification
from resolver.model import Classification, Command, Confidence, Kind, Respawn

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


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A job of launchd, or None where launchd is not PID 1 or does not know it as a service."""
    master = holder.master
    init = snapshot.process(master.ancestors[-1]) if master and master.ancestors else None
    if master is None or init is None or init.pid != 1 or init.name != "launchd":
        return None
    if master.name == _AIRPLAY and holder.binding.port in _AIRPLAY_PORTS:
        return _airplay(holder, master)
    uid = os.geteuid() or master.uid or 0  # root asks for another's session
    domain = f"gui/{uid}" if uid else "system"
    try:
        label = _label(master, uid, run)
        said = _description(f"{domain}/{label}", run) if label else ""
    except CommandFailedError as error:
        return _suspected(holder, master, str(error)) if master.parent == init.identity else None
    return _service(holder, label, domain, said) if label else None


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


def _label(master: Process, uid: int, run: CommandRunner) -> str:
    """The service whose process is the holder, or is above it; empty where there is none.

    Raises:
        CommandFailedError: launchctl is missing, or did not answer.
    """
    line = {str(master.pid), *(str(each.pid) for each in master.ancestors if each.pid > 1)}
    asuser = ("asuser", str(uid), "launchctl") if uid != os.geteuid() else ()
    for row in ask_text(run, ("launchctl", *asuser, "list")).splitlines():
        pid, _, rest = row.partition("\t")
        label = rest.partition("\t")[2].strip()
        if pid in line and label and not label.startswith(_OPENED):
            return label
    return ""


def _description(target: str, run: CommandRunner) -> str:
    """What `launchctl print` says of a job; empty where it will not."""
    answer = ask(run, ("launchctl", "print", target))
    return answer.stdout if answer.status == 0 else ""


def _service(holder: Holder, label: str, domain: str, said: str) -> Classification:
    """A job as launchctl(1) describes it."""
    target, plist = f"{domain}/{label}", re.search(_PLIST, said)
    policy, respawn = "KeepAlive unknown", Respawn.UNKNOWN
    properties = re.search(_PROPERTIES, said)
    # with conditions, such as SuccessfulExit
    if "\tsemaphores = {" in said or (properties and "keepalive" in properties[1].lower()):
        policy, respawn = "KeepAlive", Respawn.YES
    elif properties:
        policy, respawn = "no KeepAlive", Respawn.NO
    start = ["launchctl", "kickstart", target]
    if plist and respawn is not Respawn.NO:  # bootout has unloaded it
        start = ["launchctl", "bootstrap", domain, plist[1]]
    brew = label.removeprefix(_HOMEBREW) if label.startswith(_HOMEBREW) else None
    service = ManagedService(
        kind="launchd",
        name=label,
        title=label,
        policy=policy,
        respawn=respawn,
        keeper="launchd",
        stop=(("launchctl", "bootout", target),),
        start=(tuple(start),),
        evidence=(
            f"launchctl list: {label}",
            *((f"{plist[1]} brings it back at the next login or start",) if plist else ()),
            *((f"Homebrew's own way: brew services stop {brew}",) if brew else ()),
        ),
        reason=f"service {label} of launchd ({policy})",
    )
    return classification(holder, [holder.master], service)


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
