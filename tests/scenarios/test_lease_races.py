"""Many processes that want the same ports of one store, some of which are killed meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resolver.leases.owner import here
from resolver.leases.state import COPIES, LEDGER
from resolver.leases.stores.ledger import Ledger
from tests.lab.leaseholders import PORTS
from tests.lab.processes import PACKAGES
from tests.lab.redis import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESSES, ACQUIRES, KILLS = 64, 50, 20


@pytest.fixture(params=["a user's ledger", "a ledger that users share", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a store; "" for the ledger in the state directory."""
    with contextlib.ExitStack() as stack:
        if request.param == "redis":
            yield stack.enter_context(Server()).url
            return
        tmp_path.chmod(0o1777 if "share" in request.param else 0o700)
        yield ""


@pytest.mark.slow
@pytest.mark.xdist_group("crowd")  # crowds do not run beside each other
def test_no_port_is_given_out_twice_and_no_lease_is_lost(store: str, tmp_path: Path) -> None:
    words = {"processes": PROCESSES, "acquires": ACQUIRES, "kills": KILLS}
    options = [word for name, number in words.items() for word in (f"--{name}", str(number))]
    argv = [sys.executable, "-S", "-m", "tests.lab.leaseholders", "--store", store]
    done = subprocess.run(
        [*argv, "--state", str(tmp_path), *options],
        env={**os.environ, "PYTHONPATH": PACKAGES},
        capture_output=True,
        text=True,
        timeout=110,
        check=True,
    )
    result = json.loads(done.stdout)
    assert result["failures"] == []
    assert result["left"] == []
    assert result["killed"] == KILLS
    assert result["free"] == len(PORTS), "nothing is kept by the dead"
    for path in filter(Path.exists, (tmp_path / LEDGER, tmp_path / COPIES[0])):
        with Ledger(path, here({}))._database.reading() as database:  # noqa: SLF001
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
