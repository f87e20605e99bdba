"""What a compose project would publish, as frozen values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.model import ANY_IPV4, ANY_IPV6, PortNumber, PortRequest, Transport
from resolver.portspec import is_name
from resolver.project.file import default_variable
from resolver.project.model import Service

if TYPE_CHECKING:
    from pathlib import Path

HOST, NONE = "host", "none"  # values of `network_mode`
_JOINED = ("service:", "container:")


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

    @property
    def ports(self) -> range:
        """The host ports that the engine may choose from; empty where it may choose from all."""
        return range(self.first, (self.last or self.first) + 1) if self.first else range(0)

    @property
    def claims_ports(self) -> bool:
        """Whether it wants host ports of its own choice, and such as can be looked at."""
        return self.first is not None and not self.error and self.transport in list(Transport)

    @property
    def is_single(self) -> bool:
        """Whether there is one host port, and no choice."""
        return len(self.ports) == 1

    @property
    def requests(self) -> tuple[PortRequest, ...]:
        """The host ports that it claims, as endpoints, in order."""
        if not self.claims_ports:
            return ()
        transport = Transport(self.transport)
        return tuple(PortRequest(PortNumber(each), transport, self.address) for each in self.ports)

    def shares_sockets(self, other: Published) -> bool:
        """Whether an engine cannot publish one port for both."""
        return self.transport == other.transport and same_address(self.address, other.address)

    def meets(self, other: Published) -> bool:
        """Whether the two could come to the same port."""
        mine, theirs = self.ports, other.ports
        overlap = max(mine[0], theirs[0]) <= min(mine[-1], theirs[-1])
        return overlap and self.shares_sockets(other)


def same_address(one: str | None, other: str | None) -> bool:
    """Whether an engine cannot publish a port on both.

    It gives the wildcards of the two families to different sockets: `0.0.0.0:80` and `[::]:80` go
    together, as they do in every entry without an address.
    """
    return any(
        (":" in mine) == (":" in theirs)
        and (mine == theirs or {mine, theirs} & {ANY_IPV4, ANY_IPV6})
        for mine in _addresses(one)
        for theirs in _addresses(other)
    )


def _addresses(address: str | None) -> tuple[str, ...]:
    return (ANY_IPV4, ANY_IPV6) if address is None else (address,)


class ComposeService(Struct, frozen=True):
    """One enabled service; `replicas` is how many containers it would have (0: none)."""

    name: str
    published: tuple[Published, ...] = ()
    replicas: int = 1
    network_mode: str = ""

    @property
    def joins(self) -> bool:
        """Whether it lives in another container's network, and can publish no ports of its own."""
        return self.network_mode.startswith(_JOINED)

    @property
    def fixed(self) -> tuple[Published, ...]:
        """The entries that claim host ports, each once: a repeated one is dropped by compose."""
        if self.replicas < 1 or self.network_mode in {HOST, NONE} or self.joins:
            return ()
        found: dict[object, Published] = {}
        for each in self.published:
            if each.claims_ports:
                key = (each.target, each.first, each.last, each.address, each.transport)
                found.setdefault(key, each)
        return tuple(found.values())


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

    def as_services(self) -> tuple[Service, ...]:
        """What it publishes as services of a project: one for each fixed port.

        Further ports of a compose service are `web-9229`; a range, of which the engine chooses, is
        none.
        """
        origin = self.files[0].name if self.files else "the compose file"
        found: list[Service] = []
        seen: set[str] = set()
        for service in self.services:
            for entry in service.fixed if is_name(service.name) else ():
                if entry.is_single:
                    (request,) = entry.requests
                    name = (
                        f"{service.name}-{request.port}" if service.name in seen else service.name
                    )
                    seen.add(service.name)
                    found.append(Service(name, request, default_variable(name), origin, request))
        return tuple(found)


class ComposeArguments(Struct, frozen=True):
    """What the command line says of the project: `-f`, `--profile` and `--project`.

    Empty fields mean what they mean to compose: `COMPOSE_FILE`, `COMPOSE_PROFILES`,
    `COMPOSE_PROJECT_NAME`, `.env`, and then the search for a file.
    """

    files: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    project: str = ""
