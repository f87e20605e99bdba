"""Whether a port is to be had: it can be bound, or whoever has it is the project's own server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from resolver import verify
from resolver.errors import PortNotPermittedError, ReservedError
from resolver.gather import list_sockets
from resolver.leases.belonging import Belonging
from resolver.leases.scope import ENGINE
from resolver.model import Proof, SocketState
from resolver.reservations.candidates import ephemeral_range
from resolver.reservations.hold import Hold
from resolver.reservations.holders import Holders
from resolver.reservations.terms import ObstacleError, label

if TYPE_CHECKING:
    from resolver.model import PortRequest
    from resolver.reservations.terms import Terms

_PAUSES = (0.002, 0.01, 0.03)  # seconds; a probe of somebody else is over in less than one of them


class Availability:
    """Looks at ports on somebody's terms."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self.holders = Holders(
            terms.scope, terms.project, terms.place, terms.owner, use_docker=terms.use_docker
        )
        self.ephemeral = ephemeral_range()

    def prove(self, request: PortRequest, *, mine: bool) -> tuple[str, Hold | None]:
        """How the port was found to be the service's, and the hold on it where one is wanted.

        The first is empty where somebody has it of whom it cannot be told whether they may.
        """
        terms = self._terms
        if terms.held:
            return self._held(request)
        proof = self.probe(request)
        if proof.free and self.is_published:
            beyond = "what else the engine's host does with it is not seen here"
            return f"no container publishes it; {beyond}", None
        if proof.free and (terms.patient or not proof.lingering):
            return f"it can be bound ({proof.lingering})".removesuffix(" ()"), None
        if mine or terms.beside:
            belonging = self.holders.whose(request)
            if belonging is Belonging.OWN:
                return f"{self.holders.names(request)} holds it, which is the project's own", None
            if belonging is Belonging.UNKNOWN and not terms.beside:
                return "", None
        raise self._obstacle(request, proof)

    def _held(self, request: PortRequest) -> tuple[str, Hold | None]:
        try:
            return "this process keeps it", Hold.take(request, patient=self._terms.patient)
        except PortNotPermittedError as error:
            raise self._obstacle(request, Proof(free=None, reason=str(error))) from error
        except ReservedError as error:
            raise self._obstacle(request, Proof(free=False, reason="it is held")) from error

    def _obstacle(self, request: PortRequest, proof: Proof) -> ObstacleError:
        if proof.free is None:
            return ObstacleError(request, f"cannot be proved free: {proof.reason}", unproved=True)
        hint = f"ultra-ports who {label(request)}"
        if self.is_published:
            return ObstacleError(request, f"is published by {self.holders.names(request)}", hint)
        reason = f"cannot be bound: {proof.reason or proof.lingering}"
        return ObstacleError(request, reason, hint, holders=lambda: self.holders.names(request))

    @property
    def is_published(self) -> bool:
        """Whether the ports are those of an engine's host, which nobody else knows."""
        return self._terms.scope.startswith(f"{ENGINE}:")

    def probe(self, request: PortRequest) -> Proof:
        """Whether the port can be bound; in the scope of an engine, whether nobody publishes it.

        Another `assign` of the same services may be trying it at the same moment: where nothing is
        seen that would stay, it is tried again.
        """
        if self.is_published:
            return Proof(free=not self.holders.names(request))
        proof = verify.prove(request, list_sockets)
        for pause in _PAUSES:
            if proof.free is not False or _stays(request):
                break
            time.sleep(pause)
            proof = verify.prove(request, list_sockets)
        return proof


def _stays(request: PortRequest) -> bool:
    listening = {SocketState.LISTENING, SocketState.CONNECTED}
    return any(each.state in listening for each in list_sockets([request], connections=True))
