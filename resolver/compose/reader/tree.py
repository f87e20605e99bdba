"""The tree of a compose file: what YAML said, with the place where it said it.

Mappings, lists, texts and whole numbers are subclasses of Python's own that remember their place,
since a message without one is of little use; the rest (bool, float, None) is Python's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from msgspec import Struct

from resolver.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LARGEST = 1 << 20  # bytes of one file; 1 MiB takes about 3 s to parse
MOST_BYTES = 4 << 20  # of all the files together
MOST_NODES = 250_000  # with every alias written out, and each time that a file or service is used
DEEPEST = 60  # levels of nesting


class Place(Struct, frozen=True):
    """A line of a file, counted from 1; line 0 is the file as a whole."""

    path: Path
    line: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else str(self.path)

    def seen_from(self, folder: Path) -> str:
        """The same, shorter where the file is in the folder."""
        near = self.path.is_relative_to(folder)
        return f"{self.path.relative_to(folder) if near else self.path}:{self.line}"


class Table(dict[str, Any]):
    """A mapping."""

    place: Place | None = None


class Items(list[Any]):
    """A list."""

    place: Place | None = None


class Text(str):
    """A scalar that is text; `unset` names the variables that left nothing in it."""

    __slots__ = ("place", "unset", "written")
    place: Place | None
    unset: tuple[str, ...]
    written: str

    def __new__(cls, text: str, place: Place | None = None) -> Self:
        """A text as it stands in the file."""
        self = super().__new__(cls, text)
        self.place, self.unset, self.written = place, (), text
        return self

    def filled(self, text: str, unset: tuple[str, ...]) -> Self:
        """The same with its variables filled in."""
        other = type(self)(text, self.place)
        other.unset, other.written = unset, self.written
        return other


class Number(int):
    """A scalar that is a whole number."""

    place: Place | None = None


class Budget(Struct):
    """What is left of the limits for one project: a bomb is refused before it hurts."""

    nodes: int = MOST_NODES
    size: int = MOST_BYTES

    def spend(self, place: object) -> None:
        """Counts one node.

        Raises:
            UsageError: there were too many.
        """
        self.nodes -= 1
        if self.nodes < 0:
            where = f"{place}: " if place else ""
            raise UsageError(f"{where}more than {MOST_NODES} values, with aliases written out")

    def read(self, size: int, path: Path) -> None:
        """Counts a file.

        Raises:
            UsageError: it is too large, or there were too many.
        """
        self.size -= size
        if size > LARGEST or self.size < 0:
            raise UsageError(f"{path}: more than {LARGEST >> 20} MiB is no compose file")


def place_of(of: object) -> Place | None:
    """Where a value stands; None where it has no place of its own."""
    return getattr(of, "place", None)


def copy(tree: Any, budget: Budget) -> Any:  # noqa: ANN401 - a tree has any shape
    """A tree of its own, but for the scalars, which nobody changes."""
    budget.spend(place_of(tree))
    if isinstance(tree, Table):
        return like(tree, ((key, copy(each, budget)) for key, each in tree.items()))
    if isinstance(tree, Items):
        return like(tree, (copy(each, budget) for each in tree))
    return tree


def like(given: Any, inner: Iterable[Any]) -> Any:  # noqa: ANN401 - a table or a list
    """A table or a list with other contents, and all that is known of the given one."""
    made = type(given)(inner)
    vars(made).update(vars(given))
    return made
