"""systemd: system and user services, and sockets that a systemd manager holds for them.

Suspected from the cgroup path (or from a systemd process that holds the socket itself), confirmed
by `systemctl show` (systemctl(1), systemd.service(5), systemd.socket(5)). Being in a unit's cgroup
does not make a process the unit's own: its main process must hold the port, or be above the one
that does.
"""

from __future__ import annotations

import contextlib
import os
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from resolver.errors import CommandFailedError, StateChangedError
from resolver.host import trust
from resolver.host.identity import identify
from resolver.managed import ManagedService, ask_text, classification
from resolver.model import (
    Classification,
    Collateral,
    CollateralKind,
    Command,
    Confidence,
    Degree,
    Kind,
    Pid,
    Respawn,
)
from resolver.programs import SESSION_HOSTS, SYSTEM, known_as
from resolver.unit_facts import (
    command_of,
    dependents_of,
    evidence_of,
    is_transient,
    listens,
    number_of,
    policy_of,
    properties,
    service_in,
    triggers_of,
)
from resolver.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.model import Account, Holder, Process, Snapshot
    from resolver.protocols import CommandRunner

# Units that hold ports for others, or run other people's work
_HOSTS = frozenset(f"{name}.service" for name in SESSION_HOSTS | {"docker", "podman", "ssh"})
_USER_MANAGER = r"/user@(\d+)\.service/"
_PROPERTIES = (
    "Id,MainPID,Restart,TriggeredBy,ActiveState,SubState,NRestarts,FragmentPath,UnitFileState,"
    "ControlGroup,BusName,UpheldBy,BoundBy,RequiredBy,ConsistsOf"
)
# The way into the machine, its network and its engines: whoever stops one may be locked out
_NEVER = (
    r"(?:sshd?|sshd-\w+|dropbear|tailscaled|zerotier-one|wg-quick|openvpn(?:-\w+)?|xrdp(?:-\w+)?"
    r"|cockpit|teleport|amazon-ssm-agent|google-guest-agent|getty|serial-getty|user|user-runtime-dir"
    r"|NetworkManager|networking|dhcpcd|wpa_supplicant|systemd-[\w-]+|dbus|dbus-broker"
    r"|docker|containerd|podman|crio|kubelet|libvirtd?|virtqemud)(?:@.*)?\.(?:service|socket)"
)
_PROGRAM = r"path=(\S+)"


