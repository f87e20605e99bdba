"""Ports, and what may occupy one."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import ip_address
from typing import TYPE_CHECKING, NewType

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

PortNumber = NewType("PortNumber", int)

ANY_IPV4 = "0.0.0.0"  # noqa: S104 - named here, never bound here

ANY_IPV6 = "::"


class Transport(StrEnum):
    """The transports that have ports here."""

    TCP = "tcp"
    UDP = "udp"


class SocketState(StrEnum):
    """How a socket, or an engine's port mapping, occupies a port."""

    LISTENING = "listening"
    BOUND = "bound"  # bound, not listening
    UNCONNECTED = "unconnected"  # a UDP socket that takes datagrams from anybody
    CONNECTED = "connected"  # a connection whose local port this is
    CLOSING = "closing"  # TIME_WAIT and kin: no process owns it any more
    REDIRECTED = "redirected"  # a NAT rule takes what arrives, without any socket
    PUBLISHED = "published"  # an engine's mapping without a socket in this namespace


class Binding(Struct, frozen=True, order=True):
    """A local endpoint: canonical address text without brackets, and a port of 1 to 65535."""

    transport: Transport
    address: str
    port: PortNumber

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.transport}"

    @property
    def host(self) -> str:
        """The address as it stands before a port."""
        return f"[{self.address}]" if ":" in self.address else self.address

    @property
    def transport_port(self) -> tuple[Transport, PortNumber]:
        """Its port, whatever its address."""
        return self.transport, self.port

    @property
    def is_reachable(self) -> bool:
        """Whether other machines may reach it; a firewall is not asked."""
        return not ip_address(self.address.partition("%")[0]).is_loopback


class PortRequest(Struct, frozen=True, order=True):
    """One port that somebody asked about; `address` None means every address of the machine."""

    port: PortNumber
    transport: Transport = Transport.TCP
    address: str | None = None

    def __str__(self) -> str:
        if self.address is None:
            return f"{self.port}/{self.transport}"
        return str(Binding(self.transport, self.address, self.port))

    @property
    def typed(self) -> str:
        """`8085`, `8085/udp`, `127.0.0.1:8085`: as it can be typed."""
        return str(self).removesuffix("/tcp")

    def meets(self, binding: Binding, *, v6only: bool | None = None) -> bool:
        """True where a server on this request's address would collide with `binding`.

        A `::` socket takes IPv4 too unless it is IPv6-only (ipv6(7), IPV6_V6ONLY); where that is
        not known, it counts as a collision, and the bind proof has the last word.
        """
        if (binding.port, binding.transport) != (self.port, self.transport):
            return False
        wanted, held = self.address, binding.address
        if wanted is None or wanted in {held, ANY_IPV6}:
            return True
        if held == ANY_IPV6:
            return ":" in wanted or not v6only
        return ANY_IPV4 in {wanted, held} and ":" not in wanted + held


def meets_any(
    requests: Iterable[PortRequest] | None, binding: Binding, *, v6only: bool | None = None
) -> bool:
    """Whether one of the requests `meets` the binding; None asks for every port."""
    return requests is None or any(each.meets(binding, v6only=v6only) for each in requests)


def unmapped(address: str) -> str:
    """The text of an address; an IPv4-mapped IPv6 address is the IPv4 address it stands for."""
    return address.removeprefix("::ffff:") if "." in address else address
