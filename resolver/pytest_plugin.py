"""Ports for tests, for pytest: `free_port`, `reserved_port`, and `clear_port`.

The plug-in is loaded wherever this package is installed, so nothing but pytest is imported before a
test asks for one of the fixtures. Ports are leased in the ledger that all processes of a user
share: the workers of pytest-xdist, two runs at once, and `ultra-ports assign` get different ones.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from resolver.leases.model import Lease
    from resolver.model import PortRequest
    from resolver.reservations.testing import LeasedPorts, ReservedPort

_WAIT = "ultra_ports_wait_seconds"


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
        "markers", "clear_port(*ports, **options): free the ports before the test and after it"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has marked tests ask for the fixture, before all others."""
    for item in items:
        names = getattr(item, "fixturenames", None)
        if names is not None and item.get_closest_marker("clear_port"):
            names.insert(0, "_cleared_ports")


@pytest.fixture
def free_port(_tools: Any, _ultra_ports: LeasedPorts) -> Iterator[int]:  # noqa: ANN401
    """A port that is free for TCP and UDP on every address, and that nobody else is given.

    It is leased, and not bound: any server can take it.
    """
    with _tools.failing_test():
        port = _ultra_ports.take()
    yield port
    _ultra_ports.rest(port)


@pytest.fixture
def reserved_port(_tools: Any, _ultra_ports: LeasedPorts) -> Iterator[ReservedPort]:  # noqa: ANN401
    """A port that is leased, and kept in the kernel: nobody else can bind it plainly.

    `reserved_port.release()` lets it go for a server that does not set SO_REUSEADDR.
    """
    with _tools.failing_test():
        port = _ultra_ports.take_and_hold()
    yield port
    port.release()
    _ultra_ports.rest(port)


@pytest.fixture
def clear_port(
    request: pytest.FixtureRequest,
    _tools: Any,  # noqa: ANN401
    _ultra_ports: LeasedPorts,
) -> Iterator[ClearPort]:
    """Frees ports that the test is about to use: `clear_port(8085)`.

    Whoever holds them is asked to end as by `ultra-ports resolve`; where that is not to be done,
    the test fails, and says why. What the test leaves there is ended after it in the same way, with
    a warning. Two tests that clear the same port take turns, in whichever processes they are.
    """
    patience = float(request.config.getini(_WAIT))
    turns: list[tuple[Lease, ...]] = []
    cleared: list[tuple[list[PortRequest], dict[str, Any]]] = []

    def clear(*ports: int | str, **options: Any) -> None:  # noqa: ANN401
        with _tools.failing_test("clear_port: "):
            requests = _tools.requests_of(ports)
            turns.append(_ultra_ports.turn(requests, patience))
            cleared.append((requests, options))
            _tools.free(requests, options)

    try:
        yield clear
        for requests, options in cleared:
            _tools.free_again(requests, options)
    finally:
        for turn in turns:
            _ultra_ports.end(turn)


@pytest.fixture
def _cleared_ports(request: pytest.FixtureRequest, clear_port: ClearPort) -> None:
    """What the marker does."""
    for marker in request.node.iter_markers("clear_port"):
        clear_port(*marker.args, **marker.kwargs)


@pytest.fixture(scope="session")
def _tools() -> ModuleType:
    """What the fixtures are made of, loaded when the first one is used."""
    from resolver.reservations import testing

    return testing


@pytest.fixture(scope="session")
def _ultra_ports(_tools: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeasedPorts]:  # noqa: ANN401
    """The ports of this process."""
    with _tools.failing_test():
        ports = _tools.LeasedPorts(os.environ, tmp_path_factory.getbasetemp().parent)
    yield ports
    ports.close()
