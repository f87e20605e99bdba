"""Calls that are waited for only for so long: a thread that hangs does not keep the process alive.

The threads of a `ThreadPoolExecutor` would: they are joined at the end of the process.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from resolver.errors import UltraPortsError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def begin(name: str, call: Callable[[], T]) -> Future[T]:
    """Makes a call in a thread of its own.

    The future has its result or what it raised: `UltraPortsError`, also where it broke off.
    """
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except UltraPortsError as error:
            future.set_exception(error)
        finally:
            if not future.done():
                future.set_exception(UltraPortsError(f"{name} broke off"))

    threading.Thread(target=work, name=name, daemon=True).start()
    return future
