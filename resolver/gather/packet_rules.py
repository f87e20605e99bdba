"""The way of a packet for a port of this machine through the rules of a packet filter. Pure.

What iptables(8) and nft(8) list becomes the same `Rule`s; a packet enters where a hook is, and goes
from chain to chain as the kernel has it go. A rule with a condition that is not understood may
match: then the packet also goes on.
"""

from __future__ import annotations

import ipaddress
import itertools
from bisect import bisect_right
from collections import defaultdict
from operator import itemgetter
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.model import ANY_IPV4, Redirect, Transport

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from resolver.model import PortRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
BOTH = frozenset(Transport)
_NOWHERE: frozenset[Address] = frozenset()
_LAST_PORT = 65_535
EVERY_PORT = ((0, _LAST_PORT),)
_WILDCARDS = {None, ANY_IPV4, "::"}
_HALF = 32_768  # ports; a rule about more of them does not mean any one of them
_DEEPEST = 16  # chains that follow each other (NFT_JUMP_STACK_SIZE)
_MOST_HOSTS, _MOST_PORTS = 4096, 256  # that are looked at, of a range


class Destination(Struct, frozen=True, order=True):
    """Where a packet is sent: what people call that, an address, and a port.

    An empty `address` is this machine's own, and the port 0 is the packet's own.
    """

    text: str
    address: str = ""
    port: int = 0

    def stays(self, port: int) -> bool:
        """Whether whoever binds this port gets what is sent there."""
        return not self.address and self.port in {0, port}


class Rule(Struct, frozen=True):
    """One rule of a chain.

    Attributes:
        chain: a key of it, of the caller's choice.
        where: what people call the chain.
        delete: the command that removes the rule, or what of it is about these ports alone.
        transports, ports, networks: of the packets it is about; no network is every address.
        elsewhere: it is about the packets to all other addresses than `networks`.
        certain: nothing else has to be true of a packet.
        targets: where it sends a packet; one of them.
        jump: the chain that it goes to; it comes back, unless `ends`.
        ends: the chain is left; with `accepts` the whole hook.
        shared: to delete it changes something for other ports, too.
    """

    chain: str
    where: str
    delete: tuple[str, ...]
    transports: frozenset[Transport] = BOTH
    ports: tuple[tuple[int, int], ...] = EVERY_PORT
    networks: tuple[Network, ...] = ()
    elsewhere: bool = False
    certain: bool = True
    targets: tuple[Destination, ...] = ()
    jump: str = ""
    ends: bool = False
    accepts: bool = False
    shared: bool = False
    comment: str = ""

    @property
    def names_ports(self) -> bool:
        """Whether it is about certain ports, and not about whatever passes."""
        return sum(last - first + 1 for first, last in self.ports) < _HALF

    def takes(
        self, transport: Transport, port: int, packets: frozenset[Address]
    ) -> frozenset[Address]:
        """The addresses of those packets that it may be about."""
        if transport not in self.transports:
            return _NOWHERE
        if not any(first <= port <= last for first, last in self.ports):
            return _NOWHERE
        if not self.networks:
            return packets
        inside = frozenset(each for each in packets if any(each in net for net in self.networks))
        if not self.elsewhere:
            return inside
        version = self.networks[0].version
        return frozenset(each for each in packets - inside if each.version == version)


class Hook(Struct, frozen=True):
    """A chain in which packets begin, and the version of IP of those, None: both.

    `arriving`: they come from outside, so to none of the addresses of the loopback interface.
    """

    chain: str
    version: int | None = None
    arriving: bool = False

    def of(self, packets: Iterable[Address], *, alone: bool) -> frozenset[Address]:
        """Those of the packets that begin here; `alone`: there is no address to arrive at."""
        return frozenset(
            each
            for each in packets
            if self.version in {None, each.version}
            and not (self.arriving and each.is_loopback and not alone)
        )


class Ruleset(Struct, frozen=True):
    """The chains in which packets for this machine begin, and all rules in their order."""

    hooks: tuple[Hook, ...] = ()
    rules: tuple[Rule, ...] = ()


class Captured(Struct, frozen=True):
    """What is sent elsewhere: of which ports, and where whatever passes is sent."""

    redirects: frozenset[Redirect] = frozenset()
    general: frozenset[str] = frozenset()


def captured(
    rulesets: Iterable[Ruleset], requests: Iterable[PortRequest], own: Collection[str]
) -> Captured:
    """What of the packets for the requested ports is sent elsewhere.

    Args:
        rulesets: of each packet filter.
        requests: the ports, each of all addresses or of one.
        own: the addresses of this machine.
    """
    redirects: set[Redirect] = set()
    general: set[str] = set()
    walks = [_Traversal(ruleset) for ruleset in rulesets]
    for request in requests:
        wanted = _addresses(request, own)
        for found in (each for walk in walks for each in walk.sent(request, wanted)):
            if found.named.names_ports:
                redirects.update(_redirects(found, request))
            else:
                general.update(_general(found, request))
    return Captured(frozenset(redirects), frozenset(general))


def _addresses(request: PortRequest, own: Collection[str]) -> frozenset[Address]:
    """The addresses to which a packet for the port may be sent."""
    asked = own if request.address in _WILDCARDS else [str(request.address)]
    return frozenset(ipaddress.ip_address(each.partition("%")[0]) for each in asked)


