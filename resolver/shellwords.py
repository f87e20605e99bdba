"""Words → a line for a POSIX shell, as `shlex` quotes them, which is loaded for odd words only."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@%_-+=:,./")


def join(words: Iterable[str]) -> str:
    """What `shlex.join` returns."""
    return " ".join(map(quote, words))


def quote(word: str) -> str:
    """What `shlex.quote` returns."""
    if word and _PLAIN.issuperset(word):
        return word
    import shlex  # noqa: PLC0415 - it loads re, and most words are plain

    return shlex.quote(word)
