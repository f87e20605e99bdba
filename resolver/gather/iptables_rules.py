"""What iptables-save(8) lists, of the tables nat and mangle, as rules. Pure."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.gather.packet_rules import (
    BOTH,
    EVERY_PORT,
    Hook,
    Rule,
    Ruleset,
    hosts,
    networks,
    other_ports,
    targets,
)
from resolver.model import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resolver.gather.packet_rules import Destination

_TABLES = ("nat", "mangle")
_HOOKS = ("PREROUTING", "OUTPUT")  # where packets for this machine begin: others', and its own
_SENDING = {"DNAT", "REDIRECT", "TPROXY", "NETMAP"}
_LEAVING = {"ACCEPT", "DROP"}
_GOING_ON = {"MARK", "CONNMARK", "LOG", "NFLOG", "CT", "TCPMSS", "DSCP", "TOS", "TTL", "HL"}
_GOING_ON |= {"CONNSECMARK", "SECMARK", "CLASSIFY", "TRACE", "TEE", "SET", "NOTRACK", "IDLETIMER"}
_PORTS = {"--dport", "--dports", "--ports"}
# Which packets for this machine all meet, and what is no condition at all
_TRUE = {("-o", "lo"), ("--dst-type", "LOCAL")}
_NO_CONDITIONS = {"-m", "-j", "-g", "--comment", "-p", "-d"} | _PORTS
_QUOTED = r"[\"'\\]"
_ADDRESSES = r"\[?(?P<first>[\da-fA-F.:]*?)(?:-(?P<last>[\da-fA-F.:]+?))?\]?"
_DESTINATION = rf"{_ADDRESSES}(?::(?P<port>\d+)(?:-\d+)?)?\Z"
_BARE_IPV6 = r"[\da-fA-F]*:[\da-fA-F:]*:[\da-fA-F.:]*(?:-[\da-fA-F:.]+)?\Z"


class _Option(Struct, frozen=True):
    """`! --dport 80`: its name, its value, and whether it is negated."""

    name: str
    value: str
    negated: bool


def ruleset(tool: str, text: str) -> Ruleset:
    """The rules in what a tool has listed: `iptables`, `ip6tables`, or one of their backends."""
    version = 6 if tool.startswith("ip6") else 4
    hooks = [
        Hook(f"{table} {chain}", version, arriving=chain == "PREROUTING")
        for table in _TABLES
        for chain in _HOOKS
    ]
    return Ruleset(tuple(hooks), tuple(_rules(tool, text)))


def _rules(tool: str, text: str) -> Iterator[Rule]:
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith("-A ") and table in _TABLES:
            try:  # which takes a hundred times as long
                words = shlex.split(line) if re.search(_QUOTED, line) else line.split()
            except ValueError:
                continue
            yield _rule(tool, table, words)


def _rule(tool: str, table: str, words: Sequence[str]) -> Rule:
    options = list(_options(words[2:]))
    found = {each.name: each for each in options}
    jump = next((found[name].value for name in ("-j", "-g") if name in found), "")
    transports = BOTH
    if (protocol := found.get("-p")) and protocol.value != "all":
        transports = frozenset(each for each in Transport if each == protocol.value)
        transports = BOTH - transports if protocol.negated else transports
    address = found.get("-d")
    conditions = [each for each in options if not _is_no_condition(each, jump)]
    return Rule(
        f"{table} {words[1]}",
        f"{tool} chain {words[1]}",
        (tool, "-t", table, "-D", *words[1:]),
        transports=transports,
        ports=_ports(options),
        networks=networks(address.value) if address else (),
        elsewhere=bool(address and address.negated),
        certain=not conditions,
        targets=tuple(_targets(jump, found)),
        jump=f"{table} {jump}" if _is_chain(jump) else "",
        ends="-g" in found or jump in {*_LEAVING, *_SENDING, "RETURN"},
        accepts=jump in _LEAVING,
        shared=len(_ports(options)) > 1 or any(a < b for a, b in _ports(options)),
        comment=found["--comment"].value if "--comment" in found else "",
    )


def _options(words: Sequence[str]) -> Iterator[_Option]:
    """Each option with its value; one without a value has an empty one."""
    negated, rest = False, list(words)
    while rest:
        name = rest.pop(0)
        if name == "!":
            negated = True
            continue
        is_value = bool(rest) and (name == "--comment" or not re.match(r"-|!\Z", rest[0]))
        yield _Option(name, rest.pop(0) if is_value else "", negated)
        negated = False


def _is_no_condition(option: _Option, jump: str) -> bool:
    """Whether every packet for this machine meets it, or it is the target's own."""
    if (option.name, option.value) in _TRUE:
        return not option.negated
    if option.name in _NO_CONDITIONS:
        return not (option.name == "--ports" or (option.name == "-m" and option.value == "socket"))
    return jump in _SENDING and option.name in {
        "--to-destination", "--to-ports", "--to", "--on-port", "--on-ip", "--tproxy-mark",
        "--random", "--persistent",
    }  # fmt: skip


def _is_chain(jump: str) -> bool:
    return bool(jump) and jump not in _SENDING | _LEAVING | _GOING_ON | {"RETURN"}


def _ports(options: Sequence[_Option]) -> tuple[tuple[int, int], ...]:
    """Of `--dport 80:90` and `-m multiport --dports 80,90:99`."""
    for option in (each for each in options if each.name in _PORTS):
        found = []
        for part in option.value.split(","):
            first, _, last = part.partition(":")
            if first.isdigit() and (last or first).isdigit():
                found.append((int(first), int(last or first)))
        return other_ports(found) if option.negated else tuple(found)
    return EVERY_PORT


def _targets(jump: str, found: dict[str, _Option]) -> Iterator[Destination]:
    """Where `-j DNAT --to-destination 10.0.0.2-10.0.0.4:80` and its like may send a packet."""
    given = {name: each.value for name, each in found.items()}
    if jump == "REDIRECT":
        first, _, last = given.get("--to-ports", "").partition("-")
        yield from _of_this_machine(first, last)
    elif jump == "TPROXY":
        yield from _of_this_machine(given.get("--on-port", ""), "")
    elif jump in {"DNAT", "NETMAP"}:
        text = given.get("--to-destination") or given.get("--to", "")
        yield from _of_a_destination(text.removesuffix("/32").removesuffix("/128"))


def _of_this_machine(first: str, last: str) -> Iterator[Destination]:
    port = int(first) if first.isdigit() else 0
    text = f"port {first or 'of the same number'}" + (f"-{last}" if last else "")
    yield from targets(text, (), port, int(last) if last.isdigit() else 0)


def _of_a_destination(text: str) -> Iterator[Destination]:
    is_bare = re.match(_BARE_IPV6, text)
    first, _, last = text.partition("-") if is_bare else ("", "", "")
    port = 0
    if not is_bare and (match := re.match(_DESTINATION, text)):
        first, last = match["first"], match["last"] or ""
        port = int(match["port"] or 0)
    known = list(hosts(first, last))
    if known or (port and not first):
        yield from targets(text or f"port {port}", known, port)
