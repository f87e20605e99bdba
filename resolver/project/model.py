"""What a project says of its ports, as frozen values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from resolver.model import PortRequest
    from resolver.project.derived import Derived

STANDARD_ORIGIN = "standard port"


class Probe(Struct, frozen=True):
    """How to ask a service whether it works.

    `kind` is `tcp`, `http`, `https`, `redis`, `postgres` or `command`. `host` and `path` are for
    http and https, `statuses` are the HTTP statuses that count as healthy (empty: 200 to 399),
    `command` is an argument vector. The time limit is in seconds.
    """

    kind: str
    host: str = ""
    path: str = "/"
    statuses: tuple[int, ...] = ()
    command: tuple[str, ...] = ()
    timeout_seconds: float = 2.0


class Service(Struct, frozen=True):
    """One service: its port, the variable that decides it, and where its port came from.

    `standard` is what the project file says, whatever the variables are; `by_environment` that an
    environment variable decided the port, which nothing else may change. `notes` are for whoever
    asks for this service.
    """

    name: str
    request: PortRequest
    variable: str
    origin: str
    standard: PortRequest
    health: Probe | None = None
    by_environment: bool = False
    notes: tuple[str, ...] = ()

    @property
    def by_name_alone(self) -> bool:
        """Whether nothing but its name says which port it has."""
        return self.origin == STANDARD_ORIGIN


class Project(Struct, frozen=True):
    """All that is known of a project.

    `root` is absolute. `file` is the project file, None where there is none: then the services are
    the standard ones. `pool` holds the port ranges, first and last, that may be assigned; empty
    where the project has no wish. `exports` and `env_files` are for `assign`: what it tells
    besides the ports, and to which files. `notes` say which files were left out.
    """

    name: str
    root: Path
    file: Path | None = None
    services: tuple[Service, ...] = ()
    pool: tuple[tuple[int, int], ...] = ()
    environment: str = ""
    exports: tuple[Derived, ...] = ()
    env_files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def service(self, name: str) -> Service:
        """The service of that name.

        Raises:
            UsageError: there is none; the message names those that there are.
        """
        found = next((each for each in self.services if each.name == name), None)
        if found is None:
            known = ", ".join(each.name for each in self.services) or "none"
            none = "without an ultra-ports.toml"
            where = f"in {self.file.name}" if self.file else none
            raise UsageError(
                f"{name!a}: expected a PORT or the name of a service; {where} these are: {known}"
            )
        return found
