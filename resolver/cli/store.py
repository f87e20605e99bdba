"""The store of reservations for a command: opened, its warnings told, closed."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from resolver.cli import say
from resolver.leases.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.protocols import LeaseStore


@contextmanager
def opened(root: Path) -> Iterator[LeaseStore]:
    """The store of the settings; what is to be said of it goes to stderr, each thing once.

    Args:
        root: the project's, absolute.

    Raises:
        UsageError: a setting makes no sense.
        StoreError: the store cannot be reached, or is another program's.
    """
    store = open_store(os.environ, root)
    before = store.warnings
    say(before)
    try:
        yield store
    finally:
        say(warning for warning in store.warnings if warning not in before)
        store.close()
