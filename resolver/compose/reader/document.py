"""A YAML text → its documents, with the rules that compose's YAML has.

The nodes are made into a tree here, not by the YAML library's own constructor: that one knows
nothing of places, of `!reset` and `!override`, nor of what a bomb of aliases costs. The scalars are
those of Go's yaml.v3, which compose uses: YAML 1.2's, and 1.1's octal `0777`, but not its `22:22`,
`yes` and `on`, which are text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from resolver.compose.reader.nodes import roots
from resolver.compose.reader.tree import DEEPEST, Budget, Items, Number, Place, Table, Text
from resolver.errors import UsageError
from resolver.interpolation import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.compose.reader.nodes import Node

    Route = tuple[str, ...]

_INT = re.compile(r"([-+]?)(0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|0|[1-9][0-9]*)", re.ASCII)
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)"
    r"|\.(?:nan|NaN|NAN)",
    re.ASCII,
)
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_BASES = {"x": 16, "o": 8, "b": 2}
_WIDEST = 1 << 63
_DROPPED = object()


class Document(Struct, frozen=True):
    """One document: its value, and the routes of what it marks `!reset` or `!override`.

    A route is the keys from the top: what stands there in the files before is to be forgotten.
    """

    value: Any
    forgotten: tuple[Route, ...] = ()


def documents(text: str, path: Path, budget: Budget) -> Iterator[Document]:
    """The documents of a file, in order; none where there is nothing but comments.

    Raises:
        UsageError: it is no YAML, or a bomb, with the line where that is known.
    """
    for node in roots(text, path):
        builder = _Builder(path, budget)
        top = builder.build(node, ())
        yield Document(None if top is _DROPPED else top, tuple(builder.forgotten))


class _Builder(Struct):
    """Makes a document's tree of its nodes, with every alias written out."""

    path: Path
    budget: Budget
    forgotten: list[Route] = field(default_factory=list)

    def build(self, node: Node, route: Route) -> Any:  # noqa: ANN401 - a tree has any shape
        """The tree below a node, or `_DROPPED` where it is reset."""
        self.budget.spend(self.place(node))
        if len(route) > DEEPEST:
            raise self.bad(node, f"more than {DEEPEST} levels deep, or an alias within itself")
        if node.tag in {"!reset", "!override"}:
            self.forgotten.append(route)
            if node.tag == "!reset":
                return _DROPPED
        if node.kind == "mapping":
            return self.table(node, route)
        if node.kind == "list":
            return self.items(node, route)
        return _scalar(node, self.place(node))

    def items(self, node: Node, route: Route) -> Items:
        """A list; an entry that is reset is left out."""
        values = (self.build(each, (*route, "[]")) for each in node.value)
        made = Items(value for value in values if value is not _DROPPED)
        made.place = self.place(node)
        return made

    def table(self, node: Node, route: Route) -> Table:
        """A mapping: its own keys win over those that `<<` brings."""
        made, merged = Table(), Table()
        made.place = self.place(node)
        seen: set[str] = set()
        for key_node, value_node in node.value:
            if key_node.plain and key_node.value == "<<":
                self.merge(value_node, route, merged)
                continue
            key = self.key(key_node, seen)
            value = self.build(value_node, (*route, key))
            if value is not _DROPPED:
                made[key] = value
        made.update((key, value) for key, value in merged.items() if key not in seen)
        return made

    def key(self, node: Node, seen: set[str]) -> str:
        """A key, which compose wants to be text, and once."""
        value = _scalar(node, self.place(node)) if node.kind == "scalar" else None
        if not isinstance(value, str):
            raise self.bad(node, "a key is text, in quotes if need be")
        if value in seen:
            raise self.bad(node, f"the key {shown(value)} is there twice")
        seen.add(str(value))
        return str(value)

    def merge(self, node: Node, route: Route, into: Table) -> None:
        """`<<: *anchor`, or a list of them, the first of which wins."""
        for each in node.value if node.kind == "list" else [node]:
            value = self.build(each, (*route, "<<")) if each.kind == "mapping" else None
            if not isinstance(value, Table):
                raise self.bad(each, "<< merges mappings only")
            for key, inner in value.items():
                into.setdefault(key, inner)

    def place(self, node: Node) -> Place:
        """Where it stands; for an alias, where its anchor does."""
        return Place(self.path, node.line)

    def bad(self, node: Node, why: str) -> UsageError:
        """The error that names the node's place."""
        return UsageError(f"{self.place(node)}: {why}")


def _scalar(node: Node, place: Place) -> Any:  # noqa: ANN401 - a scalar has any type
    kind = node.tag.rpartition(":")[2] if node.tag.startswith("tag:yaml.org") else ""
    if kind == "str" or not (node.plain or kind in {"int", "float", "bool", "null"}):
        return Text(node.value, place)
    if node.value in _WORDS:
        return _WORDS[node.value]
    digits = node.value.replace("_", "")
    if match := _INT.fullmatch(digits):
        return _whole(match[1], match[2].lower(), place)
    if _FLOAT.fullmatch(digits):
        return float(digits.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return Text(node.value, place)


def _whole(sign: str, digits: str, place: Place) -> Number | float:
    """A whole number; a float where it does not fit 64 bits, and is no port anyhow."""
    base = _BASES.get(digits[1:2], 8 if digits[0] == "0" else 10)
    bare = digits[2:] if digits[1:2] in _BASES else digits
    if len(bare) > _WIDEST.bit_length():
        return float("inf")
    number = Number(f"{sign}{bare}", base)
    number.place = place
    return number if abs(number) < _WIDEST else float(number)
