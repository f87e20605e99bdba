"""What `nft -j list ruleset` prints (libnftables-json(5)) as rules. Pure.

A rule that looks ports up in a set or a map becomes one for each of its elements. Of iptables-nft's
rules nft lists no target: they are in `iptables_rules`.
"""

from __future__ import annotations

import json
from itertools import chain, product
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

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
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from resolver.gather.packet_rules import Destination, Network

_HOOKS = {"prerouting", "output"}  # where packets for this machine begin: others', and its own
_VERSIONS = {"ip": 4, "ip6": 6, "inet": None}
_SENDING = {"dnat", "redirect", "tproxy"}
_LEAVING = {"accept", "drop", "reject", "queue"}
_VERDICTS = {*_LEAVING, "jump", "goto", "return"}
_GOING_ON = {"counter", "log", "mangle", "notrack"}
_PROTOCOLS = {"tcp": Transport.TCP, 6: Transport.TCP, "udp": Transport.UDP, 17: Transport.UDP}
_TRUE = {("fib", "local"), ("oifname", "lo"), ("oif", "lo")}  # of every packet for this machine


class _Match(Struct, frozen=True):
    """What a rule demands of a packet; `delete` removes just this, where that can be."""

    transports: frozenset[Transport] = BOTH
    ports: tuple[tuple[int, int], ...] = EVERY_PORT
    networks: tuple[Network, ...] = ()
    elsewhere: bool = False
    certain: bool = True
    delete: tuple[str, ...] = ()
    shared: bool = False

    def __and__(self, other: _Match) -> _Match:
        """Both; of two demands about addresses the first."""
        one = self if self.networks else other
        return _Match(
            self.transports & other.transports,
            tuple(
                (max(a, c), min(b, d))
                for a, b in self.ports
                for c, d in other.ports
                if max(a, c) <= min(b, d)
            ),
            one.networks,
            one.elsewhere,
            self.certain and other.certain and not (self.networks and other.networks),
            self.delete or other.delete,
            self.shared or other.shared,
        )


_ANYTHING = _Match()
_SOMETHING = _Match(certain=False)


def ruleset(text: str) -> Ruleset:
    """The rules in what nft(8) has listed; none where it has listed nothing.

    Raises:
        ValueError: it is not of the form that is known here.
    """
    try:
        return _ruleset(json.loads(text or "{}").get("nftables", ()))
    except (AttributeError, LookupError, TypeError) as error:
        raise ValueError("nft's answer is not understood") from error


def _ruleset(entries: Sequence[Mapping[str, Any]]) -> Ruleset:
    named = {
        _key(each[kind], each[kind].get("name")): each[kind].get("elem", [])
        for each in entries
        for kind in ("set", "map")
        if kind in each
    }
    chains = [each["chain"] for each in entries if "chain" in each]
    hooks = [
        Hook(
            _key(each, each.get("name")),
            _VERSIONS[each["family"]],
            arriving=each["hook"] == "prerouting",
        )
        for each in chains
        if each.get("hook") in _HOOKS and each.get("family") in _VERSIONS
    ]
    rules = (made for each in entries if "rule" in each for made in _Reader(each["rule"], named))
    return Ruleset(tuple(hooks), tuple(rules))


def _key(entry: Mapping[str, Any], name: object) -> str:
    """Of a chain, a set or a map."""
    return f"{entry.get('family')} {entry.get('table')} {name}"


