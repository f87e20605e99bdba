"""Assignment: chooses ports for services, takes the leases on them, and tells why it is these.

What is chosen is `pool.py`'s business. Here the state is looked up, and where somebody else was
quicker between choosing and taking, both are done again.
"""

from __future__ import annotations

import os.path
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import ReservedError, StoreError
from resolver.gather import list_sockets
from resolver.leases.belonging import Belonging
from resolver.leases.model import Claim
from resolver.leases.scope import ENGINE
from resolver.model import SocketState
from resolver.report.lease import whose
from resolver.reservations.assigning.ephemeral import ephemeral_range
from resolver.reservations.assigning.pool import Kind, State, UnmetError, choose, superseded
from resolver.reservations.assigning.search import Source
from resolver.reservations.assigning.whose import Holders
from resolver.settings import RESERVATION_SECONDS
from resolver.verify import prove

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from resolver.leases.model import Lease, Owner
    from resolver.model import PortRequest
    from resolver.protocols import LeaseStore
    from resolver.reservations.assigning.pool import Choice, Obstacle, Wish

ATTEMPTS = 32  # each lost one means that somebody else got on
EVERYWHERE = "*"  # the place under which a project remembers what each of its roots got
_PAUSES = (0.002, 0.01, 0.03)  # seconds; a probe of somebody else is over in less than one of them


