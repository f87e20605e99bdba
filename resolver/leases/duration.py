"""Times to live such as `90s` and `2d`."""

from __future__ import annotations

import re

from resolver.errors import UsageError

LONGEST_DAYS = 366
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_GRAMMAR = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)


def seconds(text: str) -> float:
    """The time in seconds.

    Raises:
        UsageError: it is no time, or not from one second to a year.
    """
    match = _GRAMMAR.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"{text[:40]!a} is no time: it is a number and a unit, as 90s, 10m, 8h, 2d"
        )
    found = int(match[1]) * _UNITS[match[2]]
    if not 1 <= found <= LONGEST_DAYS * _UNITS["d"]:
        raise UsageError(f"{text[:40]!a} is not a time from 1s to {LONGEST_DAYS}d")
    return float(found)
