"""Ports that a test is about to use: freed before it, and after it if anything is left there."""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from resolver import api
from resolver.errors import UltraPortsError, UsageError
from resolver.gather import list_sockets
from resolver.leases import assigned
from resolver.project import names
from resolver.report.tree import tree
from resolver.reservations.testrun import Ports
from resolver.verify import prove

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.model import PortRequest

__all__ = ["Ports", "explained", "free", "free_again", "requests_of"]

_AGAIN_SECONDS = 0.05
_AFTER_SECONDS = 2.0  # a server that the test has ended may need a moment to let go
_SETTLE_SECONDS = 0.3


@contextmanager
def explained(what: str = "") -> Iterator[None]:
    """Makes a failure of the test, in words, of what cannot be done."""
    try:
        yield
    except UltraPortsError as error:
        pytest.fail(f"{what}{error}" + (f" ({error.hint})" if error.hint else ""), pytrace=False)


def requests_of(ports: tuple[int | str, ...]) -> list[PortRequest]:
    """The ports as they were given, in the PORT grammar or by the names of services.

    Raises:
        UsageError: there are none, or one makes no sense.
    """
    if not ports:
        raise UsageError("no port was given")
    return list(names.wanted(map(str, ports), assigned.current).requests)


def free(requests: list[PortRequest], options: dict[str, Any]) -> None:
    """Frees the ports, or fails the test."""
    report = api.resolve(*map(str, requests), **{"settle_seconds": _SETTLE_SECONDS, **options})
    if report.exit_status:
        said = f"clear_port: not free before the test\n{tree(report.ports)}"
        pytest.fail(said, pytrace=False)


def free_again(requests: list[PortRequest], options: dict[str, Any]) -> None:
    """Ends what the test has left on its ports, and tells of it; an error where it must stay."""
    deadline = time.monotonic() + _AFTER_SECONDS
    left = requests
    while left := [each for each in left if not prove(each, list_sockets).free]:
        if time.monotonic() >= deadline:
            break
        time.sleep(_AGAIN_SECONDS)
    if not left:
        return
    report = api.resolve(*map(str, left), **{"settle_seconds": _SETTLE_SECONDS, **options})
    said = tree(report.ports)
    if report.exit_status:
        pytest.fail(f"clear_port: not free after the test\n{said}", pytrace=False)
    warnings.warn(pytest.PytestWarning(f"clear_port: left by the test\n{said}"), stacklevel=2)