class _Reader:
    """Reads one rule; `named` has the elements of named sets and maps."""

    def __init__(self, rule: Mapping[str, Any], named: Mapping[str, list[Any]]) -> None:
        self._rule = rule
        self._named = named
        self._chain = _key(rule, rule.get("chain"))

    def __iter__(self) -> Iterator[Rule]:
        """A rule for each combination of what it demands, and of what it does then."""
        demands: list[list[_Match]] = []
        for expression in self._rule.get("expr", ()):
            name: str
            value: Any
            name, value = next(iter(expression.items()), ("", None))
            if name == "match":
                demands.append(self._demanded(value))
            elif name == "vmap":
                for match, verdict in self._looked_up(_kinds(value.get("key")), value.get("data")):
                    yield from self._judged([*demands, [match]], *next(iter(verdict.items())))
            elif name in _VERDICTS:
                yield from self._judged(demands, name, value)
            elif name in _SENDING:
                yield from self._sent(demands, value or {})
            elif name not in _GOING_ON:
                demands.append([_SOMETHING])

    def _made(self, demands: Iterable[Sequence[_Match]], **changes: Any) -> Iterator[Rule]:  # noqa: ANN401
        """The rule with each combination of its demands."""
        for combination in product(*demands):
            match = _ANYTHING
            for each in combination:
                match &= each
            words = ("nft", "delete", "rule", *self._chain.split(" "), "handle")
            yield Rule(
                self._chain,
                f"nftables {self._chain}",
                match.delete or (*words, str(self._rule.get("handle"))),
                transports=match.transports,
                ports=match.ports,
                networks=match.networks,
                elsewhere=match.elsewhere,
                certain=match.certain,
                shared=match.shared or len(match.ports) > 1 or any(a < b for a, b in match.ports),
                comment=str(self._rule.get("comment") or ""),
                **changes,
            )

    def _judged(self, demands: list[list[_Match]], name: str, value: object) -> Iterator[Rule]:
        """The rule with a verdict, such as `{"jump": {"target": "web"}}`."""
        target = value.get("target") if isinstance(value, dict) else None
        leaves = name in _LEAVING
        yield from self._made(
            demands,
            jump=_key(self._rule, target) if target else "",
            ends=leaves or name in {"goto", "return"},
            accepts=leaves,
        )

    def _sent(self, demands: list[list[_Match]], to: Mapping[str, Any]) -> Iterator[Rule]:
        """The rule with where it sends a packet, which a map may answer."""
        address, port = to.get("addr"), to.get("port")
        maps = (each["map"] for each in (address, port) if isinstance(each, dict) and "map" in each)
        chosen = next(maps, None)
        if chosen is None:
            yield from self._made(demands, targets=tuple(_targets(address, port)), ends=True)
            return
        kinds = _kinds(chosen.get("key"))
        goals = [
            (match, tuple(_goal(goal, address, port)))
            for match, goal in self._looked_up(kinds, chosen.get("data"))
        ]
        if not _has_port(kinds):  # any of them: numgen, jhash
            every = tuple(target for _, found in goals for target in found)
            goals = [(_SOMETHING, every)]
        for match, found in goals:
            yield from self._made([*demands, [match]], targets=found, ends=True)

    def _demanded(self, value: Mapping[str, Any]) -> list[_Match]:
        """What a match demands: any of these."""
        kinds, operator, right = _kinds(value.get("left")), value.get("op"), value.get("right")
        if operator in {"<", ">", "<=", ">="}:
            return [_compared(kinds, operator, right)]
        negated = operator == "!="
        by_name = isinstance(right, str) and right.startswith("@")
        if _has_port(kinds) and not negated and (by_name or len(kinds) > 1):
            return [match for match, _ in self._looked_up(kinds, right)]
        if len(kinds) > 1:
            return [_SOMETHING]
        values = [key for key, _ in self._elements(right)]
        return [_any_of(kinds[0], values, negated=negated)]

    def _looked_up(self, kinds: Sequence[str], data: object) -> Iterator[tuple[_Match, Any]]:
        """What each element of a set or map demands of a packet, and what it leads to."""
        elements = list(self._elements(data))
        for key, goal in elements:
            match = _ANYTHING
            for kind, part in zip(kinds, _parts(key), strict=False):
                match &= _any_of(kind, [part])
            delete: tuple[str, ...] = ()
            if isinstance(data, str) and _has_port(kinds):
                name = _key(self._rule, data.removeprefix("@")).split(" ")
                delete = ("nft", "delete", "element", *name, f"{{ {_text(key)} }}")
            yield replace(match, delete=delete, shared=len(elements) > 1 and not delete), goal

    def _elements(self, right: object) -> Iterator[tuple[Any, Any]]:
        """The keys of a set or map, each with what it leads to; of another value itself."""
        if isinstance(right, str) and right.startswith("@"):
            found = self._named.get(_key(self._rule, right.removeprefix("@")), [])
        else:
            found = right["set"] if isinstance(right, dict) and "set" in right else [right]
        for each in found:
            key, goal = each if isinstance(each, list) else (each, None)
            yield _plain(key), _plain(goal)


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    """An element without its time and comment."""
    return value["elem"]["val"] if isinstance(value, dict) and "elem" in value else value


