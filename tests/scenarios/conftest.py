"""Fixtures for the scenarios that need an engine, a systemd or a supervisord."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab import engine as engines
from tests.lab import screen as terminals
from tests.lab import supervisord, systemd
from tests.lab.checkouts import Checkouts
from tests.lab.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.processes import Lab


@pytest.fixture(scope="session")
def local_engine() -> Iterator[engines.Engine]:
    """The engine of this machine, with the lab's image, which goes at the end."""
    engine = engines.local_engine()
    yield engine
    engine("rmi", "--force", engine.image)


@pytest.fixture
def engine(local_engine: engines.Engine) -> Iterator[engines.Engine]:
    """The engine of this machine; it answers at the end, and the test's containers are removed."""
    engine = local_engine.marked()
    yield engine
    engine.reap()


@pytest.fixture(scope="session")
def second_engine() -> Iterator[engines.Engine]:
    """An engine of our own, without a userland proxy."""
    with engines.engine_without_proxy() as engine:
        yield engine


@pytest.fixture
def engine_without_proxy(second_engine: engines.Engine) -> Iterator[engines.Engine]:
    """The one without a userland proxy; it answers at the end, and the test's containers go."""
    engine = second_engine.marked()
    yield engine
    engine.reap()


@pytest.fixture(scope="session")
def machine(local_engine: engines.Engine) -> Iterator[systemd.Machine]:
    """A booted systemd, one for each worker; units are named after their port."""
    with systemd.boot(local_engine.marked()) as machine:
        yield machine


@pytest.fixture
def supervisor() -> Iterator[supervisord.Supervisor]:
    """A supervisord that the test configures and starts; it is ended with its programs."""
    with supervisord.supervisor() as supervisor:
        yield supervisor


@pytest.fixture
def checkouts(tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Checkouts:
    """Both, with a store of reservations of their own."""
    monkeypatch.setenv("ULTRA_PORTS_STATE", str(tmp_path / "state"))
    for name in ("API_PORT", "ULTRA_PORTS_ONLY"):
        monkeypatch.delenv(name, raising=False)
    return Checkouts(tmp_path, free_port(), lab)


@pytest.fixture
def screen() -> terminals.Screen:
    """A terminal of 80 columns and 24 rows."""
    return terminals.screen()