class _Unit(Struct, frozen=True):
    """A unit's name and the user whose manager runs it; `uid` None means the system's."""

    name: str
    uid: int | None

    @property
    def account(self) -> Account | None:
        """The user as whom its manager's commands are run; None: as the caller."""
        return _with_bus(trust.owner_account(self.uid))


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A service, or a socket that waits for one."""
    for process in holder.processes:
        if process.name == "systemd":
            return _socket_unit(holder, process, snapshot, run)
    paths = holder.master.cgroups if holder.master else (holder.cgroup or "",)
    unit = _suspect(paths)
    if unit is None or (holder.master is None and unit.name in _HOSTS):
        return None
    return _service(holder, unit, snapshot, run)


def waiting(run: CommandRunner) -> Iterator[Waiting]:
    """The services that are about to be started again (systemd.service(5)): the system's, ours.

    Nothing is asked where systemd does not run the machine (sd_booted(3)), or no manager of ours.
    """
    own = os.geteuid()
    for uid, folder in ((None, "/run/systemd/system"), (own, f"/run/user/{own}/systemd")):
        for facts in _starting(uid, run) if os.path.isdir(folder) else ():
            if facts.get("SubState", "").startswith("auto-restart"):
                yield _waiting(_Unit(facts.get("Id", "?"), uid), facts, run)


def _starting(uid: int | None, run: CommandRunner) -> list[dict[str, str]]:
    """The facts about each service that a manager is starting; none where it cannot be asked."""
    listing = (*_systemctl(uid), "list-units", "--type=service", "--state=activating", "--plain")
    try:
        lines = ask_text(run, (*listing, "--no-legend", "--full")).splitlines()
        names = [line.split()[0] for line in lines if line.strip() and line[0] not in "-/"]
        words = ("show", *names, "-p", f"{_PROPERTIES},ExecStart,Environment")
        return _query(uid, None, run, words) if names else []
    except CommandFailedError:
        return []


def _waiting(unit: _Unit, facts: dict[str, str], run: CommandRunner) -> Waiting:
    service = _service_of(unit, facts)
    if re.fullmatch(_NEVER, unit.name):  # it is named, and not stopped from here
        service = replace(service, stop=(), start=())
    return Waiting(
        service,
        facts["SubState"],
        command_of(facts),
        tuple(facts.get("Environment", "").split()),
        partial(_journal, unit, run),
    )


def _journal(unit: _Unit, run: CommandRunner) -> str:
    """What it printed itself of late (systemd.journal-fields(7)); empty where that is hidden."""
    match = f"_SYSTEMD_{'UNIT' if unit.uid is None else 'USER_UNIT'}={unit.name}"
    words = ("journalctl", "--quiet", "--no-pager", "-o", "cat", "-n", "30", match)
    try:
        return ask_text(run, words)
    except CommandFailedError:
        return ""


def _suspect(paths: Iterable[str]) -> _Unit | None:
    """The service that a cgroup path belongs to, and whose manager has it."""
    found = service_in(paths)
    if found is None:
        return None
    manager = re.search(_USER_MANAGER, found[1])
    return _Unit(found[0], int(manager[1]) if manager else None)


def _own_units(snapshot: Snapshot) -> set[_Unit | None]:
    """The units that this very command runs in, such as that of a CI agent: never to be stopped."""
    line = filter(None, map(snapshot.process, snapshot.own))
    return {_suspect(process.cgroups) for process in line}


def _service(
    holder: Holder, unit: _Unit, snapshot: Snapshot, run: CommandRunner
) -> Classification | None:
    never, ours = re.fullmatch(_NEVER, unit.name) is not None, unit in _own_units(snapshot)
    try:
        facts = _show(unit, holder.master, run)
    except CommandFailedError as error:
        if ours:
            return None
        return _never(holder, unit) if never else _suspected(holder, unit, str(error))
    if holder.master and not _owns(facts, holder.master, holder, snapshot):
        spared = never or ours or unit.name in _HOSTS
        return None if spared else _left_over(holder, unit, facts)
    if ours:
        return _callers(holder, unit, facts, snapshot)
    if never:
        return _never(holder, unit)
    seen = (f"the socket's cgroup is {holder.cgroup}",) if holder.cgroup else ()
    service = _service_of(unit, facts, *seen)
    service = replace(
        service,
        respawn=Respawn.NO if service.policy == "Restart=no" else Respawn.YES,
        confidence=Confidence.CONFIRMED if holder.master else Confidence.SUSPECTED,
        reason=f"service {unit.name} of systemd ({service.policy})",
        start=() if is_transient(facts) else service.start,  # to start it is no way back
    )
    found = classification(holder, holder.processes[:1], service)
    return replace(found, collateral=tuple(_dependents(unit, facts, holder.master, run)))


def _dependents(
    unit: _Unit, facts: dict[str, str], about: Process | None, run: CommandRunner
) -> Iterator[Collateral]:
    """The active units that systemd stops with this one."""
    names = dependents_of(facts)
    with contextlib.suppress(CommandFailedError):
        words = ("show", *names, "-p", "Id,ActiveState")
        blocks = _query(unit.uid, about, run, words) if names else []
        names = [each["Id"] for each in blocks if each.get("ActiveState") == "active"]
    if names:
        text = f"what depends on {unit.name}: {', '.join(names)}"
        why = "systemd stops them with it (BindsTo=, Requires=, PartOf=)"
        yield Collateral(CollateralKind.SIBLINGS, Degree.REFUSED, text, why)


def _callers(
    holder: Holder, unit: _Unit, facts: dict[str, str], snapshot: Snapshot
) -> Classification | None:
    """What our own unit runs beside us: systemd ends the rest with it (systemd.kill(5))."""
    if holder.master is None or number_of(facts.get("MainPID")) in {e.pid for e in snapshot.own}:
        return None
    return Classification(
        holder,
        Kind.ANCESTOR,
        chain=(str(holder.master), unit.name, "this command runs in it"),
        reason=f"this command runs in {unit.name}, too, and systemd would end both",
        commands=(Command((*_systemctl(unit.uid), "stop", unit.name), "from outside of it"),),
    )


def _owns(facts: dict[str, str], master: Process, holder: Holder, snapshot: Snapshot) -> bool:
    """Whether the unit's main process holds the port, or started the process that does."""
    main = number_of(facts.get("MainPID"))
    if main == 0:
        return False
    if any(process.pid == main for process in holder.processes):
        return True
    above = next((each for each in master.ancestors if each.pid == main), None)
    process = snapshot.process(above)
    return process is not None and not known_as(process, SESSION_HOSTS)


