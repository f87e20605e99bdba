"""Sets up logging, as `ULTRA_PORTS_LOG` says: `LEVEL` to stderr, `LEVEL:FILE` to a file."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import TYPE_CHECKING

from resolver import __version__
from resolver.cli import say
from resolver.errors import UsageError
from resolver.host.paths import ForeignFileError, reach
from resolver.report.escape import escape
from resolver.settings import LOG_VARIABLE

if TYPE_CHECKING:
    from io import TextIOWrapper

NAME = "ultra-ports"
LEVELS = ("debug", "info", "warning", "error")
_LINE = "%(asctime)s %(process)d %(levelname)s %(message)s"
_LONGEST = 2000


class _Lines(logging.Formatter):
    """One line for each record, in UTC, whatever names are in it."""

    default_msec_format = "%s.%03dZ"

    @staticmethod
    def converter(seconds: float | None) -> time.struct_time:
        """UTC: several machines may write to one file."""
        return time.gmtime(seconds)

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line that any terminal can show."""
        return escape(super().format(record), _LONGEST)


class _LogFile(logging.FileHandler):
    """Appends to a file that is no stranger's, and waits for no reader of a pipe."""

    def _open(self) -> TextIOWrapper:
        with reach(self.baseFilename) as place:
            opened = place.open_or_make(os.O_WRONLY | os.O_APPEND)
        return os.fdopen(opened, "w", encoding=self.encoding, errors=self.errors)


def begin(setting: str) -> None:
    """Logs from now on. A file that cannot be written is told, and is no reason to fail.

    Raises:
        UsageError: there is no such level, or the file is a stranger's.
    """
    level, _, path = setting.strip().partition(":")
    if level.lower() not in LEVELS:
        known = ", ".join(LEVELS)
        raise UsageError(
            f"{LOG_VARIABLE} is {setting[:80]!a}: LEVEL or LEVEL:FILE is wanted (levels: {known})"
        )
    logging.raiseExceptions = False  # a disk that has become full is told nobody with a traceback
    handler = _handler(path)
    handler.setFormatter(_Lines(_LINE))
    log = logging.getLogger("resolver")
    log.setLevel(level.upper())
    log.addHandler(handler)
    log.propagate = False
    log.info("%s %s: %s", NAME, __version__, " ".join(sys.argv[1:2]))


def _handler(path: str) -> logging.Handler:
    if not path:
        return logging.StreamHandler(sys.stderr)
    try:
        return _LogFile(path, encoding="utf-8", errors="backslashreplace")
    except ForeignFileError as error:
        raise UsageError(f"{LOG_VARIABLE}: {error.strerror}") from error
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        say([f"{LOG_VARIABLE}: cannot write {path}: {reason}; this is not logged"])
        return logging.NullHandler()
