"""Reserves one port for one service: takes the lease, and proves that the port is to be had.

The lease comes first, so that of all who want a port only one tries to bind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from resolver import api
from resolver.errors import PortNotPermittedError, ReservedError
from resolver.gather import list_sockets
from resolver.gather.containers import list_containers
from resolver.gather.engines import chosen_engine
from resolver.leases import rules
from resolver.leases.belonging import Belonging, belonging
from resolver.leases.model import Claim
from resolver.leases.remarks import name
from resolver.leases.scope import ENGINE
from resolver.model import Holder, SocketState
from resolver.reservations.holding.hold import Hold
from resolver.settings import RESERVATION_SECONDS
from resolver.verify import prove

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.leases.model import Lease, Owner
    from resolver.leases.owner import Here
    from resolver.model import PortRequest
    from resolver.protocols import LeaseStore

_ENGINE_SECONDS = 2.0


class Order(Struct, frozen=True):
    """What is wanted: one of `requests`, the first that is to be had.

    `place` is the project's root. `ttl_seconds` None: as long as the owner lives, or 8 hours where
    nobody does, or nobody could tell. `held`: keep the port in the kernel.
    """

    service: str
    requests: tuple[PortRequest, ...]
    scope: str
    project: str
    place: str
    owner: Owner | None = None
    ttl_seconds: float | None = None
    held: bool = False


class Reserved(Struct, frozen=True):
    """A lease, how the port was found to be the caller's, and the hold where one was wanted.

    `earlier` is the lease that it renewed.
    """

    lease: Lease
    because: str
    hold: Hold | None = None
    earlier: Lease | None = None


def reserve(order: Order, store: LeaseStore, where: Here) -> Reserved:
    """Reserves the first of the ports that is to be had.

    Raises:
        ReservedError: somebody else has them, or has reserved them.
        PortNotPermittedError: this user may not bind the port, so it cannot be proved free.
        EngineError: the scope is an engine's, which does not answer.
        StoreError: the store cannot be reached or written.
    """
    if len(order.requests) == 1:
        return _one(order, order.requests[0], store, where)
    reasons = []
    for request in _preferred(order, store):
        try:
            return _one(order, request, store, where)
        except (ReservedError, PortNotPermittedError) as error:
            reasons.append(str(error))
    span = f"{order.requests[0].port}-{order.requests[-1].port}"
    raise ReservedError(f"none of {span} is left: {reasons[0]}, and {len(reasons) - 1} more")


def _preferred(order: Order, store: LeaseStore) -> Iterator[PortRequest]:
    """The ports that the service has or had, then those that nobody has reserved, then the others.

    What is reserved is looked up again after each port that was not to be had: among many who
    reserve at once, trying them one by one would lose to each of the others in turn.
    """
    had = [lease.port for lease in store.leases(order.scope) if _is_ours(lease, order)]
    remembered = store.recall(order.scope, order.project, order.place).get(order.service)
    own = [*had, *([remembered] if remembered else [])]
    yield from (request for request in order.requests if request.port in own)
    left = [request for request in order.requests if request.port not in own]
    while left:
        taken = {lease.port for lease in store.leases(order.scope) if not _is_ours(lease, order)}
        found = next((request for request in left if request.port not in taken), left[0])
        left.remove(found)
        yield found


def _is_ours(lease: Lease, order: Order) -> bool:
    ours = (order.project, order.place, order.service)
    return (lease.project, lease.place, lease.service) == ours


def _one(order: Order, request: PortRequest, store: LeaseStore, where: Here) -> Reserved:
    earlier = _earlier(order, request, store)
    claim = _claim(order, request, where)
    (lease,) = store.acquire([claim])
    try:
        reserved = _proved(order, claim, lease, where)
    except BaseException:
        _undo(lease, earlier, store)
        raise
    store.remember(order.scope, order.project, order.place, {order.service: request.port})
    return replace(reserved, earlier=earlier)


def undo(reserved: Reserved, store: LeaseStore) -> None:
    """As if it had not been reserved: for a caller that cannot tell anybody of it."""
    _undo(reserved.lease, reserved.earlier, store)


def _claim(order: Order, request: PortRequest, where: Here) -> Claim:
    ttl = order.ttl_seconds
    nobody_renews = order.owner is None or rules.bounded(order.scope, where)
    if ttl is None and nobody_renews and not order.held:
        ttl = RESERVATION_SECONDS
    return Claim(
        order.scope, request.port, request.transport, request.address, order.service,
        order.project, order.place, order.owner, ttl, order.held,
    )  # fmt: skip


def _earlier(order: Order, request: PortRequest, store: LeaseStore) -> Lease | None:
    """The lease that this order would renew."""
    return next(
        (
            lease
            for lease in store.leases(order.scope)
            if _is_ours(lease, order) and (lease.request, lease.owner) == (request, order.owner)
        ),
        None,
    )


def _undo(lease: Lease, earlier: Lease | None, store: LeaseStore) -> None:
    """Ends the lease; one that was there before gets back the time that it had."""
    if earlier is None:
        store.release([lease])
    elif earlier.expires_at is not None and lease.expires_at is not None:
        lasts = lease.expires_at - lease.created_at
        store.renew(lease, max(0.0, lasts - (lease.expires_at - earlier.expires_at)))


def _proved(order: Order, claim: Claim, lease: Lease, where: Here) -> Reserved:
    if order.scope.startswith(f"{ENGINE}:"):
        return Reserved(lease, _published_by(claim, where))
    if order.held:
        hold = Hold.take(claim.request)
        return Reserved(lease, "this process keeps it", hold)
    return Reserved(lease, _bindable(claim, where))


def _bindable(claim: Claim, where: Here) -> str:
    """How the port was found to be the claim's: it can be bound, or its own server has it."""
    proof = prove(claim.request, list_sockets)
    if proof.free:
        return f"it can be bound ({proof.lingering})" if proof.lingering else "it can be bound"
    if proof.free is None:
        raise PortNotPermittedError(f"{claim.request} cannot be proved free: {proof.reason}")
    return _held(claim, where)


def _held(claim: Claim, where: Here) -> str:
    found = [each.classification.holder for each in api.who(str(claim.request)).ports[0].holders]
    names = ", ".join(dict.fromkeys(map(name, found))) or "somebody who cannot be seen"
    project = replace(claim, owner=None)  # its project's server is as good as the owner's own
    if found and all(
        Belonging.OWN in {belonging(each, claim, where), belonging(each, project, where)}
        for each in found
    ):
        return f"{names} holds it, which is the project's own"
    raise ReservedError(f"{claim.request} is held by {names}", f"ultra-ports who {_typed(claim)}")


def _published_by(claim: Claim, where: Here) -> str:
    """How the engine's host port was found to be the claim's, as far as the engine knows."""
    found = [
        Holder(binding, SocketState.PUBLISHED, container=container)
        for container in list_containers(chosen_engine(), _ENGINE_SECONDS, [claim.request])
        for binding in container.published
        if claim.request.meets(binding)
    ]
    strangers = [each for each in found if belonging(each, claim, where) is not Belonging.OWN]
    if strangers and strangers[0].container:
        raise ReservedError(f"{claim.request} is published by {strangers[0].container.name}")
    if found:
        return "the project's own container publishes it"
    return "no container publishes it; what else the engine's host does with it is not seen here"


def _typed(claim: Claim) -> str:
    return str(claim.request).removesuffix("/tcp")
