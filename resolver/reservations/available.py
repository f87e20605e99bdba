"""Whether a port is to be had: it can be bound, or whoever has it is the project's own server."""

from __future__ import annotations

import os
import time
from functools import cached_property

from resolver import api, pipeline, verify
from resolver.errors import PortNotPermittedError, ReservedError
from resolver.gather import list_sockets
from resolver.gather.containers import list_containers
from resolver.gather.engines import chosen_engine
from resolver.leases.belonging import Belongs, of_owner, of_project, worst
from resolver.leases.owner import here
from resolver.leases.scope import ENGINE
from resolver.model import Holder, PortRequest, Proof, SocketState
from resolver.report.holders import holder_name
from resolver.reservations.candidates import Ephemeral, ephemeral_range
from resolver.reservations.hold import Hold
from resolver.reservations.terms import ObstacleError, Terms

_ENGINE_SECONDS = 2.0
_PAUSES = (0.002, 0.01, 0.03)  # seconds; a probe of somebody else is over in less than one of them


class Availability:
    """Looks at ports on somebody's terms; who holds them is looked up once, where that matters."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._of_engine = terms.scope.startswith(f"{ENGINE}:")  # whose ports nobody else knows
        self._found: dict[PortRequest, tuple[Holder, ...]] = {}

    @cached_property
    def ephemeral(self) -> Ephemeral:
        """What the kernel gives away by itself."""
        return ephemeral_range()

    def prove(self, request: PortRequest, *, mine: bool) -> tuple[str, Hold | None]:
        """How the port was found to be the service's, and the hold on it where one is wanted.

        The first is empty where somebody has it of whom it cannot be told whether they may.
        """
        terms = self._terms
        if terms.held:
            return self._held(request)
        proof = self.probe(request)
        if proof.free and self._of_engine:
            beyond = "what else the engine's host does with it is not seen here"
            return f"no container publishes it; {beyond}", None
        if proof.free and (terms.patient or not proof.lingering):
            return f"free, checked by binding it ({proof.lingering})".removesuffix(" ()"), None
        if mine or terms.beside:
            belonging = self.whose(request)
            if belonging is Belongs.OWN:
                return f"{self.names(request)} holds it, which is the project's own", None
            if belonging is Belongs.UNKNOWN and not terms.beside:
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
        hint = f"ultra-ports who {request.typed}"
        if self._of_engine:
            return ObstacleError(request, f"is published by {self.names(request)}", hint)
        return ObstacleError(request, lambda: self._held_by(request, proof), hint)

    def _held_by(self, request: PortRequest, proof: Proof) -> str:
        if names := self.names(request):
            return f"is held by {names}"
        return f"cannot be bound: {proof.reason or proof.lingering}"

    def probe(self, request: PortRequest) -> Proof:
        """Whether the port can be bound; in the scope of an engine, whether nobody publishes it.

        Another `assign` of the same services may be trying it at the same moment: where nothing is
        seen that would stay, it is tried again.
        """
        if self._of_engine:
            return Proof(free=not self.names(request))
        proof = verify.prove(request, list_sockets)
        for pause in _PAUSES:
            if proof.free is not False or _stays(request):
                break
            time.sleep(pause)
            proof = verify.prove(request, list_sockets)
        return proof

    def whose(self, request: PortRequest) -> Belongs:
        """Whether the project's own server holds the port; of several holders, the worst.

        A process that works in quite another directory is somebody else's. One that works above the
        root, such as in `/`, where daemons live, may be anybody's.
        """
        return worst(map(self._judge, self._holders(request)), Belongs.UNKNOWN)

    def names(self, request: PortRequest) -> str:
        """The holders in a few words, such as `node 4711`; "" where none is seen."""
        return ", ".join(dict.fromkeys(map(holder_name, self._holders(request))))

    def _holders(self, request: PortRequest) -> tuple[Holder, ...]:
        """Who holds the port; in the scope of an engine, the containers that publish it.

        Raises:
            EngineError: the scope is an engine's, which does not answer.
        """
        if request not in self._found:
            find = _published if self._of_engine else self._here
            self._found[request] = find(request)
        return self._found[request]

    def _judge(self, holder: Holder) -> Belongs:
        terms = self._terms
        if terms.owner and holder.container is None:
            found = of_owner(holder, terms.owner, here(os.environ))
            if found is Belongs.OWN:
                return found
        return of_project(holder, terms.project, terms.place)

    def _here(self, request: PortRequest) -> tuple[Holder, ...]:
        policy = api.policy({"use_docker": self._terms.use_docker})
        report = pipeline.who([request], policy, api.effects(None)).ports[0]
        return tuple(each.holder for each in report.holders)


def _published(request: PortRequest) -> tuple[Holder, ...]:
    return tuple(
        Holder(binding, SocketState.PUBLISHED, container=container)
        for container in list_containers(chosen_engine(), _ENGINE_SECONDS, [request])
        for binding in container.published
        if request.meets(binding)
    )


def _stays(request: PortRequest) -> bool:
    listening = {SocketState.LISTENING, SocketState.CONNECTED}
    return any(each.state in listening for each in list_sockets([request], connections=True))
