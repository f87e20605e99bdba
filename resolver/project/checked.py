"""Tables of the project file → structs; each error names the key and what was expected there."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, ValidationError

from resolver.errors import UsageError
from resolver.json_text import convert

_LONGEST = 80  # characters of a quoted value


def checked(value: object, kind: Any, where: str) -> Any:  # noqa: ANN401 - typed by the callers
    """The value as one of this type; `where` is the dotted key that it stands behind.

    Raises:
        UsageError: it is none.
    """
    if isinstance(kind, type) and issubclass(kind, Struct) and isinstance(value, dict):
        for key in value.keys() - set(kind.__struct_fields__):
            raise unknown(key, kind.__struct_fields__, where)
    try:
        return convert(value, kind)
    except (ValidationError, OverflowError, RecursionError) as error:
        message, _, path = str(error).partition(" - at `$")
        key = f"{where}{path.rstrip('`')}".lstrip(".") or "the project file"
        raise UsageError(f"{key}: {_in_words(message)}") from error


def _in_words(message: str) -> str:
    """What msgspec says, in TOML's words, and with an example in the place of an expression."""
    text = message.lower().replace("object", "table").replace("array", "list")
    said, regex, _ = text.partition("`str` matching regex")
    if not regex:
        return text
    example = "a name such as API_PORT" if "[A-Za-z_]" in message else "a range such as 8000-8099"
    return f"{said}{example}"


def unknown(key: object, known: Any, where: str) -> UsageError:  # noqa: ANN401
    """What is said of a key that there is not."""
    names = ", ".join(sorted(known)) or "none"
    return UsageError(f"{where or 'the project file'} has no {shown(key)} (there are: {names})")


def shown(value: object) -> str:
    """A value as a message quotes it: in ASCII, and cut."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # a number of 5000 digits, a table of 5000 levels
        return "such a value"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
