"""Containers that an agent put there, and puts back: known by the labels that each of them leaves.

Whoever starts a container chooses its labels: nothing of this is confirmed, nor ever run, but for a
unit of systemd that says the same. Sources:
podman-systemd.unit(5); Home Assistant's supervisor/docker/const.py and `ha -h`; "Amazon ECS
container labels"; balena-supervisor's src/compose/service.ts; Portainer's /data/compose.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import CommandFailedError
from resolver.host.processes import conmon_of
from resolver.managed import ManagedService, ask_text, classification
from resolver.model import Classification, Command, Confidence, Kind, Respawn
from resolver.model.compose_labels import PROJECT, WORKING_DIR
from resolver.unit_facts import policy_of, properties, triggers_of

if TYPE_CHECKING:
    from resolver.model import Container, Holder, Snapshot
    from resolver.protocols import CommandRunner

_UNIT = "PODMAN_SYSTEMD_UNIT"
_PROPERTIES = "MainPID,Restart,TriggeredBy,BusName,UpheldBy"
_UNKNOWN = "restart policy unknown"
_MAY_COME_BACK = (_UNKNOWN, "Restart=no")  # at the next boot, or when somebody starts the unit
_NAME = r"[A-Za-z0-9][A-Za-z0-9@:_./\\-]*\Z"


class _Agent(Struct, frozen=True):
    """A row: the label that tells an agent, and the line that stops one of its containers.

    `command` has `{value}` for the label's value.
    """

    name: str
    label: str
    command: tuple[str, ...]
    comment: str = ""


_AGENTS = (
    _Agent(
        "Home Assistant",
        "io.hass.type",
        ("ha", "core", "stop"),
        comment="the same for an app: ha apps stop SLUG (older versions: ha addons)",
    ),
    _Agent("Home Assistant", "supervisor_managed", ("ha", "apps"), comment="lists what it runs"),
    _Agent(
        "Amazon ECS",
        "com.amazonaws.ecs.task-arn",
        ("aws", "ecs", "stop-task", "--task", "{value}"),
        comment="its service starts another one: aws ecs update-service --desired-count 0",
    ),
    _Agent(
        "balena",
        "io.balena.service-name",
        ("balena", "device", "stop-service", "UUID", "{value}"),
        comment="the device's UUID is in the dashboard",
    ),
    _Agent(
        "Azure IoT Edge",
        "net.azure-devices.edge.owner",
        ("iotedge", "list"),
        comment="modules are removed in the deployment",
    ),
)
_PORTAINER = _Agent("Portainer", PROJECT, ())


def classify(holder: Holder, _snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A container of an agent that would put it back."""
    container = holder.container
    if container is None or (container.foreign and not container.by_command):
        return None
    unit = container.label(_UNIT) or ""
    if unit.endswith(".service") and re.match(_NAME, unit):
        return _quadlet(holder, container, unit, run)
    for agent in _AGENTS:
        value = container.label(agent.label)
        if value is not None:
            return _advised(holder, container, agent, value)
    if (container.label(WORKING_DIR) or "").startswith("/data/compose/"):
        stack = container.label(_PORTAINER.label) or "?"
        return _advised(holder, container, _PORTAINER, stack)
    return None


def _advised(holder: Holder, container: Container, agent: _Agent, value: str) -> Classification:
    shown = value if re.match(_NAME, value) else "…"
    words = tuple(word.format(value=shown) for word in agent.command)
    stop = Command(container.command("stop"), f"until {agent.name} acts again")
    advice = (Command(words, agent.comment), stop) if words else (stop,)
    return Classification(
        holder,
        Kind.SERVICE,
        respawn=Respawn.UNKNOWN,
        confidence=Confidence.SUSPECTED,
        chain=(f"container {container.name}", agent.name),
        evidence=(f"its label {agent.label} says {value}",),
        reason=f"container {container.name} of {agent.name}, which may start it again",
        commands=advice,
    )


def _quadlet(holder: Holder, container: Container, unit: str, run: CommandRunner) -> Classification:
    """The unit that keeps a container: confirmed where its main process is the container's conmon.

    So it is with a quadlet's (podman-systemd.unit(5)) and those of podman-generate-systemd(1).
    """
    rootless = bool(container.uid)
    systemctl = ("systemctl", "--user") if rootless else ("systemctl",)
    facts, unsure = _confirmed(container, (*systemctl, "show", unit, "-p", _PROPERTIES), run)
    policy = policy_of(facts) if facts else _UNKNOWN
    units = (*triggers_of(facts), unit)
    service = ManagedService(
        kind="systemd",
        name=unit,
        title=unit,
        policy=policy,
        respawn=Respawn.UNKNOWN if policy in _MAY_COME_BACK else Respawn.YES,
        keeper="systemd",
        evidence=(f"its label {_UNIT} says {unit}", unsure or f"its conmon is {unit}'s MainPID"),
        confidence=Confidence.CONFIRMED if facts else Confidence.SUSPECTED,
        stop=((*systemctl, "stop", *units),),
        start=((*systemctl, "start", *units),),
        prefix=() if rootless else ("sudo",),
        account=container.account,
        patience_seconds=float(container.stop_timeout_seconds),
        reason=f"{container.title} of {unit} of systemd ({policy})",
    )
    return classification(holder, (container.title,), service)


def _confirmed(
    container: Container, argv: tuple[str, ...], run: CommandRunner
) -> tuple[dict[str, str], str]:
    """What systemd says of the unit; empty, and why, where it may not be the container's."""
    try:
        facts = properties(ask_text(run, argv, container.account))
    except CommandFailedError as error:
        return {}, f"systemd could not be asked: {error}"
    if facts.get("MainPID") == str(conmon_of(container)):
        return facts, ""
    return {}, f"its conmon is not the unit's MainPID, which is {facts.get('MainPID') or 'unknown'}"
