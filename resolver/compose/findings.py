"""What a look at a compose project found, as frozen values: nothing here looks or judges."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.model import EngineState, ExitStatus, PortRequest, Report

if TYPE_CHECKING:
    from resolver.compose.model import ComposeProject, Published


class Severity(StrEnum):
    """Whether `docker compose up` would fail, or only surprise."""

    CONFLICT = "conflict"
    WARNING = "warning"


class Code(StrEnum):
    """The kinds of findings; public API, as a part of the JSON."""

    COMPOSE = "compose"  # a warning of compose's own, quoted: a variable is not set, for example
    TWO_SERVICES = "two-services"  # they publish one port
    OVERLAP = "overlap"  # one service publishes a port twice
    REPLICAS = "replicas"  # more containers than ports
    RANGE_FULL = "range-full"  # the other entries leave a range too few ports
    RANGE_OVERLAP = "range-overlap"  # the engine may pick what another entry needs
    RANGE_TAKEN = "range-taken"  # the engine may pick what somebody holds
    NOT_A_PORT = "not-a-port"
    SHARED_NETWORK = "shared-network"  # ports in another container's network
    HOST_NETWORK = "host-network"
    NO_NETWORK = "no-network"
    UNCHECKED = "unchecked"
    EPHEMERAL = "ephemeral"
    PRIVILEGED = "privileged"
    HELD = "held"  # by somebody outside of the project
    ORPHAN = "orphan"  # by a container of the project that `up` does not replace
    MOVED = "moved"  # by a container of the project that `up` replaces first
    NO_SUCH_ADDRESS = "no-such-address"
    UNKNOWN = "unknown"
    PROJECT_NAME = "project-name"  # another directory has containers under it
    PROJECT_MOVED = "project-moved"  # the directory that has is gone


class Status(StrEnum):
    """What is true of one entry of a service's ports."""

    FREE = "free"
    RESERVED = "reserved"  # free, and kept for somebody by a lease
    YOURS = "yours"  # a container of the project has it, and `up` replaces that
    CONFLICT = "conflict"
    HELD = "held"
    ORPHAN = "orphan"
    HIDDEN = "hidden"
    UNKNOWN = "unknown"
    AUTOMATIC = "automatic"
    UNPUBLISHED = "unpublished"
    UNCHECKED = "unchecked"


class Finding(Struct, frozen=True):
    """One line about the project, and the next step where there is one that helps."""

    level: Severity
    code: Code
    message: str
    services: tuple[str, ...] = ()
    requests: tuple[PortRequest, ...] = ()
    hint: str = ""


conflict = partial(Finding, Severity.CONFLICT)
"""A finding because of which `up` would fail."""
warning = partial(Finding, Severity.WARNING)
"""A finding that only surprises."""


class HostLimits(Struct, frozen=True):
    """What decides which ports are a risk here.

    `ephemeral` are the ports that the kernel gives to outgoing connections, and `reserved` those
    among them that it does not. Ports below `first_unprivileged` need a privilege. `engine_uid` is
    the user that the engine runs as; None where that is not known.
    """

    ephemeral: range = range(0)
    reserved: frozenset[int] = frozenset()
    first_unprivileged: int = 0
    engine_uid: int | None = None


class EntryReport(Struct, frozen=True):
    """One entry of a service's ports, and how it stands with it.

    `ports` are its host ports, each with its own status, and `lacking` is how many usable ones are
    missing for the service's containers.
    """

    published: Published
    status: Status
    reason: str = ""
    ports: tuple[tuple[PortRequest, Status], ...] = ()
    lacking: int = 0

    @property
    def requests(self) -> tuple[PortRequest, ...]:
        """Its host ports."""
        return tuple(request for request, _ in self.ports)


class Preflight(Struct, frozen=True):
    """All that is known before `docker compose up`.

    `taken` are the ports that outsiders hold and the project needs; `report` has the diagnosis of
    every fixed port. `engine` is the one that compose talks to; `away` says why its ports are not
    this machine's, or is empty.
    """

    project: ComposeProject
    entries: tuple[EntryReport, ...]
    findings: tuple[Finding, ...]
    report: Report
    engine: EngineState
    taken: tuple[PortRequest, ...] = ()
    away: str = ""
    notes: tuple[str, ...] = ()
    exit_status: ExitStatus = ExitStatus.FREE

    @property
    def unfreeable(self) -> tuple[Finding, ...]:
        """The conflicts that freeing a port would not end."""
        conflicts = (each for each in self.findings if each.level is Severity.CONFLICT)
        return tuple(each for each in conflicts if each.code is not Code.HELD)