def _parts(value: object) -> list[Any]:
    """The parts of what is concatenated, or the one value."""
    return value["concat"] if isinstance(value, dict) and "concat" in value else [value]


def _kinds(left: object) -> list[str]:
    """What each part of a key is: `tcp port`, `address`, `protocol`, …; "" where not understood."""
    return [_kind(each) if isinstance(each, dict) else "" for each in _parts(left)]


def _kind(left: Mapping[str, Any]) -> str:
    payload, fib = left.get("payload") or {}, left.get("fib") or {}
    field, key = payload.get("field"), (left.get("meta") or {}).get("key")
    if field == "dport":
        return f"{payload.get('protocol')} port"
    if field in {"protocol", "nexthdr"} or key == "l4proto":
        return "protocol"
    if fib.get("result") == "type" and "daddr" in fib.get("flags", ()):
        return "fib"
    return "address" if field == "daddr" else str(key or "")


def _has_port(kinds: Iterable[str]) -> bool:
    return any(kind.endswith(" port") for kind in kinds)


def _any_of(kind: str, values: Sequence[Any], *, negated: bool = False) -> _Match:
    """What is demanded where a part of a packet is any of these, or none of them."""
    if kind.endswith(" port"):
        found = tuple(port for value in values if (port := _port(value)))
        transport = _PROTOCOLS.get(kind.removesuffix(" port"))
        transports = frozenset({transport}) if transport else BOTH
        return _Match(transports, other_ports(found) if negated else found)
    if kind == "address":
        known = [networks(*_text(value).split("-")) for value in values]
        if not all(known):
            return _SOMETHING
        return _Match(networks=tuple(chain.from_iterable(known)), elsewhere=negated)
    if kind == "protocol":
        known_ones = [each for each in values if isinstance(each, (str, int))]
        if len(known_ones) < len(values):
            return _SOMETHING
        protocols = frozenset(_PROTOCOLS[each] for each in known_ones if each in _PROTOCOLS)
        return _Match(BOTH - protocols if negated else protocols)
    return _Match(certain=not negated and all((kind, str(value)) in _TRUE for value in values))


def _compared(kinds: Sequence[str], operator: str, right: object) -> _Match:
    if len(kinds) > 1 or not _has_port(kinds) or not isinstance(right, int):
        return _SOMETHING
    last = EVERY_PORT[0][1]
    first, last = {
        "<": (0, right - 1),
        "<=": (0, right),
        ">": (right + 1, last),
        ">=": (right, last),
    }[operator]
    return _any_of(kinds[0], [{"range": [first, last]}])


def _port(value: object) -> tuple[int, int] | None:
    """The first and the last port of what nft(8) lists as one."""
    if isinstance(value, dict) and "range" in value:
        first, last = value["range"]
        return int(first), int(last)
    return (value, value) if isinstance(value, int) else None


def _goal(goal: object, address: object, port: object) -> Iterator[Destination]:
    """Where an element of a map leads: to an address, an address with its port, or a port."""
    parts = _parts(goal)
    if len(parts) > 1:
        yield from _targets(*parts[:2])
    elif isinstance(address, dict) and "map" in address:
        yield from _targets(goal, port)
    else:
        yield from _targets(address, goal)


def _targets(address: object, port: object) -> Iterator[Destination]:
    """Where an address, or a range of them, and a port, or a range of them, are."""
    first, last = _port(port) or (0, 0)
    text = f"{_text(address)}:{_text(port)}" if port else _text(address)
    if address is None:
        yield from targets(f"port {_text(port)}", (), first, last)
    else:
        yield from targets(text, list(hosts(*_text(address).split("-"))), first)


def _text(value: object) -> str:
    """As nft(8) writes it."""
    if not isinstance(value, dict):
        return str(value)
    if "prefix" in value:
        return f"{value['prefix'].get('addr')}/{value['prefix'].get('len')}"
    if "range" in value:
        return "-".join(map(str, value["range"]))
    return " . ".join(map(_text, _parts(value)))
