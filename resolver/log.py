"""What `ULTRA_PORTS_LOG` shows: the stdlib's logging, which nothing here loads.

The command line loads and sets it up where that variable is set; a Python caller may have done so.
Where nobody did, nobody wants to know.
"""

from __future__ import annotations

import sys

NAME = "ultra-ports"
_DEBUG, _INFO = 10, 20  # logging's own numbers


def debug(message: str, *parts: object) -> None:
    """A detail: a question that was asked, a fact that was found."""
    _log(_DEBUG, message, parts)


def info(message: str, *parts: object) -> None:
    """Something that was done."""
    _log(_INFO, message, parts)


def _log(level: int, message: str, parts: tuple[object, ...]) -> None:
    logging = sys.modules.get("logging")
    if logging is not None:
        logging.getLogger(NAME).log(level, message, *parts)
