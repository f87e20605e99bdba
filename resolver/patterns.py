"""Regular expressions that are compiled when they are first used.

Compiling the patterns of all managers takes longer than finding out that none of them is concerned.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from typing import Any, AnyStr


class _Later:
    """Stands for a compiled pattern, and becomes one when it is asked for anything."""

    __slots__ = ("_compiled", "_text")

    def __init__(self, text: str | bytes) -> None:
        self._text = text
        self._compiled: re.Pattern[Any] | None = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a pattern's methods and attributes
        if self._compiled is None:
            import re  # noqa: PLC0415 - a plain port needs none

            self._compiled = re.compile(self._text)
        return getattr(self._compiled, name)


def pattern(text: AnyStr) -> re.Pattern[AnyStr]:
    """What `re.compile` would return, flags as in `(?i)…`; a mistake shows at the first use."""
    later: Any = _Later(text)
    compiled: re.Pattern[AnyStr] = later
    return compiled
