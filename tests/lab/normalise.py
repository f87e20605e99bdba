"""What differs between two runs of the same test gets a name: ports, PIDs, ids, places, times."""

from __future__ import annotations

import itertools
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.lab import ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

ROOT = Path(__file__).parents[2]
# Numbers that mean the same on every machine, beside those that are written in the test's module.
FIXED = {"1000", "1024", "2375", "3000", "5432", "6379", "8000", "8080", "65534", "65535"}
_TIME = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?|(?<![\w.])\d{9,}\.\d+"
_DURATION = r"(?<![\w.])\d+\.\d+(?= ?s\b)|(?<![\w.])\d+(?:\.\d+)?(?= ?ms\b)|\d+(?= seconds)"
_ID = r"\b(?=[0-9a-z]*\d)(?:(?:[0-9a-f]{4}){3,4}|[0-9a-z]{25}|[0-9a-f]{32}|[0-9a-f]{64})\b"
# What differs, and need not be told apart.
_CONSTANT = (
    (re.compile(r'"seconds": [\d.e-]+'), '"seconds": T'),
    (re.compile(r'"start_time": \d+'), '"start_time": T'),
    (re.compile(_TIME), "TIME"),
    (re.compile(_DURATION), "T"),
    (re.compile(r"(?<=\()\d+(?= wait\))"), "K"),  # connections in a queue
    (re.compile(r"ultra-ports-lab:[\w-]+…?"), "IMAGE"),
    (re.compile(r"\.(?:\d|[0-9a-z]{25})\.[0-9a-z]{25}\b"), ".TASK"),  # of Swarm
    (re.compile(r"-{4,}"), "----"),  # a table is as wide as its longest cell
    (re.compile(r"(?<=\S) {2,}"), "  "),
)
# What differs, and is the same thing wherever it is the same text.
_NAMED = (
    (re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"\b(?:lab|LAB|web)-?(?:[0-9a-f]{8,12}(?![0-9a-f])|[0-9a-f]{3,}…)"), "LAB"),
    (re.compile(_ID), "ID"),
    (re.compile(r"(?<![\w.])172\.\d+\.\d+\.\d+"), "IP"),
    (re.compile(rf"{re.escape(tempfile.gettempdir())}/[\w.-]+"), "TMP"),
)
_NUMBER = re.compile(r"(?<![\d.])\d{2,}(?!\d|\.\d)")
_LARGE = 4  # digits; a smaller number is one that the test or the program has chosen, or a process
# Where a number is a process; whatever else is taken for one is the same in every run anyhow.
_PROCESS = re.compile(
    r'"(?:pid|parent)": (\d{2,})|\b(?:pid|PID|kill|process|MainPID|--for)[ =](\d{2,})'
    r'|SIG[A-Z]+ to \S+ (\d{2,})|"[^"\n→]{1,30} (\d{2,})(?=")|(?<=\S) (\d{2,})(?= →)'
    r"|→ [^→\n]{1,30}? (\d{2,})$",
    re.MULTILINE,
)


class Normaliser:
    """Knows the names of one test: the same thing has the same name in all of its runs."""

    def __init__(self, item: pytest.Item) -> None:
        self._given: dict[str, str] = {}
        self._count: dict[str, Iterator[int]] = {}
        self._pids: set[str] = set()
        self._fixed = FIXED | {*_NUMBER.findall(item.path.read_text("utf-8"))}
        folder = Path(getattr(item, "funcargs", {}).get("tmp_path", "/nowhere"))
        self._places = {str(folder): "TMP", str(folder.parent): "TMPS", str(ROOT): "ROOT"}
        own = psutil.Process()
        self._own = f"{own.name()} {own.pid}"
        self._above = [f"{above.name()} {above.pid}" for above in own.parents()]

    def __call__(self, text: str) -> str:
        """The text, with a name for everything that differs from run to run."""
        for ancestor in self._above:  # as a step of a text's chain, and as an entry of JSON's
            text = text.replace(f"{ancestor} → ", "")
            text = re.sub(rf' *"{re.escape(ancestor)}"\n|"{re.escape(ancestor)}", ', "", text)
        text = text.replace(self._own, "TESTS")
        for place, name in self._places.items():
            text = text.replace(place, name)
        for shape, constant in _CONSTANT:
            text = shape.sub(constant, text)
        for shape, letters in _NAMED:
            text = shape.sub(self._called(letters), text)
        self._pids |= {found for match in _PROCESS.finditer(text) for found in match.groups("")}
        return _NUMBER.sub(self._number, text)

    def _called(self, letters: str) -> Callable[[re.Match[str]], str]:
        return lambda match: self._name(letters, match[0])

    def _number(self, match: re.Match[str]) -> str:
        if match[0] in map(str, ports.ISSUED):
            return self._name("P", match[0])
        differs = match[0] in self._pids or len(match[0]) >= _LARGE
        return self._name("N", match[0]) if differs and match[0] not in self._fixed else match[0]

    def _name(self, letters: str, found: str) -> str:
        if found not in self._given:
            count = self._count.setdefault(letters, itertools.count(1))
            self._given[found] = f"{letters}{next(count)}"
        return self._given[found]
