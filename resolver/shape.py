"""JSON from strangers: whether a value has the shape that is expected of it. PURE.

A shape is a type, a dict of shapes (all of them, and nothing else), a list with the shape of its
entries, or a tuple `(shape, None)` for what may be null.
"""

from __future__ import annotations

_DEEPEST = 12  # levels of nesting where the shape leaves them open


def misfit(value: object, shape: object, where: str = "the file") -> str:
    """What does not have the given shape, in words; empty where all of it has."""
    inner: list[tuple[object, object, str]] = []
    match shape:
        case dict():
            if not isinstance(value, dict) or value.keys() != shape.keys():
                return f"{where} has not the parts {', '.join(shape)}"
            inner = [(value[key], part, repr(key)) for key, part in shape.items()]
        case list():
            if not isinstance(value, list):
                return f"{where} is not a list"
            inner = [(each, shape[0], f"an entry of {where}") for each in value]
        case tuple():
            inner = [] if value is None else [(value, shape[0], where)]
        case _ if type(value) is not shape or not _is_flat(value, _DEEPEST):
            return f"{where} is of the wrong type"
        case _:
            pass
    return next(filter(None, (misfit(*each) for each in inner)), "")


def _is_flat(value: object, levels: int) -> bool:
    """Whether nothing in it is nested deeper than so many levels."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_flat(each, levels - 1) for each in inner)
