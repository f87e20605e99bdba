"""`ultra-ports up` ends nothing unannounced: its plan, its words before it acts, its question."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import ultra
from tests.lab.compose import published, stack
from tests.lab.ports import free_port
from tests.lab.terminal import typed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab

pytestmark = [pytest.mark.engine, pytest.mark.slow]
FAST = ("--settle", "0.3", "--grace", "1")


def test_a_dry_run_shows_the_plan(engine: Engine, lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    server = lab.start("answering", port)
    with stack(engine, tmp_path, {"web": published(port)}) as shop:
        run = ultra("up", "-n", *shop.options, "--", "--build")
        told = ultra("up", "-n", *shop.options, "--json")

        assert (run.status, told.status) == (0, 0), run.stdout + run.stderr
        assert str(server.pid) in run.stdout
        assert run.stdout.splitlines()[-1].startswith("would start: docker compose ")
        assert run.stdout.endswith(" up --detach --build\n")
        assert told.json["dry_run"] is True
        assert told.json["compose"]["exit_status"] is None
        assert server.alive
        assert shop("ps", "--all", "--quiet") == ""


def test_what_is_ended_is_said_before_it_is(engine: Engine, lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    server = lab.start("answering", port)
    with stack(engine, tmp_path, {"web": published(port)}) as shop:
        run = ultra("up", *shop.options, *FAST, timeout=100)

        assert run.status == 0, run.stdout + run.stderr
        said = run.stderr.index(f"this is ended for it: end python {server.pid} on ")
        assert said < run.stderr.index("Container"), "compose begins after it"


@pytest.mark.parametrize("whose", ["others", "mine"])
def test_on_a_terminal_it_asks_before_others_are_ended(
    engine: Engine, lab: Lab, tmp_path: Path, whose: str
) -> None:
    port = free_port()
    (tmp_path / ".git").mkdir()
    folder = "/" if whose == "others" else str(tmp_path)
    server = lab.start("answering", port, prefix=("env", "-C", folder))
    with stack(engine, tmp_path, {"web": published(port)}) as shop:
        if whose == "others":
            status, shown = typed(
                "up", *shop.options, *FAST, answers={"? [y/N]": "n"}, cwd=tmp_path
            )
            assert status == 3, shown
            question = shown.index("End it? [y/N]")
            assert f"end python {server.pid}" in shown[:question]
            assert f"PID {server.pid}, " in shown[:question], "whose it is, and since when"
            assert "you said no" in shown[question:]
            assert f"ultra-ports resolve {port}" in shown[question:]
            assert "nothing was started" in shown
            assert server.alive
        answers = {"? [y/N]": "y"} if whose == "others" else {}
        status, shown = typed("up", *shop.options, *FAST, answers=answers, cwd=tmp_path)

        assert status == 0, shown
        assert not server.alive
        assert ("[y/N]" in shown) is (whose == "others")


@pytest.mark.parametrize("words", [("--build",), ("--scale", "web=2", "web"), ("-d", "--", "web")])
def test_options_of_compose_are_explained(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "compose.yml").write_text("services: {web: {image: x}}")
    run = ultra("up", *words, cwd=tmp_path)
    assert (run.status, run.stdout) == (2, "")
    plain = " ".join(word for word in words if word != "--")
    assert run.stderr.endswith(f"go behind -- (ultra-ports up -- {plain})\n")
