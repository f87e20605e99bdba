"""A YAML text → the nodes that the parser saw, bounded in size, depth and patience."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from ruamel.yaml import YAML, events
from ruamel.yaml.error import YAMLError

from resolver.compose.reader.tree import DEEPEST, Place
from resolver.errors import UsageError
from resolver.interpolation import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SURROGATE = re.compile("[\ud800-\udfff]")


class Node(Struct):
    """A scalar (its value is its text), a list (nodes), or a mapping (pairs of nodes).

    `plain` marks a scalar without quotes. An alias is the node itself, in one more place.
    """

    kind: str
    value: Any
    tag: str
    plain: bool
    line: int


def roots(text: str, path: Path) -> Iterator[Node]:
    """The root of each document, in order; none where there is nothing but comments.

    Raises:
        UsageError: it is no YAML, or too deep, with the line where that is known.
    """
    try:
        yield from _roots(text, path)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it has characters that YAML does not allow"
        place = Place(path, mark.line + 1 if mark else 0)
        raise UsageError(f"{place}: no YAML: {ascii(problem)[1:-1]}") from error
    except (ValueError, OverflowError) as error:  # an escape that is no character: "\UFFFFFFFF"
        raise UsageError(f"{path}: no YAML: {ascii(str(error))[1:-1]}") from error


def _roots(text: str, path: Path) -> Iterator[Node]:
    root: list[Node] = []
    open_: list[Node] = []
    anchors: dict[str, Node] = {}
    for event in YAML(typ="safe", pure=True).parse(text):
        match event:
            case events.DocumentStartEvent():
                root, open_, anchors = [], [], {}
            case events.DocumentEndEvent():
                yield from root
            case events.CollectionEndEvent():
                _close(open_.pop())
            case events.NodeEvent():
                node = _node(event, path, anchors)
                (open_[-1].value if open_ else root).append(node)
                if isinstance(event, events.CollectionStartEvent):
                    open_.append(node)
            case _:
                pass
        if len(open_) > DEEPEST:  # before the parser looks further: that can take it an hour
            raise UsageError(f"{Place(path, open_[-1].line)}: more than {DEEPEST} levels deep")


def _node(event: Any, path: Path, anchors: dict[str, Node]) -> Node:  # noqa: ANN401 - untyped there
    """The node that an event begins, or the one that an alias stands for."""
    line = event.start_mark.line + 1
    if isinstance(event, events.AliasEvent):
        if event.anchor not in anchors:
            raise UsageError(f"{Place(path, line)}: there is no anchor {shown(event.anchor)}")
        return anchors[event.anchor]
    tag = str(event.tag or "")
    if isinstance(event, events.ScalarEvent):
        if _SURROGATE.search(event.value):  # "\\ud83d": half a character, as JSON has it
            raise UsageError(f"{Place(path, line)}: no YAML: an escape that is no character")
        node = Node("scalar", event.value, tag, event.style in {None, ""}, line)
    else:
        kind = "mapping" if isinstance(event, events.MappingStartEvent) else "list"
        node = Node(kind, [], tag, plain=False, line=line)
    if event.anchor:
        anchors[event.anchor] = node
    return node


def _close(node: Node) -> None:
    """A mapping's keys and values came one after the other: now they are pairs."""
    if node.kind == "mapping":
        node.value = list(zip(node.value[::2], node.value[1::2], strict=True))
