"""What a compose project publishes as services of a project: names with ports of this machine."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from resolver.project.file import default_variable, is_name
from resolver.project.model import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.compose.model import ComposeProject


def services(project: ComposeProject) -> tuple[Service, ...]:
    """A service for each fixed port; further ones of a compose service are `web-9229`.

    A range, of which the engine chooses, is none.
    """
    return tuple(_services(project))


def _services(project: ComposeProject) -> Iterator[Service]:
    origin = project.files[0].name if project.files else "the compose file"
    seen: Counter[str] = Counter()
    for service in project.services:
        for entry in service.fixed:
            if not entry.is_single or not is_name(service.name):
                continue
            (request,) = entry.requests
            name = f"{service.name}-{request.port}" if seen[service.name] else service.name
            seen[service.name] += 1
            yield Service(name, request, default_variable(name), origin, request)
