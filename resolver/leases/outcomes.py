"""How often `resolve` came to which verdict, for `ultra-ports serve` to tell.

One small file in the state directory, made by whoever wants to know (`serve`): where there is none,
`resolve` counts nothing. To count is best effort: a full disk, or another process that counts at
this very moment for too long, loses one. The file never grows.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.errors import UltraPortsError
from resolver.host import own_files
from resolver.leases.state import OUTCOMES, state_directory
from resolver.model import Report, Verdict
from resolver.project.location import root

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from resolver.leases.state import StateDirectory

_HEAD = b"ultra-ports outcomes 1\n"  # nothing else is ever written to
_DIGITS = 20  # fixed, so that the file has always the same length
_LONGEST = 4096
_PATIENCE_SECONDS = 0.01  # whoever keeps the lock for long keeps nobody waiting


def count(report: Report, environ: Mapping[str, str]) -> None:
    """Counts the verdict of each port, if anybody wants to know; never fails."""
    if report.dry_run:
        return
    try:
        if _directory(environ).was_used:
            with _opened(environ) as opened:
                _add(opened, [port.verdict for port in report.ports])
    except (OSError, UltraPortsError):
        return


def begin(environ: Mapping[str, str]) -> None:
    """Makes the file, and its directory, where there is none.

    Raises:
        OSError: it cannot be made.
        UsageError: a setting makes no sense.
    """
    with _opened(environ, make=True) as opened:
        if not os.fstat(opened).st_size:
            os.write(opened, _text({}))


def read(environ: Mapping[str, str]) -> dict[Verdict, int] | None:
    """The count of each verdict; None where nothing is counted, or that cannot be read."""
    try:
        with _opened(environ) as opened:
            return _counts(os.pread(opened, _LONGEST, 0))
    except (OSError, UltraPortsError):
        return None


@contextmanager
def _opened(environ: Mapping[str, str], *, make: bool = False) -> Iterator[int]:
    """The file's descriptor."""
    with own_files.folder(_directory(environ).path, make=make) as folder:
        opened = folder.open(OUTCOMES, make=make)
    try:
        yield opened
    finally:
        os.close(opened)


def _directory(environ: Mapping[str, str]) -> StateDirectory:
    return state_directory(environ, lambda: root(Path.cwd()))


def _add(opened: int, verdicts: list[Verdict]) -> None:
    if not own_files.lock(opened, _PATIENCE_SECONDS):
        return
    counts = _counts(os.pread(opened, _LONGEST, 0))
    if counts is not None:
        os.pwrite(opened, _text(Counter(counts) + Counter(verdicts)), 0)


def _text(counts: Mapping[Verdict, int]) -> bytes:
    lines = (f"{verdict:<10}{counts.get(verdict, 0):0{_DIGITS}}\n" for verdict in Verdict)
    return _HEAD + "".join(lines).encode("ascii")


def _counts(raw: bytes) -> dict[Verdict, int] | None:
    """What stands in the file; None where it is none of ours."""
    if not raw.startswith(_HEAD):
        return None
    lines = re.findall(r"^([a-z]+) +([0-9]+)$", raw.decode("ascii", "replace"), re.MULTILINE)
    return {Verdict(name): int(count) for name, count in lines if name in set(Verdict)}
