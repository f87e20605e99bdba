"""What a compose project would publish, as frozen values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from pathlib import Path


class Published(Struct, frozen=True):
    """One entry of a service's `ports:`.

    `first` and `last` are the host ports, inclusive: one container takes one of them (the engine
    picks). Both None: the engine picks any port. `address` None means every address. `transport`
    is `tcp`, `udp` or another one that has no ports here (`sctp`). `text` is the entry as written,
    or as the plug-in gives it. `trouble` says why the entry cannot work, else it is empty. `unset`
    names the variables without which the entry became automatic: they are not set, or empty.
    `exposed_by` names those without which it lost its address, so that every one is published.
    `where` is the file and the line, empty where that is not known.
    """

    service: str
    target: int
    first: int | None = None
    last: int | None = None
    address: str | None = None
    transport: str = "tcp"
    text: str = ""
    trouble: str = ""
    unset: tuple[str, ...] = ()
    exposed_by: tuple[str, ...] = ()
    where: str = ""


class ComposeService(Struct, frozen=True):
    """One enabled service; `replicas` is how many containers it would have (0: none)."""

    name: str
    published: tuple[Published, ...] = ()
    replicas: int = 1
    network_mode: str = ""


class ComposeProject(Struct, frozen=True):
    """An enabled part of a compose project.

    `files` are absolute, in the order in which they override one another. `source` says who read
    them: the plug-in's command line, or our own reader. `notes` are for the user.
    """

    name: str
    working_dir: Path
    files: tuple[Path, ...]
    services: tuple[ComposeService, ...] = ()
    source: str = ""
    notes: tuple[str, ...] = ()


class ComposeArguments(Struct, frozen=True):
    """What the command line says of the project: `-f`, `--profile` and `--project`.

    Empty fields mean what they mean to compose: `COMPOSE_FILE`, `COMPOSE_PROFILES`,
    `COMPOSE_PROJECT_NAME`, `.env`, and then the search for a file.
    """

    files: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    project: str = ""