def _left_over(holder: Holder, unit: _Unit, facts: dict[str, str]) -> Classification | None:
    """What an earlier run of a unit left behind, where systemd is about to start the unit again.

    None where the unit does not want to run, or runs beside it, or where the holder's cgroup only
    has the unit's name: who was given a part of the tree may name what is in it (Delegate=).
    """
    control = facts.get("ControlGroup", "")
    paths = holder.master.cgroups if holder.master else ()
    if not control or not any(f"{path}/".startswith(f"{control}/") for path in paths):
        return None
    main = number_of(facts.get("MainPID"))
    waits = facts.get("SubState", "").startswith("auto-restart")
    failing = number_of(facts.get("NRestarts")) > 0 and (main == 0 or _is_older(holder, main))
    restart = facts.get("Restart", "no")
    if restart == "no" or not (waits or failing):
        return None
    seen = f"{holder.master} is left over of an earlier run of {unit.name}"
    service = _service_of(unit, facts, seen)
    why = f"{unit.name} of systemd ({service.policy}) wants this port, and is started again for it"
    rest = (*_systemctl(unit.uid), "kill", unit.name)  # what it left behind, too
    service = replace(service, reason=why, stop=(*service.stop, rest))
    return classification(holder, holder.processes[:1], service)


def _is_older(holder: Holder, main: int) -> bool:
    """Whether the holder was there before the unit's main process that runs now."""
    try:
        now = identify(Pid(main))
    except StateChangedError:
        return True
    master = holder.master
    return master is not None and master.identity.start_time < now.start_time


def _never(holder: Holder, unit: _Unit) -> Classification:
    """A unit that is not stopped from here, whatever was asked."""
    cat = (*_systemctl(unit.uid), "cat", unit.name)
    return Classification(
        holder,
        Kind.PROTECTED,
        chain=(*([str(holder.master)] if holder.master else []), unit.name),
        reason=f"{unit.name} is a way in, the network or an engine, and is never stopped from here",
        commands=(Command(cat, "where its port is configured"),),
    )


def _suspected(holder: Holder, unit: _Unit, why: str) -> Classification:
    service = _managed(
        unit,
        [unit.name],
        confidence=Confidence.SUSPECTED,
        evidence=(f"its cgroup is that of {unit.name}", f"systemd could not be asked: {why}"),
        reason=f"probably service {unit.name} of systemd, which could not be asked: {why}",
    )
    return classification(holder, holder.processes[:1], service)


def _socket_unit(
    holder: Holder, manager: Process, snapshot: Snapshot, run: CommandRunner
) -> Classification | None:
    """The socket unit for which this manager listens, and the services that it starts."""
    uid = None if manager.pid == 1 else manager.uid
    try:
        blocks = _query(uid, manager, run, ("show", "*.socket", "-p", "Id,Listen,Triggers"))
    except CommandFailedError:
        return None
    for block in blocks:
        if holder.binding in listens(block.get("Listen", ""), holder.binding):
            unit = _Unit(block.get("Id", "?"), uid)
            if _leads_in(unit, block, manager, run):
                return _never(holder, unit)
            return _socket_classification(holder, unit, block, snapshot)
    return None


