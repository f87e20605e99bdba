"""Who holds a port that cannot be bound, and whether that is the project's own server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from resolver import api, pipeline
from resolver.gather.containers import list_containers
from resolver.gather.engines import chosen_engine
from resolver.leases.belonging import Belonging, belonging, of_project
from resolver.leases.model import Claim
from resolver.leases.owner import here
from resolver.leases.scope import ENGINE
from resolver.model import Holder, SocketState
from resolver.report.holders import holder_name

if TYPE_CHECKING:
    from resolver.leases.model import Owner
    from resolver.model import PortRequest

_ENGINE_SECONDS = 2.0


class Holders:
    """Answers for a project, looked up once for each port, and only where somebody asks."""

    def __init__(
        self, scope: str, project: str, place: str, owner: Owner | None, *, use_docker: bool = True
    ) -> None:
        self._scope = scope
        self._project = project
        self._place = place
        self._owner = owner
        self._use_docker = use_docker
        self._found: dict[PortRequest, tuple[Holder, ...]] = {}

    def whose(self, request: PortRequest) -> Belonging:
        """Whether the project's own server holds the port; of several holders, the worst.

        A process that works in quite another directory is somebody else's. One that works above the
        root, such as in `/`, where daemons live, may be anybody's.
        """
        found = {self._judge(holder, request) for holder in self.holders(request)}
        for verdict in (Belonging.OTHER, Belonging.UNKNOWN):
            if verdict in found:
                return verdict
        return Belonging.OWN if found else Belonging.UNKNOWN

    def names(self, request: PortRequest) -> str:
        """The holders in a few words, such as `node 4711`; "" where none is seen."""
        return ", ".join(dict.fromkeys(map(holder_name, self.holders(request))))

    def holders(self, request: PortRequest) -> tuple[Holder, ...]:
        """Who holds the port; in the scope of an engine, the containers that publish it.

        Raises:
            EngineError: the scope is an engine's, which does not answer.
        """
        if request not in self._found:
            published = self._scope.startswith(f"{ENGINE}:")
            look = self._published if published else self._here
            self._found[request] = look(request)
        return self._found[request]

    def _judge(self, holder: Holder, request: PortRequest) -> Belonging:
        if self._owner:
            claim = Claim(
                self._scope, request.port, request.transport, request.address, "",
                self._project, self._place, self._owner,
            )  # fmt: skip
            if belonging(holder, claim, here(os.environ)) is Belonging.OWN:
                return Belonging.OWN
        return of_project(holder, self._project, self._place)

    def _here(self, request: PortRequest) -> tuple[Holder, ...]:
        policy = api.policy({"use_docker": self._use_docker})
        report = pipeline.who([request], policy, api.effects(None)).ports[0]
        return tuple(each.classification.holder for each in report.holders)

    @staticmethod
    def _published(request: PortRequest) -> tuple[Holder, ...]:
        return tuple(
            Holder(binding, SocketState.PUBLISHED, container=container)
            for container in list_containers(chosen_engine(), _ENGINE_SECONDS, [request])
            for binding in container.published
            if request.meets(binding)
        )
