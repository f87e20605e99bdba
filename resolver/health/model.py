"""The health of services, as frozen values. Nothing here asks anybody."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from resolver.leases.belonging import Belongs
    from resolver.model import HolderReport, PortRequest
    from resolver.project.model import Probe


class Reach(StrEnum):
    """How far a port got: each level includes the ones before it."""

    FREE = "free"  # nobody holds it
    HELD = "held"  # somebody has a socket or a mapping; nothing was answered
    ACCEPTS = "accepts"  # a connection was made; docker-proxy accepts before the program listens
    SPEAKS = "speaks"  # it answered in the probe's own terms, whether or not that is a good answer
    UNKNOWN = "unknown"  # it could not be found out; the reason says why


class Target(Struct, frozen=True):
    """What is to be checked: a service of the project, or a port alone (`name` is then empty).

    `project` and `place` are the name and the root directory of the service's project. `untrusted`
    says why a command that the project file names is not run; empty where it may be.
    """

    name: str
    request: PortRequest
    probe: Probe | None = None
    place: str = ""
    project: str = ""
    untrusted: str = ""


class Answer(Struct, frozen=True):
    """What one address said to the probe; a command's answer has no address.

    A command that succeeds counts as SPEAKS, and one that cannot be run as UNKNOWN.

    `good` says whether that is what the probe wants. Times are in seconds; `status` is HTTP's, 0
    without. `level` FREE: nobody listens there; UNKNOWN: no connection was made, nor refused.
    """

    address: str
    level: Reach
    reason: str = ""
    seconds: float = 0.0
    status: int = 0
    good: bool = False

    @property
    def came(self) -> bool:
        """Whether an address accepted a connection, or the command was run."""
        return self.level in {Reach.ACCEPTS, Reach.SPEAKS}


def is_heard(answer: Answer) -> bool:
    """Whether an address accepted a connection."""
    return bool(answer.address) and answer.came


class ServiceHealth(Struct, frozen=True):
    """One target from holder to answer; `healthy` None: that cannot be said, for the `reason`.

    `inside` is what was seen in the network namespace of the container behind a published port:
    True where its program listens, None where that could not be looked at. `lease` says in words
    whose reservation the port is.
    """

    target: Target
    healthy: bool | None
    level: Reach
    belongs: Belongs
    reason: str = ""
    holders: tuple[HolderReport, ...] = ()
    answers: tuple[Answer, ...] = ()
    inside: bool | None = None
    lease: str = ""
    notes: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """In a word."""
        return {True: "healthy", False: "unhealthy", None: "unknown"}[self.healthy]


class HealthReport(Struct, frozen=True):
    """All targets, in the order in which they were asked for; `at` is seconds since the epoch."""

    at: float
    services: tuple[ServiceHealth, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether every target is; what is not known is not healthy."""
        return all(service.healthy for service in self.services)
