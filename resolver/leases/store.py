"""Opens the store of reservations that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.errors import StoreError, UsageError
from resolver.host import own_files
from resolver.leases.owner import here
from resolver.leases.state import state_directory
from resolver.leases.stores.database import UnwritableError
from resolver.leases.stores.ledger import Ledger
from resolver.settings import STORE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from resolver.leases.owner import Here
    from resolver.leases.state import StateDirectory
    from resolver.protocols import LeaseStore

REDIS = ("redis://", "rediss://", "unix://")


def open_store(environ: Mapping[str, str], project_root: Path, *, make: bool = True) -> LeaseStore:
    """The store that `ULTRA_PORTS_STORE` names, else the ledger in the state directory.

    Where the ledger cannot be made or written, the store lives in memory: `lasting` is False, and
    `warnings` has the reason. Whoever promises a lasting reservation must look at that.

    Args:
        environ: the settings.
        project_root: absolute; a relative state directory starts from it.
        make: the ledger, where there is none; False for who only looks.

    Raises:
        UsageError: a setting makes no sense.
        StoreError: the store cannot be reached, is damaged, or is another program's.
    """
    where = here(environ)
    address = environ.get(STORE_VARIABLE, "").strip()
    if address.startswith(REDIS):
        return _redis(address, where)
    if address:
        kind, slashes, _ = address.partition("://")  # the rest may have a password in it
        begins = f" (it begins with {kind[:20]!a})" if slashes else ""
        raise UsageError(f"{STORE_VARIABLE} is no redis:// address{begins}")
    directory = state_directory(environ, lambda: project_root)
    if make:
        return _made(directory, where)
    return Ledger(directory.ledger if directory.was_used else None, where)


def is_empty(store: LeaseStore) -> bool:
    """Whether nobody need be asked which scope this is: nothing is kept on this machine.

    Raises:
        StoreError: the store cannot be read.
    """
    return isinstance(store, Ledger) and not store.entries()


def _redis(address: str, where: Here) -> LeaseStore:
    try:
        from resolver.leases.stores.redis_store import RedisStore
    except ImportError as error:
        message = f"{STORE_VARIABLE}: the client for Redis is not installed"
        raise StoreError(message, "pip install 'ultra-ports[redis]'") from error
    return RedisStore(address, where)


def _made(directory: StateDirectory, where: Here) -> LeaseStore:
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


def _memory(directory: StateDirectory, reason: str, where: Here) -> LeaseStore:
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
