"""The whole promise at once: a container, a prefork server and a supervised program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import ultra
from tests.lab.ports import free_port
from tests.lab.processes import alive, answered_by, stays, stays_free, wait_until
from tests.lab.supervisord import program, serving

if TYPE_CHECKING:
    from tests.lab.engine import Engine
    from tests.lab.processes import Lab
    from tests.lab.supervisord import Supervisor

pytestmark = [pytest.mark.engine, pytest.mark.supervisord, pytest.mark.slow]


def test_three_holders(engine: Engine, lab: Lab, supervisor: Supervisor) -> None:
    published, forked, supervised = free_port(), free_port(), free_port()
    web = engine.publish(f"{published}:80", options=["--restart=always"])
    gunicorn = lab.start("prefork", forked)
    supervisor.start(program("web", serving(supervised), "true") + "[group:shop]\nprograms=web\n")
    web.wait_for(published)
    wait_until(lambda: answered_by(supervised), "the program answers")
    pid = supervisor.program("shop:web")

    run = ultra("resolve", "--json", str(published), str(forked), str(supervised))

    assert run.status == run.json["exit_status"] == 3, run.stdout + run.stderr
    ports = {port["label"]: port for port in run.json["ports"]}
    assert [port["verdict"] for port in run.json["ports"]] == ["freed", "freed", "advised"]
    for holder in ports[f"{published}/tcp"]["holders"]:
        assert holder["step"]["kind"] == "stop-container"
        assert holder["container"]["name"] == web.name
        assert holder["container"]["restart_policy"] == "always"
    (local,) = ports[f"{forked}/tcp"]["holders"]
    assert (local["kind"], local["step"]["kind"]) == ("local", "kill")
    assert local["processes"][0]["pid"] == gunicorn.pid
    (advised,) = ports[f"{supervised}/tcp"]["holders"]
    assert advised["manager"]["name"] == "shop:web"
    wanted = f"supervisorctl -c {supervisor.config} stop shop:web"
    assert any(line.endswith(wanted) for line in advised["step"]["command_lines"])

    assert stays_free(published, 1.0)
    assert stays_free(forked, 1.0)
    assert web.state == "exited"
    assert not any(alive(each) for each in [gunicorn.pid, *gunicorn.facts["workers"]])
    assert stays(lambda: answered_by(supervised) == pid, 0.5)
    assert supervisor.program("shop:web") == pid

    # What the user wanted all along: `docker compose up` on that port.
    successor = engine.publish(f"{published}:80")
    successor.wait_for(published)


def test_three_holders_in_words(engine: Engine, lab: Lab, supervisor: Supervisor) -> None:
    published, forked, supervised = free_port(), free_port(), free_port()
    web = engine.publish(f"{published}:80", options=["--restart=always"])
    lab.start("prefork", forked)
    supervisor.start(program("web", serving(supervised), "true"))
    web.wait_for(published)
    wait_until(lambda: answered_by(supervised), "the program answers")

    run = ultra("resolve", "--settle=0.3", f"{published},{forked}", str(supervised))

    assert run.status == 3, run.stdout + run.stderr
    for label in (f"{published}/tcp", f"{forked}/tcp", f"{supervised}/tcp"):
        assert label in run.stdout
    assert f"docker start {web.name}" in run.stdout
    assert f"supervisorctl -c {supervisor.config} stop web" in run.stdout
    # A second look finds two of them free, and the third as it was.
    again = ultra("resolve", "--settle=0.3", "--json", f"{published},{forked},{supervised}")
    assert [port["verdict"] for port in again.json["ports"]] == ["free", "free", "advised"]
    assert again.status == 3
