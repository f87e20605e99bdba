"""Before `docker compose up`, with the real plug-in: the reason why this tool exists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import compose
from tests.lab.cli import ultra
from tests.lab.engine import EngineError
from tests.lab.ports import free_port
from tests.lab.processes import stays_free

if TYPE_CHECKING:
    from tests.lab.engine import Engine
    from tests.lab.processes import Lab

pytestmark = [pytest.mark.engine, pytest.mark.slow]


def test_a_local_process_in_the_way_of_compose_up(engine: Engine, lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    server = lab.start("answering", port)
    with compose.project(engine, tmp_path, {"web": port}) as shop:
        with pytest.raises(EngineError, match="already"):
            shop("up", "--detach")

        run = ultra("resolve", str(port), "--settle", "0.3")

        assert run.status == 0, run.stdout + run.stderr
        assert not server.alive
        shop("up", "--detach")
        shop.container("web").wait_for(port)


def test_a_service_beside_its_sibling(engine: Engine, tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    with compose.project(engine, tmp_path, {"web": port, "api": other}) as shop:
        shop("up", "--detach")
        web, api = shop.container("web"), shop.container("api")
        web.wait_for(port)
        api.wait_for(other)

        run = ultra("resolve", str(port), "--json")

        assert run.status == 0, run.stdout + run.stderr
        for holder in run.port(f"{port}/tcp")["holders"]:
            assert holder["container"]["compose_project"] == shop.name
            assert holder["container"]["compose_service"] == "web"
            assert holder["step"]["undo_lines"] == [f"docker start {web.name}"]
        assert stays_free(port)
        assert web.state == "exited"
        assert api.serves(other)

        shop("up", "--detach")  # what the user wanted: it comes back when asked to
        web.wait_for(port)


def test_the_stage_for_people_with_a_registry_is_valid() -> None:
    assert compose.valid(Path(__file__).parents[2] / "docker-compose.test.yml")
