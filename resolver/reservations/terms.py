"""On what terms ports are allocated, what comes of it, and what was in the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import ReservedError
from resolver.leases.model import Claim, Lease, Owner
from resolver.settings import RESERVATION_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from resolver.model import PortRequest
    from resolver.reservations.candidates import Source
    from resolver.reservations.hold import Hold
    from resolver.reservations.requests import ServiceRequest


class Terms(Struct, frozen=True):
    """For whom ports are allocated, and on what terms.

    Attributes:
        place: the root of the project, absolute.
        spoken_for: ports that its services outside of this call want.
        ttl_seconds: None: as long as the owner lives.
        owner: None: the leases end with their time.
        held: the ports are kept in the kernel, so nobody may have them, not even the project's own
            server.
        strict: only what is asked for will do.
        reassign: what a service was assigned before is no reason to give it that port again.
        beside: the leases stand beside what the services have, and the project's own server may
            have a port that was not leased before.
        patient: what closed connections linger on will do.
        remembered: the ports are remembered as the last ones of their services.
        dry_run: nothing is leased, held or remembered.
    """

    scope: str
    project: str
    place: str
    pool: tuple[tuple[int, int], ...] = ()
    spoken_for: Collection[int] = frozenset()
    ttl_seconds: float | None = RESERVATION_SECONDS
    owner: Owner | None = None
    held: bool = False
    strict: bool = False
    reassign: bool = False
    beside: bool = False
    patient: bool = True
    remembered: bool = True
    dry_run: bool = False
    use_docker: bool = True

    def claim(self, request: PortRequest, service: str, ttl_seconds: float | None) -> Claim:
        """What is asked of the store for one endpoint."""
        return Claim(
            scope=self.scope,
            port=request.port,
            transport=request.transport,
            address=request.address,
            service=service,
            project=self.project,
            place=self.place,
            owner=self.owner,
            ttl_seconds=ttl_seconds,
            held=self.held,
        )


class Assigned(Struct, frozen=True):
    """The port of one service.

    Attributes:
        previous: the port that it had last, None where it had none.
        lease: None in a dry run.
        earlier: the lease that it renewed.
        hold: where the terms say `held`.
        proof: how the port was found to be the service's.
        notes: what is worth saying of it, empty where it has what it asked for.
    """

    wanted: ServiceRequest
    request: PortRequest
    source: Source
    previous: int | None = None
    lease: Lease | None = None
    earlier: Lease | None = None
    hold: Hold | None = None
    proof: str = ""
    notes: tuple[str, ...] = ()


class ObstacleError(ReservedError):
    """One port is not to be had; the message is the rest of a sentence that begins with it.

    Args:
        request: the port.
        message: why; or what finds the words, for whoever wants to read them: to look for holders
            takes its time.
        hint: the next command to run.
        unproved: it could not be found out whether somebody has it.
    """

    def __init__(
        self,
        request: PortRequest,
        message: str | Callable[[], str],
        hint: str = "",
        *,
        unproved: bool = False,
    ) -> None:
        super().__init__("is not to be had", hint)
        self.request = request
        self.unproved = unproved
        self._message = message

    def __str__(self) -> str:
        return self._message if isinstance(self._message, str) else self._message()


class KeptError(ObstacleError):
    """A strict wish that is not what the service was assigned: `kept` is that."""

    def __init__(self, request: PortRequest, kept: PortRequest) -> None:
        moves = f"is not what it was assigned, {kept.typed}: --reassign moves it"
        super().__init__(request, moves)
        self.kept = kept


class UnmetError(ReservedError):
    """Services that get nothing, each with all that was in the way."""

    def __init__(self, unmet: Sequence[tuple[ServiceRequest, tuple[ObstacleError, ...]]]) -> None:
        super().__init__("no port is left")
        self.unmet = unmet

    def __str__(self) -> str:
        return "; ".join(
            f"{wanted.service}: {obstacles[0].request.typed} {obstacles[0]}"
            if obstacles
            else f"no port is left for {wanted.service}"
            for wanted, obstacles in self.unmet
        )
