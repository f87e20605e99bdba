"""`python -m tests.bench [CASE…]`: measures, and prints a table of ratios.

Exit status: 0 where everything could be measured and every counted row holds; a row that is timed
never decides it, since machines differ. 1 otherwise.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bench import peers
from tests.bench.bench import Bench, UnavailableError
from tests.bench.cases import containers, crowd, doors, leases, listeners, many, quiet, wedged
from tests.bench.rows import absent, as_markdown, as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.bench.rows import Row

CASES: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "free": quiet.free,
    "who": quiet.who,
    "published": quiet.published,
    "lazy": quiet.lazy,
    "completion": doors.completion,
    "hook": doors.hook,
    "many": many.many,
    "wedged": wedged.wedged,
    "listeners": listeners.listeners,
    "reserve": leases.reserve,
    "crowd": crowd.crowd,
    "containers": containers.containers,
}
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
_OUTCOMES = (pytest.skip.Exception, pytest.fail.Exception)  # of tests.lab, where something lacks


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        folder.chmod(0o755)
        bench = Bench(folder, options.pairs or (1 if options.short else 15), options.short)
        with _peers(options) as place:
            bench = replace(bench, peers=Path(place) if place else None)
            rows = [row for case in options.case or CASES for row in _measured(bench, case)]
    print(as_text(rows))
    if options.markdown:
        write(options.markdown, as_markdown(rows))
    return int(any(row.exact and not row.met for row in rows))


def _peers(options: argparse.Namespace) -> tempfile.TemporaryDirectory[str] | nullcontext[None]:
    if options.peers:
        return nullcontext(options.peers)
    if not options.install_peers:
        return nullcontext(None)
    place = tempfile.TemporaryDirectory(prefix="peers")
    peers.install(Path(place.name))
    return place


def _measured(bench: Bench, case: str) -> Iterator[Row]:
    """The rows of a case as they come; one that cannot be set up is one row that says so."""
    try:
        for measured in CASES[case](bench):
            judged = measured.exact or not bench.short  # tiny sizes say nothing about time
            row = measured if judged else replace(measured, met=None)
            print("…", *row.cells(), file=sys.stderr, flush=True)
            yield row
    except (UnavailableError, *_OUTCOMES) as reason:
        yield absent(case, "", str(reason))


def write(path: Path, table: str) -> None:
    """Writes the table, or puts it between the marks of a file that has them."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    whole = f"{before}{begin}\n{table}\n{end}{after}" if begin and end else f"{table}\n"
    path.write_text(whole, encoding="utf-8")


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("case", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--short", action="store_true", help="tiny sizes: does it all work?")
    parser.add_argument("--pairs", type=int, help="how often each contender runs (15)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there")
    parser.add_argument("--peers", metavar="DIRECTORY", help="where peers were installed before")
    parser.add_argument(
        "--install-peers", action="store_true", help="get peers from PyPI and npm, for this run"
    )
    options = parser.parse_args(argv)
    if unknown := set(options.case) - CASES.keys():
        parser.error(f"there is no case {', '.join(sorted(unknown))}: {', '.join(CASES)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
