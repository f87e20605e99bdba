"""Values ↔ JSON: `msgspec.Struct`s in and out, checked by their types. PURE."""

from __future__ import annotations

import json
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec
from msgspec import Struct
from msgspec.json import Decoder

from resolver import __version__

if TYPE_CHECKING:
    from collections.abc import Hashable

T = TypeVar("T")
S = TypeVar("S", bound=Struct)
_LEARNING = Lock()


class Tool(Struct, frozen=True):
    """Who answers."""

    name: str = "ultra-ports"
    version: str = __version__


class Envelope(Struct, frozen=True, kw_only=True, tag_field="schema"):
    """What every machine-readable answer begins with; keys are always present.

    `schema`, the `tag` of each, is public API: it changes when the shape does.
    """

    tool: Tool = Tool()


def entry(shape: type[S], value: object, **others: object) -> S:
    """What an envelope says of a value: each field is the value's attribute of the same name.

    Args:
        shape: the entry's struct; a field that the value has no attribute for keeps its default.
        value: any of this package's values.
        others: the fields that say something else.
    """
    names = [each for each in shape.__struct_fields__ if each not in others]
    same = {name: getattr(value, name) for name in names if hasattr(value, name)}
    return shape(**same, **others)


class JsonError(ValueError):
    """A text is no JSON, or has not the shape that was expected; says where, in one line."""


def encode(value: object, *, indent: int | None = 2) -> str:
    """The value as JSON, in ASCII; `indent` None keeps it on one line.

    Names of programs and files may be bytes that are no UTF-8 (surrogates, os.fsdecode); json
    escapes those, msgspec would refuse them.
    """
    return json.dumps(msgspec.to_builtins(value), indent=indent)


def decode(text: str, shape: type[T]) -> T:
    """The value that the text has.

    Raises:
        JsonError: it is not JSON, or something in it is not of the type that `shape` asks for.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise JsonError("it is not JSON") from None
    try:
        return convert(found, shape)
    except (msgspec.ValidationError, RecursionError) as error:
        raise JsonError(str(error) or "it is nested too deeply") from None


def convert(value: object, shape: type[T]) -> T:
    """The value that builtin ones stand for, in any thread.

    What msgspec knows of a type it learns at its first use, and two threads that do so at once
    crash the process (0.22). So one learns at a time, and whoever converts comes after that.

    Raises:
        msgspec.ValidationError: something in it is not of the type that `shape` asks for.
    """
    with _LEARNING:
        _learn(cast("Hashable", shape))
    return msgspec.convert(value, shape)


@cache
def _learn(shape: Hashable) -> None:
    Decoder(shape)