def _redirects(found: _Sent, request: PortRequest) -> Iterator[Redirect]:
    """One for each of the places to which the port may be sent, itself excepted."""
    address = ANY_IPV4 if request.address in _WILDCARDS else str(request.address)
    for target in found.last.targets:
        if not target.stays(request.port):
            yield Redirect(
                request.transport,
                request.port,
                request.port,
                target.text,
                found.named.where,
                found.named.delete,
                address,
                target.address or (f"port {target.port}" if target.port else ""),
                found.named.comment or found.last.comment,
                found.named.shared,
            )


def _general(found: _Sent, request: PortRequest) -> Iterator[str]:
    away = [each for each in found.last.targets if not each.stays(request.port)]
    for target in away[:1]:
        what = f"{request.transport} ports that it does not name"
        yield f"{found.last.where} sends {what} to {target.text}"


class _Sent(Struct, frozen=True):
    """The rule that names the port, and the one that sends it."""

    named: Rule
    last: Rule


class _Chain:
    """The rules of a chain; most of those of an orchestrator are about one port."""

    def __init__(self) -> None:
        self._of_one: Mapping[int, list[tuple[int, Rule]]] = defaultdict(list)
        self._of_more: list[tuple[int, Rule]] = []
        self._count = itertools.count()

    def add(self, rule: Rule) -> None:
        """Puts a rule at the end."""
        [(first, last), *others] = rule.ports or ((1, 0),)
        alike = self._of_one[first] if first == last and not others else self._of_more
        alike.append((next(self._count), rule))

    def about(self, port: int) -> list[Rule]:
        """The rules that may be about a port, in their order."""
        found = [*self._of_one.get(port, ()), *self._of_more]
        return [rule for _, rule in sorted(found, key=itemgetter(0))]


class _Traversal:
    """Packets on their way through one ruleset."""

    def __init__(self, ruleset: Ruleset) -> None:
        self._hooks = ruleset.hooks
        self._chains: Mapping[str, _Chain] = defaultdict(_Chain)
        for rule in ruleset.rules:
            self._chains[rule.chain].add(rule)
        ends = {end for rule in ruleset.rules for a, b in rule.ports for end in (a, b + 1)}
        self._ends = sorted(ends)  # between two of them every port goes the same way
        self._known: dict[object, list[_Sent]] = {}

    def sent(self, request: PortRequest, wanted: frozenset[Address]) -> list[_Sent]:
        """What is sent elsewhere of the packets to these addresses."""
        key = request.transport, bisect_right(self._ends, request.port), wanted
        if key not in self._known:
            found = self._known[key] = []
            alone = len(wanted) > 1 and all(each.is_loopback for each in wanted)
            for hook in self._hooks:
                self._through(hook.chain, request, hook.of(wanted, alone=alone), (), found)
        return self._known[key]

    def _through(
        self,
        chain: str,
        request: PortRequest,
        packets: frozenset[Address],
        way: tuple[Rule, ...],
        found: list[_Sent],
    ) -> frozenset[Address]:
        """Goes through a chain; the addresses of the packets that do not come back."""
        done = _NOWHERE
        for rule in self._chains[chain].about(request.port):
            met = rule.takes(request.transport, request.port, packets)
            if not met:
                continue
            behind = met if rule.accepts or rule.targets else _NOWHERE
            if rule.targets:
                named = next((each for each in (*way, rule) if each.names_ports), rule)
                found.append(_Sent(named, rule))
            elif rule.jump and len(way) < _DEEPEST:
                behind = self._through(rule.jump, request, met, (*way, rule), found)
            if rule.certain:
                done |= behind
                packets -= met if rule.ends else behind
        return done


def hosts(first: str, last: str = "") -> Iterator[str]:
    """The addresses from the first to the last one, or the first alone; not too many."""
    try:
        begin = ipaddress.ip_address(first)
        count = int(ipaddress.ip_address(last)) - int(begin) + 1 if last else 1
    except ValueError:
        return
    yield from (str(begin + number) for number in range(min(count, _MOST_HOSTS)))


def targets(
    text: str, addresses: Collection[str], first: int = 0, last: int = 0
) -> Iterator[Destination]:
    """Each of the addresses with the port, or this machine's ports from the first to the last."""
    if addresses:
        yield from (Destination(text, address, first) for address in addresses)
    else:
        end = min(max(first, last), first + _MOST_PORTS)
        yield from (Destination(text, "", port) for port in range(first, end + 1))


def networks(first: str, last: str = "") -> tuple[Network, ...]:
    """The network that a rule names, or those between two addresses; empty where it is none."""
    try:
        if last:
            ends = (ipaddress.ip_address(first), ipaddress.ip_address(last))
            return tuple(ipaddress.summarize_address_range(*ends))
        return (ipaddress.ip_network(first, strict=False),)
    except (ValueError, TypeError):
        return ()


def other_ports(ports: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Every port but these."""
    found, begin = [], 0
    for first, last in sorted(ports):
        if begin < first:
            found.append((begin, first - 1))
        begin = max(begin, last + 1)
    return (*found, (begin, _LAST_PORT)) if begin <= _LAST_PORT else tuple(found)
