"""The ledger of this machine, made where it is missing; in memory where that cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.errors import StoreError
from resolver.host import own_files
from resolver.leases.stores.database import UnwritableError
from resolver.leases.stores.ledger import Ledger

if TYPE_CHECKING:
    from resolver.leases.owner import Here
    from resolver.leases.state import StateDirectory


def open_ledger(directory: StateDirectory, where: Here) -> Ledger:
    """The ledger in the directory, which is made with it.

    Where it cannot be made or written, it lives in memory: `lasting` is False, and `warnings` has
    the reason.

    Raises:
        StoreError: it is damaged, another program's, a later version's, or busy for too long.
    """
    reason = directory.reason
    if not reason:
        try:
            own_files.folder(directory.path, make=True).close()
            ledger = Ledger(directory.ledger, where)
            ledger.check()
        except UnwritableError as error:
            reason = error.reason
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            return ledger
    return _memory(directory, reason, where)


def _memory(directory: StateDirectory, reason: str, where: Here) -> Ledger:
    """A store that lives in memory, with the leases of a ledger that can only be read."""
    what = "reservations cannot be kept" + ("" if directory.reason else f" in {directory.path}")
    warning = f"{what}: {reason}; they are forgotten when this command ends"
    store = Ledger(None, where)
    try:
        if directory.ledger.exists():  # others live by what is in it
            store = Ledger(None, where, found=Ledger(directory.ledger, where).entries())
    except (StoreError, OSError):
        store.unreadable = f"what is reserved in {directory.path} cannot be read by this user"
        warning += f", and {store.unreadable}"
    store.warnings = (warning,)
    return store