def _leads_in(unit: _Unit, block: dict[str, str], about: Process, run: CommandRunner) -> bool:
    """Whether a socket unit, or what it starts, must not be stopped: by name, or by program."""
    services = block.get("Triggers", "").split()
    if any(re.fullmatch(_NEVER, name) for name in (unit.name, *services)):
        return True
    named = [name.replace("@.", "@x.") for name in services if not name.startswith("-")]
    if not named:
        return False
    try:
        blocks = _query(unit.uid, about, run, ("show", *named, "-p", "ExecStart"))
    except CommandFailedError:
        return True  # whether it is a way in cannot be told
    paths = re.findall(_PROGRAM, " ".join(each.get("ExecStart", "") for each in blocks))
    return not SYSTEM.isdisjoint(path.rpartition("/")[2] for path in paths)


def _socket_classification(
    holder: Holder, unit: _Unit, block: dict[str, str], snapshot: Snapshot
) -> Classification:
    services = [name for name in block.get("Triggers", "").split() if "@." not in name]
    policy = f"socket activation of {' '.join(services) or 'a service for each connection'}"
    active = [
        process
        for process in holder.processes
        if process.name != "systemd" and process.identity not in snapshot.own
    ]
    service = _managed(
        unit,
        [unit.name, *services],
        policy=policy,
        respawn=Respawn.YES,
        evidence=(f"systemctl show: {unit.name} listens on {holder.binding}",),
        reason=f"{unit.name} of systemd ({policy})",
    )
    found = classification(holder, active[:1], service)
    return replace(found, chain=(*map(str, active[:1]), f"{holder.master}", unit.name, policy))


def _service_of(unit: _Unit, facts: dict[str, str], *seen: str) -> ManagedService:
    """A service with what starts it; `seen` is evidence of ours."""
    return _managed(
        unit,
        [*triggers_of(facts), unit.name],
        policy=policy_of(facts),
        respawn=Respawn.YES,
        evidence=(*seen, *evidence_of(facts)),
    )


def _managed(unit: _Unit, names: list[str], **facts: Any) -> ManagedService:  # noqa: ANN401 - its fields
    """What a manager keeps running; `names` are stopped and started together, its own last."""
    command = _systemctl(unit.uid)
    return ManagedService(
        kind="systemd",
        name=names[-1] if unit.name.endswith(".service") else unit.name,
        title=unit.name,
        keeper="systemd" if unit.uid is None else f"systemd of user {unit.uid}",
        stop=((*command, "stop", *names),),
        start=((*command, "start", *names),),
        prefix=() if unit.uid == os.geteuid() else ("sudo",),
        account=unit.account,
        **facts,
    )


def _show(unit: _Unit, about: Process | None, run: CommandRunner) -> dict[str, str]:
    blocks = _query(unit.uid, about, run, ("show", unit.name, "-p", _PROPERTIES))
    if not blocks:
        raise CommandFailedError("systemctl said nothing")
    return blocks[0]


def _query(
    uid: int | None, about: Process | None, run: CommandRunner, words: tuple[str, ...]
) -> list[dict[str, str]]:
    """The answer of `systemctl show`: a block of properties for each unit; `Listen` may repeat."""
    account = None if uid is None else _with_bus(trust.account_of_user(uid, about))
    answer = ask_text(run, (*_systemctl(uid), *words), account)
    return [properties(block) for block in answer.strip().split("\n\n") if block]


def _systemctl(uid: int | None) -> tuple[str, ...]:
    """The command that reaches a manager: the system's, or that of the user who runs it."""
    return ("systemctl",) if uid is None else ("systemctl", "--user")


def _with_bus(account: Account | None) -> Account | None:
    """The same user, with the directory where the manager's socket is (systemctl(1), --user)."""
    if account is None:
        return None
    return replace(account, environment=(("XDG_RUNTIME_DIR", f"/run/user/{account.uid}"),))
