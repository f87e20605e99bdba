"""Opens the store of reservations that the settings name."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from resolver.errors import StoreError, UsageError
from resolver.leases.owner import here
from resolver.leases.state import state_directory
from resolver.settings import STORE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from resolver.leases.stores.ledger import Ledger
    from resolver.protocols import LeaseStore

REDIS = ("redis://", "rediss://", "unix://")


def open_store(environ: Mapping[str, str], project_root: Path) -> LeaseStore:
    """The store that `ULTRA_PORTS_STORE` names, else the ledger in the state directory.

    Where the ledger cannot be made or written, the store lives in memory: `lasting` is False, and
    `warnings` has the reason. Whoever promises a lasting reservation must look at that.

    Args:
        environ: the settings.
        project_root: absolute; a relative state directory starts from it.

    Raises:
        UsageError: a setting makes no sense.
        StoreError: the store cannot be reached, is damaged, or is another program's.
    """
    if address := _address(environ):
        return _redis(address, environ)
    directory = state_directory(environ, lambda: project_root)
    return _ledger().opened(directory, here(environ))


def existing_store(environ: Mapping[str, str], project_root: Path) -> LeaseStore | None:
    """The same for who only looks: nothing is made, and None says that nothing was ever kept.

    Raises:
        UsageError: a setting makes no sense.
        StoreError: the store cannot be reached.
    """
    if address := _address(environ):
        return _redis(address, environ)
    directory = state_directory(environ, lambda: project_root)
    if not directory.was_used:
        return None
    return _ledger()(directory.ledger, here(environ))


@contextmanager
def looked_at(environ: Mapping[str, str], project_root: Path) -> Iterator[LeaseStore]:
    """The existing store, else an empty one; nothing is made.

    Raises:
        UsageError: a setting makes no sense.
        StoreError: the store cannot be reached.
    """
    store = existing_store(environ, project_root) or _ledger()(None, here(environ))
    with closing(store):
        yield store


@contextmanager
def kept(environ: Mapping[str, str], project_root: Path) -> Iterator[LeaseStore | None]:
    """The existing store; None where nobody need be asked which scope this is: it is empty.

    Raises:
        UsageError: a setting makes no sense.
        StoreError: the store cannot be read.
    """
    store = existing_store(environ, project_root)
    if store is None:
        yield None
        return
    with closing(store):
        yield None if store.is_empty() else store


def _address(environ: Mapping[str, str]) -> str:
    """Where Redis is; empty where the ledger is meant.

    Raises:
        UsageError: it is no address.
    """
    address = environ.get(STORE_VARIABLE, "").strip()
    if address and not address.startswith(REDIS):
        kind, slashes, _ = address.partition("://")  # the rest may have a password in it
        begins = f" (it begins with {kind[:20]!a})" if slashes else ""
        raise UsageError(f"{STORE_VARIABLE} is no redis:// address{begins}")
    return address


def _ledger() -> type[Ledger]:
    from resolver.leases.stores.ledger import Ledger

    return Ledger


def _redis(address: str, environ: Mapping[str, str]) -> LeaseStore:
    try:
        from resolver.leases.stores.redis_store import RedisStore
    except ImportError as error:
        message = f"{STORE_VARIABLE}: the client for Redis is not installed"
        raise StoreError(message, "pip install 'ultra-ports[redis]'") from error
    return RedisStore(address, here(environ))
