"""Allocations whose store is real, in memory, and whose machine is as a test says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from resolver.leases.belonging import Belongs
from resolver.leases.model import Entry, Lease
from resolver.leases.owner import here
from resolver.leases.stores.ledger import Ledger
from resolver.model import PortNumber, Proof, Transport
from resolver.reservations.allocate import EVERYWHERE, allocate
from resolver.reservations.available import Availability
from resolver.reservations.candidates import Ephemeral
from resolver.reservations.terms import Terms

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from resolver.model import PortRequest
    from resolver.reservations.hold import Hold
    from resolver.reservations.requests import ServiceRequest
    from resolver.reservations.terms import Assigned

WHERE = here({})
EPHEMERAL = Ephemeral(32768, 60999)
TERMS = Terms(WHERE.host_scope, "shop", "/srv/shop", pool=((7100, 7109),))


def lease(service: str, port: int, place: str = TERMS.place, **fields: Any) -> Lease:  # noqa: ANN401
    given: dict[str, Any] = {
        "token": port,
        "scope": TERMS.scope,
        "port": PortNumber(port),
        "transport": Transport.TCP,
        "address": None,
        "service": service,
        "project": TERMS.project,
        "place": place,
        "owner": None,
        "created_at": time.time(),
        "expires_at": 4e9,  # far away
    }
    return Lease(**{**given, **fields})


class _Ports(Availability):
    def __init__(
        self, terms: Terms, held: Collection[int], foreign: Collection[int], ephemeral: Ephemeral
    ) -> None:
        super().__init__(terms)
        self._foreign = foreign
        self.ephemeral = ephemeral
        self._taken = {*held, *foreign}

    def whose(self, request: PortRequest) -> Belongs:
        return Belongs.STRANGER if request.port in self._foreign else Belongs.UNKNOWN

    def names(self, _: PortRequest) -> str:
        return ""

    def probe(self, request: PortRequest) -> Proof:
        taken = request.port in self._taken
        return Proof(free=not taken, reason="in use" if taken else "")

    def _held(self, request: PortRequest) -> tuple[str, Hold | None]:
        proof = self.probe(request)
        if not proof.free:
            raise self._obstacle(request, proof)
        return "held", None


class World:
    """The ports of a machine, and what is reserved and remembered there."""

    def __init__(
        self,
        *,
        held: Collection[int] = (),
        foreign: Collection[int] = (),
        leases: Sequence[Lease] = (),
        remembered: Mapping[str, int] | None = None,
        elsewhere: Mapping[int, str] | None = None,
        ephemeral: Ephemeral = EPHEMERAL,
    ) -> None:
        self.held, self.foreign = {*held}, {*foreign}
        self._ephemeral = ephemeral
        self.store = Ledger(None, WHERE, found=[Entry(each, WHERE.boot, None) for each in leases])
        self.store.remember(TERMS.scope, TERMS.project, TERMS.place, remembered or {})
        other = {f"other:{place}": port for port, place in (elsewhere or {}).items()}
        self.store.remember(TERMS.scope, TERMS.project, EVERYWHERE, other)

    def allocate(self, wanted: Sequence[ServiceRequest], **terms: Any) -> tuple[Assigned, ...]:  # noqa: ANN401
        """With the terms of `TERMS`, but for those that are given."""
        given = replace(TERMS, **terms)
        ports = _Ports(given, self.held, self.foreign, self._ephemeral)
        return allocate(wanted, given, self.store, ports)
