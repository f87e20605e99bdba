"""What was measured, and the table that shows it. Nothing is run here."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD = ("case", "what", "against", "ratio", "middle half", "target", "met", "times", "n")
NONE = "-"


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison. `exact` rows are counted, not timed, and may be judged anywhere."""

    case: str
    what: str
    against: str
    value: str = NONE
    spread: str = NONE
    target: str = NONE
    met: bool | None = None
    times: str = NONE
    count: int = 0
    exact: bool = False

    def cells(self) -> tuple[str, ...]:
        """The row as the table shows it."""
        met = NONE if self.met is None else ("yes" if self.met else "NO")
        measured = (self.value, self.spread, self.target, met, self.times)
        return (self.case, self.what, self.against, *measured, str(self.count or NONE))


def absent(case: str, what: str, reason: str) -> Row:
    """A row that could not be measured here."""
    return Row(case, what, f"not measured: {reason}")


def counted(case: str, what: str, number: int, most: int, why: str = "") -> Row:
    """A number that must not be larger than another."""
    return Row(case, what, why, str(number), NONE, f"≤ {most}", number <= most, exact=True)


def compared(
    names: tuple[str, str, str],
    ours: Sequence[float],
    theirs: Sequence[float],
    target: float | None,
    unit: str = "ms",
) -> Row:
    """The ratio of each pair of runs, A to B: its median, and its quartiles.

    Args:
        names: the case, what was run, and what against.
        ours: seconds (`ms`), or whatever the unit is, run by run.
        theirs: of the run beside it.
        target: the largest ratio that is good enough; None for information.
        unit: of what is shown in absolute terms, which nothing is judged by.
    """
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    middle = statistics.median(ratios)
    absolute = " : ".join(_absolute(statistics.median(each), unit) for each in (ours, theirs))
    return Row(
        *names,
        f"{middle:.2f}",
        _quartiles(ratios),
        NONE if target is None else f"≤ {target:g}",
        None if target is None else middle <= target,
        f"{absolute} {unit}",
        len(ratios),
    )


def _absolute(number: float, unit: str) -> str:
    return f"{number * 1000:.0f}" if unit == "ms" else f"{number:.3g}"


def _quartiles(ratios: Sequence[float]) -> str:
    if len(ratios) < 2:
        return NONE
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{low:.2f} to {high:.2f}"


def as_text(rows: Sequence[Row]) -> str:
    """Columns for a terminal."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def as_markdown(rows: Sequence[Row]) -> str:
    """A table for `docs/performance.md`."""
    lines = [HEAD, tuple("---" for _ in HEAD), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
