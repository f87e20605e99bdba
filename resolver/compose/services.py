"""What a compose project publishes as services of a project: names with ports of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.project.file import default_variable, is_name
from resolver.project.model import Service

if TYPE_CHECKING:
    from resolver.compose.model import ComposeProject


def services(project: ComposeProject) -> tuple[Service, ...]:
    """A service for each fixed port; further ones of a compose service are `web-9229`.

    A range, of which the engine chooses, is none.
    """
    origin = project.files[0].name if project.files else "the compose file"
    found: list[Service] = []
    seen: set[str] = set()
    for service in project.services:
        for entry in service.fixed if is_name(service.name) else ():
            if entry.is_single:
                (request,) = entry.requests
                name = f"{service.name}-{request.port}" if service.name in seen else service.name
                seen.add(service.name)
                found.append(Service(name, request, default_variable(name), origin, request))
    return tuple(found)
