"""NAT rules that capture a port although no socket has it: nftables and iptables, when readable.

A container's own rule belongs to the container; one that is left over, or that Kubernetes made for
a `hostPort`, sends what arrives to somewhere else while a plain bind still succeeds.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shlex
import socket
import sys
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from resolver.errors import CommandFailedError
from resolver.host.files import text_of
from resolver.host.netfilter import nat_rules
from resolver.host.routes import addresses_of
from resolver.model import ANY_IPV4, Redirect, Transport
from resolver.settings import COMMAND_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from resolver.host.netfilter import NatRules
    from resolver.model import PortRequest
    from resolver.protocols import CommandRunner

_SAVES = ("iptables", "ip6tables")
# Jumps into chains of these lead to a DNAT of their own (kube-proxy's and the CNI plug-ins' names)
_LEADING = r"(?:KUBE|CNI|NETAVARK)-"
_GOES_ON = r"-A (?P<chain>\S+) .*(?:--to-destination (?P<address>\S+)|-[jg] (?P<next>(?!DNAT)\S+))"
_ADDRESS = r"\[?[\da-fA-F:.]+\]?(?::\d+)?\Z"
_IPVS = "/proc/net/ip_vs"
_END = r"([0-9A-F]{8}|\[[0-9a-fA-F:]+\]):([0-9A-F]{4})\b"
_VIRTUAL, _BEHIND = rf"(TCP|UDP)\s+{_END}", rf"\s+->\s+{_END}"
_DEEPEST = 6  # chains that follow each other: KUBE-NODEPORTS → KUBE-EXT- → KUBE-SVC- → KUBE-SEP-


class Nat(Struct, frozen=True):
    """The NAT rules on the requested ports, and whether rules could be read at all.

    `unlisted`: the kernel says that there are some which no tool here lists.
    """

    readable: bool
    redirects: tuple[Redirect, ...] = ()
    unlisted: bool = False


UNREAD = Nat(readable=False)
NO_MAPS: Mapping[Any, Any] = MappingProxyType({})


def list_redirects(requests: Collection[PortRequest] | None, run: CommandRunner) -> Nat:
    """The rules that capture any of the requested ports; only root may read them.

    A tool is run only where the kernel says that it would list a rule that could matter.
    """
    if requests is None or sys.platform != "linux" or os.geteuid() != 0:
        return UNREAD
    rules = nat_rules()
    may = rules.may_redirect
    nat = _listed(requests, rules, run) if may else Nat(may is not None)
    balanced = parse_ipvs(text_of(_IPVS))
    wanted = {rule for rule in balanced if any(rule.captures(request) for request in requests)}
    found = {*nat.redirects, *wanted}
    own = frozenset(addresses_of("self")) if found else frozenset()
    return replace(nat, redirects=tuple(sorted(_from_here(rule, own) for rule in found)))


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
        transport = Transport(service[1].lower())
        address, port = _from_hexadecimal(service[2]), int(service[3], 16)
        server = re.match(_BEHIND, following)
        target = f"{_from_hexadecimal(server[1])}:{int(server[2], 16)}" if server else "no server"
        host = f"[{address}]" if ":" in address else address
        yield Redirect(
            transport,
            port,
            port,
            target,
            "IPVS",
            ("ipvsadm", "-D", f"-{transport[0]}", f"{host}:{port}"),
            address,
            _host(target) if server else "",
        )


def _from_hexadecimal(text: str) -> str:
    """`0A000001`, or an IPv6 address in brackets."""
    if text.startswith("["):
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text[1:-1]))
    return socket.inet_ntop(socket.AF_INET, bytes.fromhex(text))


def _listed(requests: Collection[PortRequest], there: NatRules, run: CommandRunner) -> Nat:
    found: dict[object, Redirect] = {}
    saved = {tool: _output((f"{tool}-save", "-t", "nat"), run) for tool in _tools(there)}
    for tool, text in saved.items():
        for rule in _of_iptables(tool, text):
            found.setdefault((tool.partition("-")[0], rule.delete[1:]), rule)
    listed = any(map(_is_new, saved.values()))
    asks_nft = there.native or (there.new and not listed)
    ruleset = _output(("nft", "-j", "list", "ruleset"), run) if asks_nft else ""
    rules = [*found.values(), *_of_nftables(ruleset)]
    wanted = {rule for rule in rules if any(rule.captures(request) for request in requests)}
    return Nat(
        readable=True,
        redirects=tuple(sorted(wanted)),
        unlisted=_unlisted(there, saved, unread=bool(asks_nft and not ruleset)),
    )


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
        backends = {"legacy": tool in there.old, "nft": bool(there.new)}
        default = _default_backend(tool)
        if backends.pop(default, any(backends.values())):
            yield tool
        yield from (f"{tool}-{backend}" for backend, has_rules in backends.items() if has_rules)


def _default_backend(tool: str) -> str:
    """Which one the plain name means, `legacy` or `nft` (update-alternatives(1)); "" if unknown."""
    try:
        path = os.readlink(f"/etc/alternatives/{tool}-save")
    except OSError:
        return ""
    return os.path.basename(path).removeprefix(f"{tool}-").removesuffix("-save")


def _of_iptables(tool: str, text: str) -> Iterator[Redirect]:
    lines = [line for line in text.splitlines() if line.startswith("-A ")]
    chains = _chains(lines) if any(re.search(_LEADING, line) for line in lines) else {}
    for line in lines:
        for rule in parse_rule(tool, line):
            chain = rule.target.partition("chain ")[2]
            yield replace(rule, leads=_destination(chain, chains)) if chain else rule


def _chains(lines: Iterable[str]) -> dict[str, list[str]]:
    """Where the rules of each chain go on: to other chains, and to addresses."""
    found: dict[str, list[str]] = {}
    for line in lines:
        match = re.match(_GOES_ON, line)
        if match:
            found.setdefault(match["chain"], []).append(match["address"] or match["next"])
    return found


def _destination(chain: str, chains: Mapping[str, Sequence[str]], depth: int = 0) -> str:
    """The first address that a chain leads to; empty where that is not seen."""
    for following in chains.get(chain, ()) if depth < _DEEPEST else ():
        if following not in chains and re.match(_ADDRESS, following):
            return _host(following)
        if found := _destination(following, chains, depth + 1):
            return found
    return ""


def _host(destination: str) -> str:
    """The address of `10.9.0.1:80`, `[fd00::1]:80` or `10.9.0.1`."""
    if destination.startswith("["):
        return destination[1:].partition("]")[0]
    return destination if destination.count(":") > 1 else destination.partition(":")[0]


def parse_rule(tool: str, line: str) -> Iterator[Redirect]:
    """The redirects in one `-A CHAIN …` line of iptables-save(8); none where it is another rule."""
    try:
        words = shlex.split(line)
    except ValueError:
        return
    target = _target(words)
    transport = _after(words, "-p")
    ports = _after(words, "--dport") or _after(words, "--dports")
    if target is None or transport not in list(Transport) or ports is None or _negated(words):
        return
    for part in ports.split(","):
        first, _, last = part.partition(":")
        if first.isdigit() and (last or first).isdigit():
            yield Redirect(
                Transport(transport),
                int(first),
                int(last or first),
                target,
                f"{tool} chain {words[1]}",
                (tool, "-t", "nat", "-D", *words[1:]),
                _one_address(_after(words, "-d") or ""),
                "" if target.startswith("chain ") else _leads(target),
                _after(words, "--comment") or "",
            )


def _leads(target: str) -> str:
    """Where a target is: an address, or `port N` of this machine."""
    return target if target.startswith("port ") else _host(target)


def _target(words: list[str]) -> str | None:
    jump = _after(words, "-j") or ""
    if jump in {"DNAT", "REDIRECT"}:
        return _after(words, "--to-destination") or f"port {_after(words, '--to-ports') or '?'}"
    return f"chain {jump}" if re.match(_LEADING, jump) else None


def _after(words: list[str], name: str) -> str | None:
    return words[words.index(name) + 1] if name in words[:-1] else None


def _one_address(destination: str) -> str:
    """The address of `-d ADDRESS/32`; a network counts as every address."""
    address, _, length = destination.partition("/")
    return address if address and length in {"", "32", "128"} else ANY_IPV4


def _negated(words: list[str]) -> bool:
    """`! --dport 80` captures everything but the port."""
    return any(
        word == "!" and following in {"--dport", "--dports", "-p"}
        for word, following in pairwise(words)
    )


def _of_nftables(text: str) -> Iterator[Redirect]:
    if not text:
        return
    try:
        answer = json.loads(text)
    except ValueError:
        return
    entries = [each for each in answer.get("nftables", ()) if isinstance(each, dict)]
    maps = {_map_key(each["map"]): each["map"] for each in entries if "map" in each}
    for entry in entries:
        if isinstance(entry.get("rule"), dict):
            yield from parse_nftables(entry["rule"], maps)


def _map_key(entry: Mapping[str, Any]) -> tuple[object, ...]:
    return entry.get("family"), entry.get("table"), entry.get("name")


def parse_nftables(
    rule: dict[str, Any], maps: Mapping[tuple[object, ...], Mapping[str, Any]] = NO_MAPS
) -> Iterator[Redirect]:
    """The redirects in one rule of `nft -j list ruleset` (libnftables-json(5)).

    `maps` are the named ones, by family, table and name.
    """
    target, ports, transport, address = None, None, None, ANY_IPV4
    pairs: list[tuple[Any, str]] = []
    for expression in rule.get("expr", ()):
        if "dnat" in expression or "redirect" in expression:
            target = _nft_target(expression)
            protocol, pairs = _nft_map(expression, rule, maps)
            transport = protocol or transport
        match = expression.get("match", {})
        left = match.get("left", {})
        payload = left.get("payload", {}) if isinstance(left, dict) else {}
        if payload.get("field") == "dport" and match.get("op") in {"==", "in"}:
            transport, ports = payload.get("protocol"), match.get("right")
        if payload.get("field") == "daddr" and match.get("op") == "==":
            address = match["right"] if isinstance(match.get("right"), str) else ANY_IPV4
    if target is None or transport not in list(Transport):
        return
    family, table, chain = rule.get("family"), rule.get("table"), rule.get("chain")
    where_it_is = (str(family), str(table), str(chain), "handle", str(rule.get("handle")))
    for right, goal in pairs or [(ports, target)]:
        for first, last in _nft_ports(right):
            yield Redirect(
                Transport(transport),
                first,
                last,
                goal,
                f"nftables {family} {table} {chain}",
                ("nft", "delete", "rule", *where_it_is),
                address,
                _leads(goal),
                str(rule.get("comment") or ""),
            )


def _nft_map(
    expression: Mapping[str, Any], rule: Mapping[str, Any], maps: Mapping[Any, Mapping[str, Any]]
) -> tuple[str | None, list[tuple[Any, str]]]:
    """The protocol, and each port with where it goes, of `dnat to tcp dport map { … }`."""
    to = expression.get("dnat") or expression.get("redirect") or {}
    parts = [to.get("addr"), to.get("port")] if isinstance(to, dict) else []
    found = next((e["map"] for e in parts if isinstance(e, dict) and "map" in e), None)
    if not isinstance(found, dict):
        return None, []
    key, data = found.get("key"), found.get("data")
    payload = key.get("payload", {}) if isinstance(key, dict) else {}
    if payload.get("field") != "dport":
        return None, []
    if isinstance(data, str):
        name = data.removeprefix("@")
        named = maps.get((rule.get("family"), rule.get("table"), name), {})
        elements = named.get("elem", [])
    else:
        elements = data.get("set", []) if isinstance(data, dict) else []
    pairs = [each for each in elements if isinstance(each, list) and len(each) == 2]  # noqa: PLR2004
    return payload.get("protocol"), [(port, _nft_goal(goal)) for port, goal in pairs]


def _nft_goal(goal: Any) -> str:  # noqa: ANN401 - JSON
    """An address, an address with its port, or a port."""
    if isinstance(goal, dict) and isinstance(goal.get("concat"), list):
        return ":".join(map(str, goal["concat"]))
    return f"port {goal}" if isinstance(goal, int) else str(goal)


def _nft_target(expression: dict[str, Any]) -> str:
    to = expression.get("dnat") or expression.get("redirect") or {}
    port = to.get("port", "?") if isinstance(to, dict) else "?"
    return f"{to['addr']}:{port}" if isinstance(to, dict) and "addr" in to else f"port {port}"


def _nft_ports(right: Any) -> Iterator[tuple[int, int]]:  # noqa: ANN401 - JSON
    if isinstance(right, int):
        yield right, right
    elif isinstance(right, dict) and isinstance(right.get("range"), list):
        first, last = right["range"]
        yield int(first), int(last)
    elif isinstance(right, dict):
        for part in right.get("set", ()):
            yield from _nft_ports(part)


def _output(argv: tuple[str, ...], run: CommandRunner) -> str:
    """What the command prints; empty where it is missing or may not read the rules."""
    try:
        answer = run(argv, timeout_seconds=COMMAND_TIMEOUT_SECONDS)
    except CommandFailedError:
        return ""
    return answer.stdout if answer.status == 0 else ""