class Terms(Struct, frozen=True):
    """For whom ports are assigned, and on what terms.

    `place` is the root of the project, absolute. `spoken_for` are ports that its services outside
    of this call wish for. `owner` None: the leases end with their time. `held`: the caller is about
    to keep the ports in the kernel, so nobody may have them, not even the project's own server.
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
    dry_run: bool = False
    use_docker: bool = True


class Assigned(Struct, frozen=True):
    """The port of one service.

    `previous` is the port that it had last, None where it had none. `lease` is None in a dry run.
    `said` is what is worth saying of it, empty where it has what it wished for.
    """

    wish: Wish
    request: PortRequest
    source: Source
    previous: int | None = None
    lease: Lease | None = None
    said: tuple[str, ...] = ()


def assign(wishes: Sequence[Wish], terms: Terms, store: LeaseStore) -> tuple[Assigned, ...]:
    """A port for each wish, in their order, each with a lease of its own; all of them or none.

    The project's earlier leases on these endpoints are renewed; those that an earlier call gave to
    the same services on other ports end.

    Args:
        wishes: at least one; services and variables are distinct.
        terms: for whom.
        store: the ledger.

    Raises:
        ReservedError: no port is left, or with `strict` a wish cannot be met; nothing was taken.
        StoreError: the ledger cannot be read or written.
        UsageError: an address is none of this machine's.
    """
    holders = Holders(terms.scope, terms.project, terms.place, use_docker=terms.use_docker)
    lost: ReservedError | None = None
    for _ in range(ATTEMPTS):
        state = _state(terms, store, holders)
        try:
            choices = choose(wishes, state)
        except UnmetError as error:
            raise ReservedError(_unmet(error, holders)) from error
        try:
            leases = {} if terms.dry_run else _take(choices, state, terms, store)
        except ReservedError as error:
            lost = error
            continue
        if not terms.dry_run:
            _remember(choices, terms, store)
        return tuple(_assigned(choice, leases, state, holders) for choice in choices)
    raise ReservedError(f"others were quicker {ATTEMPTS} times: {lost}") from lost


def _state(terms: Terms, store: LeaseStore, holders: Holders) -> State:
    troubles: dict[PortRequest, str] = {}

    def trouble(request: PortRequest) -> str:
        if request not in troubles:
            troubles[request] = _trouble(request, terms, holders)
        return troubles[request]

    return State(
        project=terms.project,
        place=terms.place,
        trouble=trouble,
        foreign=lambda request: holders.whose(request) is Belonging.OTHER,
        leases=store.leases(terms.scope),
        remembered=store.recall(terms.scope, terms.project, terms.place),
        elsewhere=_elsewhere(terms, store),
        spoken_for=terms.spoken_for,
        pool=terms.pool,
        ephemeral=ephemeral_range(),
        owner=terms.owner,
        strict=terms.strict,
        unused=terms.held,
    )


def _elsewhere(terms: Terms, store: LeaseStore) -> dict[int, str]:
    """The ports that other roots of the project got last, as long as these exist."""
    found = {}
    for key, port in store.recall(terms.scope, terms.project, EVERYWHERE).items():
        place = key.partition(":")[2]
        if place != terms.place and os.path.isdir(place):  # noqa: PTH112 - as the store has it
            found[port] = place
    return found


def _trouble(request: PortRequest, terms: Terms, holders: Holders) -> str:
    if terms.scope.startswith(f"{ENGINE}:"):  # only the engine knows the ports of its host
        return holders.names(request) and "published by a container"
    return bind_trouble(request)


def bind_trouble(request: PortRequest) -> str:
    """Why the port cannot be bound; "" where it can.

    Another `assign` may be trying the same port at the same moment: where nothing is seen that
    would stay, it is tried again.

    Raises:
        UsageError: the address is none of this machine's.
    """
    proof = prove(request, list_sockets)
    for pause in _PAUSES:
        if proof.free is not False or _stays(request):
            break
        time.sleep(pause)
        proof = prove(request, list_sockets)
    return "" if proof.free else proof.reason


def _stays(request: PortRequest) -> bool:
    listening = {SocketState.LISTENING, SocketState.CONNECTED}
    return any(each.state in listening for each in list_sockets([request], connections=True))


def _take(
    choices: Sequence[Choice], state: State, terms: Terms, store: LeaseStore
) -> dict[PortRequest, Lease]:
    """Takes the leases on all choices, in the place of those that the services had before."""
    earlier = superseded(choices, state) if terms.owner is None else ()
    if earlier:
        store.release(earlier)
    try:
        granted = store.acquire([_claim(choice, terms) for choice in choices])
    except BaseException:
        _give_back(earlier, store)
        raise
    return {lease.request: lease for lease in granted}


def _give_back(earlier: Sequence[Lease], store: LeaseStore) -> None:
    """Leases the ports again that the services had, for the time that was left to them."""
    for lease in earlier:
        left = None if lease.expires_at is None else max(1.0, lease.expires_at - time.time())
        with suppress(ReservedError, StoreError):
            store.acquire([_again(lease, left)])


def _again(lease: Lease, seconds: float | None) -> Claim:
    return Claim(
        lease.scope, lease.port, lease.transport, lease.address, lease.service,
        lease.project, lease.place, lease.owner, seconds, lease.held,
    )  # fmt: skip


def _claim(choice: Choice, terms: Terms) -> Claim:
    request = choice.request
    return Claim(
        scope=terms.scope,
        port=request.port,
        transport=request.transport,
        address=request.address,
        service=choice.wish.service,
        project=terms.project,
        place=terms.place,
        owner=terms.owner,
        ttl_seconds=terms.ttl_seconds,
        held=terms.held,
    )


def _remember(choices: Sequence[Choice], terms: Terms, store: LeaseStore) -> None:
    now = {choice.wish.service: int(choice.request.port) for choice in choices}
    store.remember(terms.scope, terms.project, terms.place, now)
    everywhere = {f"{service}:{terms.place}": port for service, port in now.items()}
    store.remember(terms.scope, terms.project, EVERYWHERE, everywhere)


def _assigned(
    choice: Choice, leases: dict[PortRequest, Lease], state: State, holders: Holders
) -> Assigned:
    wish, request = choice.wish, choice.request
    previous = state.remembered.get(wish.service)
    said = tuple(filter(None, (_why(choice, previous, holders), _doubt(choice, state, holders))))
    return Assigned(wish, request, choice.source, previous, leases.get(request), said)


def _why(choice: Choice, previous: int | None, holders: Holders) -> str:
    """What changed, and why; "" where the service has what it wished for, as ever."""
    service, port = choice.wish.service, choice.request.port
    wanted = label(choice.wish.preferred)
    if choice.obstacle is not None:
        what = explain(choice.obstacle, holders)
        return f"{service}: {wanted} {what} → {port} ({choice.source})"
    if choice.source is Source.RUNNING:
        return f"{service}: {wanted} is free, but {service} runs on {port}, and keeps it until then"
    if previous is not None and previous != port:
        return f"{service}: {previous} → {wanted} (preferred, and free)"
    return ""


def _doubt(choice: Choice, state: State, holders: Holders) -> str:
    """Said of a port that is leased to the project, and held by who knows whom."""
    request = choice.request
    leased = choice.lease is not None and choice.lease.owner is None
    if not leased or not state.trouble(request) or holders.whose(request) is Belonging.OWN:
        return ""
    who = holders.names(request) or "somebody"
    return (
        f"{choice.wish.service}: {label(request)} is reserved for this project, and held by {who}; "
        "whether that is its own server cannot be told"
    )


def _unmet(error: UnmetError, holders: Holders) -> str:
    return "; ".join(
        f"{wish.service}: {label(each.request)} {explain(each, holders)}"
        for wish, each in error.obstacles
    )


def explain(obstacle: Obstacle, holders: Holders) -> str:
    """The obstacle as the rest of a sentence that begins with the port."""
    if obstacle.kind is Kind.SIBLING:
        return f"is {obstacle.service}'s"
    if obstacle.kind is Kind.ELSEWHERE:
        return f"is this project's in {obstacle.place}"
    if obstacle.kind is Kind.RESERVED and obstacle.lease is not None:
        return f"is reserved for {whose(obstacle.lease)}"
    names = holders.names(obstacle.request)
    if names:
        return f"is held by {names}"
    return f"cannot be bound: {obstacle.reason}"


def label(request: PortRequest) -> str:
    """`8085`, `8085/udp`, `127.0.0.1:8085`: as it can be typed."""
    return str(request).removesuffix("/tcp")
