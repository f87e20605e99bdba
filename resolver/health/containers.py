"""Whether a program listens in the container behind a published port, whoever accepts outside."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from resolver.compose.containers import described
from resolver.compose.probe import Inside, look_inside
from resolver.errors import StateChangedError, UltraPortsError
from resolver.host.engine_client import EngineClient

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.compose.containers import ComposeContainer
    from resolver.model import Container, Holder, PortRequest


class Containers:
    """Looks into containers; an engine that does not answer once is not asked again."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._members: dict[str, ComposeContainer | None] = {}
        self._silent: set[str] = set()

    def look(self, request: PortRequest, holders: Iterable[Holder]) -> Inside:
        """What is to be seen behind the port of the containers that publish it.

        Another user's engine could name any process as its container's.
        """
        found = Inside(None)
        theirs = [each.container for each in holders if each.container]
        for container in dict.fromkeys(each for each in theirs if each.engine and not each.foreign):
            member = self._member(container)
            for mapping in member.published if member else ():
                if member and request.meets(mapping.outer):
                    seen = look_inside(mapping.target, member, request.transport)
                    if seen.problem:
                        return seen
                    found = seen if seen.listens else found
        return found

    def _member(self, container: Container) -> ComposeContainer | None:
        if container.id not in self._members:
            self._members[container.id] = self._asked(container)
        return self._members[container.id]

    def _asked(self, container: Container) -> ComposeContainer | None:
        if container.engine in self._silent or container.by_command:
            return None
        try:
            with closing(EngineClient(container.engine, self._timeout, container.uid)) as engine:
                return described(engine.inspect(container.id))
        except StateChangedError:  # it went away in between
            return None
        except UltraPortsError:
            self._silent.add(container.engine)
            return None
