"""The store of reservations for a command: opened, its warnings told, closed."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from resolver.report.escape import escape

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.protocols import LeaseStore

_LONGEST = 600


@contextmanager
def opened(root: Path) -> Iterator[LeaseStore]:
    """The store of the settings; what is to be said of it goes to stderr, each thing once.

    Args:
        root: the project's, absolute.

    Raises:
        UsageError: a setting makes no sense.
        StoreError: the store cannot be reached, or is another program's.
    """
    from resolver.leases.store import open_store  # noqa: PLC0415 - `-h` needs none of it

    store = open_store(os.environ, root)
    told = store.warnings
    say(told)
    try:
        yield store
    finally:
        say(warning for warning in store.warnings if warning not in told)
        store.close()


def say(messages: Iterator[str] | tuple[str, ...] | list[str]) -> None:
    """Messages on stderr, a line each."""
    for message in messages:
        print(f"ultra-ports: {escape(message, _LONGEST)}", file=sys.stderr, flush=True)
