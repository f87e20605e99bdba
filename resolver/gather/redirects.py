"""NAT rules that capture a port although no socket has it: nftables and iptables, when readable.

A container's own rule belongs to the container; one that is left over, or that Kubernetes made for
a `hostPort`, sends what arrives to somewhere else while a plain bind still succeeds.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from resolver.errors import CommandFailedError
from resolver.host.netfilter import may_redirect, old_nat_tables
from resolver.model import ANY_IPV4, Redirect, Transport
from resolver.settings import COMMAND_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from resolver.model import PortRequest
    from resolver.protocols import CommandRunner

_SAVES = ("iptables", "ip6tables")
_BACKENDS = (
    "legacy",
    "nft",
)  # xtables-nft(8): each shows its own rules, and is one of them by name
# Jumps into chains of these lead to a DNAT of their own (kube-proxy's and the CNI plug-ins' names)
_LEADING = r"(?:KUBE|CNI)-"


class Nat(Struct, frozen=True):
    """The NAT rules on the requested ports, and whether rules could be read at all.

    `unlisted`: the kernel says that there are some, and no tool here lists any.
    """

    readable: bool
    redirects: tuple[Redirect, ...] = ()
    unlisted: bool = False


UNREAD = Nat(readable=False)


def list_redirects(requests: Collection[PortRequest] | None, run: CommandRunner) -> Nat:
    """The rules that capture any of the requested ports; only root may read them.

    The tools are run only where the kernel says that some rule could matter.
    """
    if requests is None or sys.platform != "linux" or os.geteuid() != 0:
        return UNREAD
    may = may_redirect()
    return _listed(requests, run) if may else Nat(may is not None)


def _listed(requests: Collection[PortRequest], run: CommandRunner) -> Nat:
    found: dict[object, Redirect] = {}
    saved = {tool: _output((f"{tool}-save", "-t", "nat"), run) for tool in _tools()}
    for tool, text in saved.items():
        for rule in _of_iptables(tool, text):
            found.setdefault((tool.partition("-")[0], rule.delete[1:]), rule)
    ruleset = _output(("nft", "-j", "list", "ruleset"), run)
    rules = [*found.values(), *_of_nftables(ruleset)]
    wanted = {rule for rule in rules if any(rule.captures(request) for request in requests)}
    unlisted = not ruleset and not any("-A " in text for text in saved.values())
    return Nat(readable=True, redirects=tuple(sorted(wanted)), unlisted=unlisted)


def _tools() -> Iterator[str]:
    """The default ones, and those of each backend that the kernel has tables of.

    To list the old tables would load them where they are not there.
    """
    yield from _SAVES
    old = old_nat_tables()
    for backend in _BACKENDS:
        for tool in _SAVES:
            if (backend == "nft" or tool in old) and not _is_default(tool, backend):
                yield f"{tool}-{backend}"


def _is_default(tool: str, backend: str) -> bool:
    """Whether the tool that is called by its plain name is this one (update-alternatives(1))."""
    try:
        path = os.readlink(f"/etc/alternatives/{tool}-save")
    except OSError:
        return False
    return os.path.basename(path) == f"{tool}-{backend}-save"


def _of_iptables(tool: str, text: str) -> Iterator[Redirect]:
    for line in text.splitlines():
        if line.startswith("-A "):
            yield from parse_rule(tool, line)


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
            )


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
    for entry in answer.get("nftables", ()):
        if isinstance(entry, dict) and isinstance(entry.get("rule"), dict):
            yield from parse_nftables(entry["rule"])


def parse_nftables(rule: dict[str, Any]) -> Iterator[Redirect]:
    """The redirects in one rule of `nft -j list ruleset` (libnftables-json(5))."""
    target, ports, transport = None, None, None
    for expression in rule.get("expr", ()):
        if "dnat" in expression or "redirect" in expression:
            target = _nft_target(expression)
        left = expression.get("match", {}).get("left", {})
        payload = left.get("payload", {}) if isinstance(left, dict) else {}
        if payload.get("field") == "dport" and expression["match"].get("op") in {"==", "in"}:
            transport, ports = payload.get("protocol"), expression["match"].get("right")
    if target is None or transport not in list(Transport):
        return
    family, table, chain = rule.get("family"), rule.get("table"), rule.get("chain")
    where_it_is = (str(family), str(table), str(chain), "handle", str(rule.get("handle")))
    for first, last in _nft_ports(ports):
        where = f"nftables {family} {table} {chain}"
        yield Redirect(
            Transport(transport),
            first,
            last,
            target,
            where,
            ("nft", "delete", "rule", *where_it_is),
        )


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
