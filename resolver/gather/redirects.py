"""NAT rules that capture a port although no socket has it: nftables and iptables, when readable.

A container's own rule belongs to the container; one that is left over, or that Kubernetes made for
a `hostPort`, sends what arrives to somewhere else while a plain bind still succeeds.
"""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from resolver.errors import CommandFailedError
from resolver.gather import iptables_rules, nftables_rules
from resolver.gather.packet_rules import captured
from resolver.host.files import link_of, text_of
from resolver.host.netfilter import nat_rules
from resolver.host.routes import addresses_of
from resolver.managed import ask_text
from resolver.model import Binding, PortNumber, Redirect, Transport

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from resolver.gather.packet_rules import Ruleset
    from resolver.host.netfilter import NatRules
    from resolver.model import PortRequest
    from resolver.protocols import CommandRunner

_SAVES = ("iptables", "ip6tables")
_IPVS = "/proc/net/ip_vs"
_END = r"([0-9A-F]{8}|\[[0-9a-fA-F:]+\]):([0-9A-F]{4})\b"
_VIRTUAL, _BEHIND = rf"(TCP|UDP)\s+{_END}", rf"\s+->\s+{_END}"
_UNLISTED = (
    "the kernel does not rule out NAT rules, and no tool here lists all of them (iptables, nft): "
    "one of them may send a port elsewhere"
)
_GENERAL = "a rule in {}: what is sent to a port that can be bound may go there"


class Nat(Struct, frozen=True):
    """The NAT rules on the requested ports, and whether rules could be read at all.

    `general` are sentences about rules that send whatever passes elsewhere. `unlisted`: the kernel
    says that there are some which no tool here lists.
    """

    readable: bool
    redirects: tuple[Redirect, ...] = ()
    general: tuple[str, ...] = ()
    unlisted: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of them beside the redirects."""
        return (*map(_GENERAL.format, self.general), *([_UNLISTED] if self.unlisted else ()))


UNREAD = Nat(readable=False)


def list_redirects(requests: Collection[PortRequest] | None, run: CommandRunner) -> Nat:
    """The rules that capture any of the requested ports; only root may read them.

    A tool is run only where the kernel says that it would list a rule that could matter.
    """
    if requests is None or sys.platform != "linux" or os.geteuid() != 0:
        return UNREAD
    rules = nat_rules()
    may = rules.may_redirect
    virtual = [rule for rule in parse_ipvs(text_of(_IPVS)) if any(map(rule.captures, requests))]
    own = frozenset(addresses_of("self")) if may or virtual else frozenset()
    nat = _listed(requests, own, rules, run) if may else Nat(may is not None)
    found = (_from_here(rule, own) for rule in {*nat.redirects, *virtual})
    return replace(nat, redirects=tuple(sorted(each for each in found if not _stays(each))))


def _stays(rule: Redirect) -> bool:
    """Whether it leads to the very port that it takes: whoever binds that one gets it."""
    return rule.first == rule.last and rule.leads == f"port {rule.first}"


def _from_here(rule: Redirect, own: frozenset[str]) -> Redirect:
    """A rule to an address of our own leads to a port of this machine."""
    if rule.leads not in own and not _is_loopback(rule.leads):
        return rule
    port = rule.target.rpartition(":")[2]
    if rule.target != rule.leads and port.isdigit():
        return replace(rule, leads=f"port {port}")
    is_one = rule.target == rule.leads and rule.first == rule.last
    return replace(rule, leads=f"port {rule.first}" if is_one else "")


def _is_loopback(leads: str) -> bool:
    try:
        return ipaddress.ip_address(leads).is_loopback
    except ValueError:
        return False


def parse_ipvs(text: str) -> Iterator[Redirect]:
    """The virtual services of IPVS (ipvsadm(8)), and the first server behind each: in hexadecimal.

    It takes what arrives before any socket, and a plain bind still succeeds.
    """
    lines = text.splitlines()
    for line, following in pairwise((*lines, "")):
        service = re.match(_VIRTUAL, line)
        if service is None:
            continue
        taken = _end(*service.groups())
        server = re.match(_BEHIND, following)
        behind = _end(service[1], *server.groups()) if server else None
        yield Redirect(
            taken.transport,
            taken.port,
            taken.port,
            f"{behind.host}:{behind.port}" if behind else "no server",
            "IPVS",
            ("ipvsadm", "-D", f"-{taken.transport[0]}", f"{taken.host}:{taken.port}"),
            taken.address,
            behind.address if behind else "",
        )


def _end(transport: str, address: str, port: str) -> Binding:
    """In hexadecimal, as in `TCP 0A000001:1F90`; an IPv6 address is in brackets."""
    if address.startswith("["):
        found = ipaddress.ip_address(address[1:-1])
    else:
        found = ipaddress.ip_address(bytes.fromhex(address))
    return Binding(Transport(transport.lower()), str(found), PortNumber(int(port, 16)))


def _listed(
    requests: Collection[PortRequest], own: Collection[str], there: NatRules, run: CommandRunner
) -> Nat:
    saved = {tool: _output((f"{tool}-save",), run) for tool in _tools(there)}
    listed = any(map(_is_new, saved.values()))
    asks_nft = there.native or (there.new and not listed)
    text = _output(("nft", "-j", "list", "ruleset"), run) if asks_nft else ""
    rulesets = [*_of_iptables(saved)]
    try:
        rulesets.append(nftables_rules.ruleset(text))
    except ValueError:
        text = ""  # which is said
    found = captured(rulesets, requests, own)
    return Nat(
        readable=True,
        redirects=tuple(sorted(found.redirects)),
        general=tuple(sorted(found.general)),
        unlisted=_unlisted(there, saved, unread=bool(asks_nft and not text)),
    )


def _of_iptables(saved: Mapping[str, str]) -> Iterator[Ruleset]:
    """The rules of each backend, once: a plain name is the name of one of them."""
    seen = set()
    for tool, text in saved.items():
        backend = tool.partition("-")[0], _is_new(text)
        if backend not in seen:
            seen.add(backend)
            yield iptables_rules.ruleset(tool, text)


def _unlisted(there: NatRules, saved: Mapping[str, str], *, unread: bool) -> bool:
    """Whether the kernel has rules of a kind that no tool here lists; `unread`: those of nft(8)."""
    old = {tool.partition("-")[0] for tool, text in saved.items() if text and not _is_new(text)}
    return unread or not there.old <= old


def _is_new(text: str) -> bool:
    """Whether iptables-save(8) has listed rules of nf_tables, and not of the old tables."""
    return "(nf_tables)" in text


def _tools(there: NatRules) -> Iterator[str]:
    """The tools of each backend that has rules; first the one that goes by the plain name.

    To list the old tables would load them where they are not there.
    """
    for tool in _SAVES:
        backends = {"legacy": tool in there.old, "nft": tool in (there.new or ())}
        default = _default_backend(tool)
        if backends.pop(default, any(backends.values())):
            yield tool
        yield from (f"{tool}-{backend}" for backend, has_rules in backends.items() if has_rules)


def _default_backend(tool: str) -> str:
    """Which one the plain name means, `legacy` or `nft` (update-alternatives(1)); "" if unknown."""
    path = link_of(f"/etc/alternatives/{tool}-save")
    return os.path.basename(path).removeprefix(f"{tool}-").removesuffix("-save")


def _output(argv: tuple[str, ...], run: CommandRunner) -> str:
    """What the command prints; empty where it is missing or may not read the rules."""
    try:
        return ask_text(run, argv)
    except CommandFailedError:
        return ""
