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
    is `tcp`, `udp` or another one that has no ports here (`sctp`). `text` is the entry in the short
    form. `error` says why the entry cannot work, else it is empty.
    """

    service: str
    target: int
    first: int | None = None
    last: int | None = None
    address: str | None = None
    transport: str = "tcp"
    text: str = ""
    error: str = ""


class ComposeService(Struct, frozen=True):
    """One enabled service; `replicas` is how many containers it would have (0: none)."""

    name: str
    published: tuple[Published, ...] = ()
    replicas: int = 1
    network_mode: str = ""


class ComposeProject(Struct, frozen=True):
    """An enabled part of a compose project.

    `files` are absolute, in the order in which they override one another; empty where they are not
    known. `source` is the command line that compose answered. `warnings` are compose's own words,
    and `notes` ours; both are for the user.
    """

    name: str
    working_dir: Path
    files: tuple[Path, ...]
    services: tuple[ComposeService, ...] = ()
    source: str = ""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class ComposeArguments(Struct, frozen=True):
    """What the command line says of the project: `-f`, `--profile` and `--project`.

    Empty fields mean what they mean to compose: `COMPOSE_FILE`, `COMPOSE_PROFILES`,
    `COMPOSE_PROJECT_NAME`, `.env`, and then the search for a file.
    """

    files: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    project: str = ""
