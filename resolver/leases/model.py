"""Leases and their owners, as frozen values, and when two of them are in each other's way."""

from __future__ import annotations

from msgspec import Struct

from resolver.model import ANY_IPV4, ANY_IPV6, Pid, PortNumber, PortRequest, Transport


class Owner(Struct, frozen=True):
    """The process that a lease lives and dies with.

    A PID means something in one boot and one PID namespace only: elsewhere the lease is judged by
    its time to live alone.
    """

    boot: str
    pid_namespace: str
    pid: Pid
    start_time: int


class Claim(Struct, frozen=True):
    """What somebody asks for: one endpoint in one scope, for a service of a project.

    `scope` names the port space: a network namespace of this machine, or the engine whose host
    publishes the port. `project` is the project's name, and `place` its root directory, which
    tells two worktrees of one project apart. `address` None means every address. `owner` None: the
    lease belongs to nobody's life and ends with its time or by `release`. `ttl_seconds` None: no
    end in time, which only a lease with an owner may have.
    """

    scope: str
    port: PortNumber
    transport: Transport
    address: str | None
    service: str
    project: str
    place: str = ""
    owner: Owner | None = None
    ttl_seconds: float | None = None
    held: bool = False

    @property
    def request(self) -> PortRequest:
        """The endpoint alone."""
        return PortRequest(self.port, self.transport, self.address)


class Lease(Struct, frozen=True):
    """A claim that was granted.

    `token` is new with each grant and grows: whoever gives a lease back or renews it names the
    token, so a lease that was lost and granted again is not touched. Times are in seconds since the
    epoch, by the store's clock. `held` says that its owner keeps the port in the kernel.
    """

    token: int
    scope: str
    port: PortNumber
    transport: Transport
    address: str | None
    service: str
    project: str
    place: str
    owner: Owner | None
    created_at: float
    expires_at: float | None
    held: bool = False

    @property
    def request(self) -> PortRequest:
        """The endpoint alone."""
        return PortRequest(self.port, self.transport, self.address)


class Entry(Struct, frozen=True):
    """A lease as a store keeps it: `ends` is in seconds since the boot `boot`; None: never."""

    lease: Lease
    boot: str
    ends: float | None


def collide(one: PortRequest, other: PortRequest) -> bool:
    """Whether two servers on these endpoints would be in each other's way.

    None stands for every address of both families; `0.0.0.0` for every one of IPv4; `::` takes IPv4
    too, as it does unless it is made IPv6-only (ipv6(7)).
    """
    if (one.port, one.transport) != (other.port, other.transport):
        return False
    addresses = {one.address, other.address}
    if len(addresses) == 1 or addresses & {None, ANY_IPV6}:
        return True
    families = {":" in (address or "") for address in addresses}
    return len(families) == 1 and ANY_IPV4 in addresses
