"""The override file that gives the services of a compose project their assigned ports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from resolver.compose.command import ComposeCommand
from resolver.compose.model import ComposeArguments
from resolver.errors import UsageError
from resolver.reservations.telling.formats import Entry, compose_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.compose.model import ComposeProject, ComposeService, Published
    from resolver.reservations.assigning.assign import Assigned
    from resolver.reservations.assigning.pool import Wish


class Override:
    """Which entry of the project's `ports:` each service is about.

    Args:
        project: as compose reads it now.
        matched: the compose service and the entry for each of our services that has one.
        notes: for the user.
    """

    def __init__(
        self,
        project: ComposeProject,
        matched: dict[str, tuple[ComposeService, Published]],
        notes: tuple[str, ...],
    ) -> None:
        self._project = project
        self._matched = matched
        self.notes = notes

    @classmethod
    def read(cls, files: Sequence[str], wanted: Sequence[Wish]) -> Self:
        """Reads the compose project, and finds the services in it.

        Raises:
            UsageError: there is none, it makes no sense, or it publishes none of these services.
        """
        arguments = ComposeArguments(files=tuple(files))
        return cls.of(ComposeCommand(arguments).project(), wanted)

    @classmethod
    def of(cls, project: ComposeProject, wanted: Sequence[Wish]) -> Self:
        """Finds the services in a project that was read.

        Raises:
            UsageError: it publishes none of these services.
        """
        matched: dict[str, tuple[ComposeService, Published]] = {}
        notes = [*project.warnings, *project.notes]
        for wish in wanted:
            found = _match(wish, project)
            rival = next((name for name, (_, entry) in matched.items() if entry is found[1]), "")
            if isinstance(found, str):
                notes.append(f"{wish.service} is left out: {found}")
            elif rival:
                notes.append(f"{wish.service} is left out: what compose publishes is {rival}'s")
            else:
                matched[wish.service] = found
        if not matched:
            left_out = "; ".join(notes)
            raise UsageError(f"compose project {project.name} publishes none of these: {left_out}")
        return cls(project, matched, tuple(notes))

    def text(self, assigned: Sequence[Assigned]) -> str:
        """The override file."""
        ports = {
            id(entry): str(each.request.port)
            for each in assigned
            if each.wish.service in self._matched
            for entry in [self._matched[each.wish.service][1]]
        }
        services = {service.name: service for service, _ in self._matched.values()}
        return compose_text(
            {
                name: [_entry(entry, ports.get(id(entry))) for entry in service.published]
                for name, service in services.items()
            }
        )


def _match(wish: Wish, project: ComposeProject) -> tuple[ComposeService, Published] | str:
    """The service of that name, else the only one that publishes the port; why not, else."""
    named = next((each for each in project.services if each.name == wish.service), None)
    if named is not None:
        found = _by_port(wish, [named]) or _alone(wish, named)
        return found[0] if found else f"compose service {named.name} does not publish {_port(wish)}"
    found = _by_port(wish, project.services)
    if len(found) == 1:
        return found[0]
    many = "several compose services publish" if found else "no compose service publishes"
    return f"{many} {_port(wish)}, and none has that name"


def _by_port(
    wish: Wish, services: Sequence[ComposeService]
) -> list[tuple[ComposeService, Published]]:
    ports = {each.port for each in wish.options}
    return [
        (service, entry)
        for service in services
        for entry in service.published
        if entry.transport == wish.preferred.transport
        and entry.first is not None
        and not ports.isdisjoint(range(entry.first, (entry.last or entry.first) + 1))
    ]


def _alone(wish: Wish, service: ComposeService) -> list[tuple[ComposeService, Published]]:
    """The only port of a service, whatever it is now: it may be an earlier assignment's."""
    transport = wish.preferred.transport
    entries = [each for each in service.published if each.transport == transport]
    return [(service, entries[0])] if len(entries) == 1 else []


def _port(wish: Wish) -> str:
    return f"{wish.preferred.port}/{wish.preferred.transport}"


def _entry(entry: Published, port: str | None) -> Entry:
    published = port or ""
    if port is None and entry.first is not None:
        more = entry.last is not None and entry.last != entry.first
        published = f"{entry.first}-{entry.last}" if more else str(entry.first)
    return Entry(entry.target, published, entry.address, entry.transport)
