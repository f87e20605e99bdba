"""The override file that gives the services of a compose project their assigned ports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from msgspec import Struct

from resolver.compose.command import ComposeCommand
from resolver.compose.model import ComposeArguments
from resolver.errors import UsageError
from resolver.reservations.export.variables import PortsEntry, compose_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.compose.model import ComposeProject, ComposeService, Published
    from resolver.reservations.requests import ServiceRequest
    from resolver.reservations.terms import Assigned


class Override(Struct, frozen=True):
    """Which entry of the project's `ports:` each service is about.

    `matched` has the compose service and the entry for each of our services that has one; `notes`
    are for the user.
    """

    matched: dict[str, tuple[ComposeService, Published]]
    notes: tuple[str, ...]

    @classmethod
    def read(cls, files: Sequence[str], wanted: Sequence[ServiceRequest]) -> Self:
        """Reads the compose project, and finds the services in it.

        Raises:
            UsageError: there is none, it makes no sense, or it publishes none of these services.
        """
        project = ComposeCommand(ComposeArguments(files=tuple(files))).project()
        matched: dict[str, tuple[ComposeService, Published]] = {}
        notes = [*project.warnings, *project.notes]
        for asked in wanted:
            found = _match(asked, project)
            rival = next((name for name, (_, entry) in matched.items() if entry is found[1]), "")
            if isinstance(found, str):
                notes.append(f"{asked.service} is left out: {found}")
            elif rival:
                notes.append(f"{asked.service} is left out: what compose publishes is {rival}'s")
            else:
                matched[asked.service] = found
        if not matched:
            left_out = "; ".join(notes)
            raise UsageError(f"compose project {project.name} publishes none of these: {left_out}")
        return cls(matched, tuple(notes))

    def text(self, assigned: Sequence[Assigned]) -> str:
        """The override file."""
        ports = {
            id(entry): str(each.request.port)
            for each in assigned
            if each.wanted.service in self.matched
            for entry in [self.matched[each.wanted.service][1]]
        }
        services = {service.name: service for service, _ in self.matched.values()}
        return compose_text(
            {
                name: [_entry(entry, ports.get(id(entry))) for entry in service.published]
                for name, service in services.items()
            }
        )


def _match(
    asked: ServiceRequest, project: ComposeProject
) -> tuple[ComposeService, Published] | str:
    """The service of that name, else the only one that publishes the port; why not, else."""
    named = next((each for each in project.services if each.name == asked.service), None)
    if named is not None:
        found = _by_port(asked, [named]) or _alone(asked, named)
        return (
            found[0] if found else f"compose service {named.name} does not publish {_port(asked)}"
        )
    found = _by_port(asked, project.services)
    if len(found) == 1:
        return found[0]
    many = "several compose services publish" if found else "no compose service publishes"
    return f"{many} {_port(asked)}, and none has that name"


def _by_port(
    asked: ServiceRequest, services: Sequence[ComposeService]
) -> list[tuple[ComposeService, Published]]:
    ports = {each.port for each in asked.options}
    return [
        (service, entry)
        for service in services
        for entry in service.published
        if entry.transport == asked.preferred.transport and not ports.isdisjoint(entry.ports)
    ]


def _alone(
    asked: ServiceRequest, service: ComposeService
) -> list[tuple[ComposeService, Published]]:
    """The only port of a service, whatever it is now: it may be an earlier assignment's."""
    transport = asked.preferred.transport
    entries = [each for each in service.published if each.transport == transport]
    return [(service, entries[0])] if len(entries) == 1 else []


def _port(asked: ServiceRequest) -> str:
    return f"{asked.preferred.port}/{asked.preferred.transport}"


def _entry(entry: Published, port: str | None) -> PortsEntry:
    ends = dict.fromkeys((*entry.ports[:1], *entry.ports[-1:]))
    published = port or "-".join(map(str, ends))
    return PortsEntry(entry.target, published, entry.address, entry.transport)
