"""Ports for tests, for pytest: `free_port`, `reserved_port`, and `clear_port`.

The plug-in is loaded wherever this package is installed, so nothing but pytest is imported before a
test asks for one of the fixtures. Ports are leased in the ledger that all processes of a user
share: the workers of pytest-xdist, two runs at once, and `ultra-ports assign` get different ones.
"""

from __future__ import annotations

import os
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.leases.model import Lease
    from resolver.model import PortRequest
    from resolver.reservations.testrun import Ports, ReservedPort

_WAIT = "ultra_ports_wait_seconds"
_AGAIN_SECONDS = 0.05
_AFTER_SECONDS = 2.0  # a server that the test has ended may need a moment to let go
_SETTLE_SECONDS = 0.3


class ClearPort(Protocol):
    """What the fixture `clear_port` is."""

    def __call__(self, *ports: int | str, **options: Any) -> None:  # noqa: ANN401
        """Frees the ports (`resolver.resolve`, with its options), or fails the test."""
        ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """The one setting."""
    parser.addini(_WAIT, "clear_port: how long another test may be using the port", default="300")


def pytest_configure(config: pytest.Config) -> None:
    """The one marker."""
    config.addinivalue_line(
        "markers",
        "clear_port(*ports, **options): free the ports before the test and after it",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has marked tests ask for the fixture, before all others."""
    for item in items:
        names = getattr(item, "fixturenames", None)
        if names is not None and item.get_closest_marker("clear_port"):
            names.insert(0, "_cleared_ports")


@pytest.fixture
def free_port(_ultra_ports: Ports) -> Iterator[int]:
    """A port that is free for TCP and UDP on every address, and that nobody else is given.

    It is leased, and not bound: any server can take it.
    """
    with _explained():
        port = _ultra_ports.take()
    yield port
    _ultra_ports.rest(port)


@pytest.fixture
def reserved_port(_ultra_ports: Ports) -> Iterator[ReservedPort]:
    """A port that is leased, and kept in the kernel: nobody else can bind it plainly.

    `reserved_port.release()` lets it go for a server that does not set SO_REUSEADDR.
    """
    with _explained():
        port = _ultra_ports.take_and_hold()
    yield port
    port.release()
    _ultra_ports.rest(port)


@pytest.fixture
def clear_port(request: pytest.FixtureRequest, _ultra_ports: Ports) -> Iterator[ClearPort]:
    """Frees ports that the test is about to use: `clear_port(8085)`.

    Whoever holds them is asked to end as by `ultra-ports resolve`; where that is not to be done,
    the test fails, and says why. What the test leaves there is ended after it in the same way, with
    a warning. Two tests that clear the same port take turns, in whichever processes they are.
    """
    patience = float(request.config.getini(_WAIT))
    turns: list[tuple[Lease, ...]] = []
    cleared: list[tuple[list[PortRequest], dict[str, Any]]] = []

    def clear(*ports: int | str, **options: Any) -> None:  # noqa: ANN401
        with _explained("clear_port: "):
            requests = _requests(ports)
            turns.append(_ultra_ports.turn(requests, patience))
            cleared.append((requests, options))
            _free(requests, options)

    try:
        yield clear
        for requests, options in cleared:
            _free_again(requests, options)
    finally:
        for turn in turns:
            _ultra_ports.end(turn)


@pytest.fixture
def _cleared_ports(request: pytest.FixtureRequest, clear_port: ClearPort) -> None:
    """What the marker does."""
    for marker in request.node.iter_markers("clear_port"):
        clear_port(*marker.args, **marker.kwargs)


@pytest.fixture(scope="session")
def _ultra_ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    """The ports of this process."""
    from resolver.reservations.testrun import Ports

    with _explained():
        ports = Ports(os.environ, tmp_path_factory.getbasetemp().parent)
    yield ports
    ports.close()


@contextmanager
def _explained(what: str = "") -> Iterator[None]:
    """Makes a failure of the test, in words, of what cannot be done."""
    from resolver.errors import UltraPortsError

    try:
        yield
    except UltraPortsError as error:
        pytest.fail(f"{what}{error}" + (f" ({error.hint})" if error.hint else ""), pytrace=False)


def _requests(ports: tuple[int | str, ...]) -> list[PortRequest]:
    from resolver.errors import UsageError
    from resolver.leases import assigned
    from resolver.project import names

    if not ports:
        raise UsageError("no port was given")
    return list(names.wanted(map(str, ports), assigned.current).requests)


def _free(requests: list[PortRequest], options: dict[str, Any]) -> None:
    from resolver import api
    from resolver.report.tree import tree

    report = api.resolve(*map(str, requests), **{"settle_seconds": _SETTLE_SECONDS, **options})
    if report.exit_status:
        said = f"clear_port: not free before the test\n{tree(report.ports)}"
        pytest.fail(said, pytrace=False)


def _free_again(requests: list[PortRequest], options: dict[str, Any]) -> None:
    """Ends what the test has left on its ports, and tells of it; an error where it must stay."""
    from resolver import api
    from resolver.gather import list_sockets
    from resolver.report.tree import tree
    from resolver.verify import prove

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
