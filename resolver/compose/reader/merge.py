"""Trees: variables filled in, one laid over another, and what `!reset` and `!override` forget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resolver.compose.reader.tree import Budget, Items, Table, Text, copy, like, place_of
from resolver.errors import UsageError
from resolver.interpolation import interpolate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from resolver.compose.reader.document import Route


def fill(value: Any, environ: Mapping[str, str], budget: Budget) -> Any:  # noqa: ANN401 - a tree
    """The tree with its variables filled in: values, not keys, all of them text.

    Raises:
        UsageError: a required variable is missing, or a brace makes no sense.
    """
    budget.spend(place_of(value))
    if isinstance(value, Table):
        return like(value, ((key, fill(each, environ, budget)) for key, each in value.items()))
    if isinstance(value, Items):
        return like(value, (fill(each, environ, budget) for each in value))
    if not isinstance(value, Text) or "$" not in value:
        return value
    try:
        filled = interpolate(value, environ.get)
    except UsageError as error:
        raise UsageError(f"{value.place}: {error}") from error
    return value.filled(filled.text, filled.unset)


def forget(tree: Table, routes: Iterable[Route]) -> None:
    """Drops what stands at the end of each route."""
    for route in routes:
        inner: Any = tree
        for key in route[:-1]:
            inner = inner.get(key) if isinstance(inner, Table) else None
        if isinstance(inner, Table) and route:
            inner.pop(route[-1], None)


def lay(upper: Any, lower: Any) -> Any:  # noqa: ANN401 - trees have any shape
    """The lower tree with the upper one over it: mappings by key, lists one after the other.

    Where the two are of different kinds the upper one is taken: compose has rules of its own for
    many keys (a `build:` may be a text or a mapping), none of which has to do with ports.
    """
    if upper is None or lower is None:
        return lower if upper is None else upper
    if isinstance(lower, Table) and isinstance(upper, Table):
        made = like(upper, lower.items())
        for key, value in upper.items():
            made[key] = value if key.startswith("x-") else lay(value, lower.get(key))
        return made
    if isinstance(lower, Items) and isinstance(upper, Items):
        return like(upper, [*lower, *upper])
    return upper


def extended(
    name: str, service: Table, base: Table, routes: Iterable[Route], budget: Budget
) -> Table:
    """A service over a copy of its base, of which the routes forget what they name of `name`."""
    source = copy(base, budget)
    forget(
        source,
        (route[2:] for route in routes if len(route) > 2 and route[:2] == ("services", name)),  # noqa: PLR2004 - below services.NAME
    )
    made: Table = lay(service, source)
    made.pop("extends", None)
    return made
