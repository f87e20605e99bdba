"""Real services that are healthy, killed, frozen, moved, or replaced by a stranger."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.lab.cli import Run, refused, ultra
from tests.lab.ports import free_port, free_range
from tests.lab.postgres import Postgres
from tests.lab.processes import alive, wait_until
from tests.lab.redis import Server as Redis

if TYPE_CHECKING:
    import subprocess

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab

APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    status = 200 if scope["path"] == "/healthz" else 404
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""


def toml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {toml(each)}' for key, each in value.items())} }}"
    return json.dumps(value)


class Shop:
    """A project with a file of its own, in which commands are typed."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root / "shop"
        (self.root / ".git").mkdir(parents=True)
        monkeypatch.chdir(self.root)

    def write(self, **services: dict[str, Any]) -> None:
        lines = ['project = "shop"']
        for name, facts in services.items():
            lines += [f"[services.{name}]", *(f"{key} = {toml(facts[key])}" for key in facts)]
        (self.root / "ultra-ports.toml").write_text("\n".join(lines), encoding="utf-8")

    def health(self, *arguments: str, docker: bool = False) -> Run:
        return ultra("health", *arguments, *([] if docker else ["--no-docker"]))

    def service(self, *arguments: str, docker: bool = False) -> Any:  # noqa: ANN401 - JSON
        """The one service of the report, with the exit status in it."""
        run = self.health("--json", *arguments, docker=docker)
        assert run.json["schema"] == "ultra-ports.health/1"
        assert run.json["exit_status"] == run.status, run.stderr
        assert run.json["healthy"] is (run.status == 0)
        [service] = run.json["services"]
        return {**service, "status": run.status}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    return Shop(tmp_path, monkeypatch)


def uvicorn(lab: Lab, shop: Shop, port: int, *options: str) -> subprocess.Popen[bytes]:
    (shop.root / "shop_application.py").write_text(APPLICATION, encoding="utf-8")
    command = (sys.executable, "-m", "uvicorn", "shop_application:app", "--port", str(port))
    popen = lab.command(*command, *options, cwd=shop.root)
    wait_until(lambda: shop.health("-q", str(port)).status == 0, "uvicorn accepts")
    return popen


def test_an_application_lives_freezes_and_dies(lab: Lab, shop: Shop) -> None:
    port = free_port()
    shop.write(api={"port": port, "health": {"probe": "/healthz", "timeout": 5}})
    server = uvicorn(lab, shop, port)

    good = shop.service()
    assert (good["status"], good["level"], good["belongs"]) == (0, "speaks", "own")
    assert [answer["status"] for answer in good["answers"] if answer["good"]] == [200]
    assert good["holders"][0]["processes"][0]["pid"] == server.pid
    other = shop.service("--probe", "/nothing", "api")
    assert (other["status"], other["level"]) == (1, "speaks")
    assert other["reason"] == "HTTP 404; 200 to 399 is wanted"

    os.kill(server.pid, signal.SIGSTOP)
    frozen = shop.service("--timeout", "0.5")
    assert (frozen["status"], frozen["level"], frozen["healthy"]) == (1, "accepts", False)
    assert "is stopped" in frozen["reason"]
    bare = shop.service(str(port))  # without a probe too
    assert (bare["status"], bare["level"], bare["healthy"]) == (1, "accepts", False)

    server.kill()
    server.wait()
    dead = shop.service()
    assert (dead["status"], dead["level"], dead["belongs"]) == (1, "free", "nobody")
    assert dead["reason"] == "nobody holds it"


def test_a_stranger_that_answers_is_not_the_service(lab: Lab, shop: Shop, tmp_path: Path) -> None:
    port = free_port()
    shop.write(api={"port": port})
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    command = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port))
    stranger = lab.command(*command, cwd=elsewhere)
    wait_until(lambda: shop.service()["level"] == "accepts", "the stranger accepts")

    found = shop.service()
    assert (found["status"], found["belongs"], found["healthy"]) == (1, "stranger", False)
    assert (
        f"{stranger.pid} holds it, and is not the service: it works in {elsewhere}"
        in found["reason"]
    )
    table = shop.health()
    assert "(a stranger)" in table.stdout
    assert shop.service(str(port))["status"] == 0  # a port alone is anybody's
    assert stranger.poll() is None


def test_whose_the_lease_is_decides(lab: Lab, shop: Shop, tmp_path: Path) -> None:
    """Who works in another directory is the service, where `run` has started it."""
    port = free_port()
    shop.write(api={"port": port})
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    ultra_ports = str(Path(sys.executable).with_name("ultra-ports"))
    serve = f"cd {elsewhere} && exec {sys.executable} -m http.server --bind 127.0.0.1 {port}"
    lab.command(ultra_ports, "run", "--port", "api", "--", "sh", "-c", serve, cwd=shop.root)
    wait_until(lambda: shop.service()["level"] == "accepts", "the service accepts")

    found = shop.service()
    assert (found["status"], found["belongs"]) == (0, "own"), found
    assert "api of project shop" in found["lease"]


def test_moved_to_ipv6_alone(lab: Lab, shop: Shop) -> None:
    port = free_port()
    shop.write(api={"port": port, "health": "/healthz"})
    uvicorn(lab, shop, port, "--host", "::1")

    found = shop.service()
    assert (found["status"], found["level"]) == (0, "speaks")
    assert {answer["address"]: answer["level"] for answer in found["answers"]} == {
        "127.0.0.1": "free",
        "::1": "speaks",
    }
    assert any("answers on ::1, not on 127.0.0.1" in note for note in found["notes"])
    assert shop.service(f"127.0.0.1:{port}")["status"] == 1
    assert shop.service(f"[::1]:{port}")["status"] == 0


def test_two_servers_on_two_families_answer_differently(lab: Lab, shop: Shop) -> None:
    port = free_port()
    shop.write(api={"port": port, "health": "/"})
    lab.start("hostile", "fine", port, "--address", "127.0.0.1")
    lab.start("hostile", "broken", port, "--address", "::1")

    found = shop.service()
    assert (found["status"], found["healthy"], found["level"]) == (1, False, "speaks")
    assert any("answer differently" in note for note in found["notes"])


def test_redis_lives_and_freezes(shop: Shop) -> None:
    with Redis() as server:
        shop.write(cache={"port": server.port, "health": {"probe": "redis", "timeout": 5}})
        good = shop.service()
        assert (good["status"], good["level"]) == (0, "speaks")
        assert [answer["reason"] for answer in good["answers"] if answer["good"]] == ["PONG"]
        server.freeze()
        frozen = shop.service("--timeout", "0.5")
        assert (frozen["status"], frozen["level"]) == (1, "accepts")
        server.thaw()
        assert shop.service()["status"] == 0


def test_redis_that_wants_a_password_works(shop: Shop) -> None:
    with Redis("--requirepass", "secret") as server:
        found = shop.service("--probe", "redis", str(server.port))
        assert (found["status"], found["level"]) == (0, "speaks")
        wrong = shop.service("--probe", "postgres", str(server.port))
        assert (wrong["status"], wrong["level"]) == (1, "accepts")


@pytest.mark.slow
def test_postgres_lives_refuses_and_freezes(shop: Shop) -> None:
    with Postgres() as server:
        server.start()
        shop.write(db={"port": server.port, "health": {"probe": "postgres", "timeout": 5}})
        good = shop.service()
        assert (good["status"], good["level"]) == (0, "speaks"), good
        wrong = shop.service("--probe", "redis", "db")
        assert (wrong["status"], wrong["level"]) == (1, "accepts")

        (server.data / "pg_hba.conf").write_text("local all all trust\n", encoding="utf-8")
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: "reloading" in server.log(), "PostgreSQL has heard of it")
        wait_until(
            lambda: any("pg_hba.conf" in each["reason"] for each in shop.service()["answers"]),
            "PostgreSQL refuses us",
        )
        assert shop.service()["status"] == 0  # it works, and says no

        server.freeze()
        frozen = shop.service("--timeout", "0.5")
        assert (frozen["status"], frozen["level"]) == (1, "accepts")


@pytest.mark.slow
def test_postgres_that_takes_nobody_is_not_healthy() -> None:
    with Postgres("hot_standby=off") as server:
        (server.data / "standby.signal").touch()
        server.start()
        run = ultra("health", "--no-docker", "--json", "--probe", "postgres", str(server.port))
        [found] = run.json["services"]
        assert (run.status, found["level"], found["healthy"]) == (1, "speaks", False)
        assert "PostgreSQL takes no connection" in found["reason"]


def test_udp_is_held_and_no_more(lab: Lab, shop: Shop) -> None:
    port = free_port()
    shop.write(dns={"port": port, "protocol": "udp"})
    assert shop.service()["level"] == "free"
    lab.start("answering", port, "--udp", "127.0.0.1")
    found = shop.service()
    assert (found["status"], found["level"], found["reason"]) == (0, "held", "a socket is bound")
    asked = shop.service("--probe", "/", "dns")
    assert (asked["status"], asked["healthy"]) == (1, None)


def test_who_has_bound_and_does_not_listen(lab: Lab, shop: Shop) -> None:
    port = free_port()
    lab.start("answering", port, "--bound")
    found = shop.service(str(port))
    assert (found["status"], found["level"], found["healthy"]) == (1, "held", False)
    assert "does not listen" in found["reason"]


def test_a_full_queue_is_not_a_connection(lab: Lab, shop: Shop) -> None:
    port = free_port()
    lab.start("unaccepting", port)
    found = shop.service("--timeout", "0.5", f"127.0.0.1:{port}")
    assert (found["status"], found["level"], found["healthy"]) == (1, "held", False)
    assert "no connection in time" in found["reason"]


def test_an_address_that_is_not_ours_is_not_called_free(shop: Shop) -> None:
    """Nobody can connect to the broadcast address, on whatever network."""
    found = shop.service("--timeout", "0.3", "255.255.255.255:80")
    assert (found["status"], found["level"], found["healthy"]) == (1, "unknown", None)
    assert found["reason"].startswith("no connection")


def test_a_command_is_asked(lab: Lab, shop: Shop) -> None:
    port = free_port()
    script = shop.root / "ask.sh"
    script.write_text('echo "port $PORT"; test -e well', encoding="utf-8")
    shop.write(api={"port": port, "health": ["sh", "ask.sh"]})
    assert shop.service()["reason"] == "nobody holds it"
    lab.start("answering", port)

    bad = shop.service()
    assert (bad["status"], bad["level"]) == (1, "accepts")
    assert bad["reason"] == f"'sh': exit status 1: 'port {port}'"
    (shop.root / "well").touch()
    good = shop.service()
    assert (good["status"], good["level"], good["reason"]) == (0, "speaks", "'sh' succeeds")
    shop.write(api={"port": port, "health": ["no-such-program"]})
    assert shop.service()["healthy"] is None


def test_a_command_ends_with_its_children(lab: Lab, shop: Shop) -> None:
    port = free_port()
    lab.start("answering", port)
    script = (
        "sleep 1000 & echo $! >group; setsid sh -c 'echo $$ >other; exec sleep 1000' & "
        "while ! test -s other; do sleep 0.01; done; yes; wait"
    )
    shop.write(api={"port": port, "health": {"probe": ["sh", "-c", script], "timeout": 1}})

    found = shop.service()
    assert (found["status"], found["healthy"]) == (1, False)
    assert "does not end in time" in found["reason"]
    for name in ("group", "other"):
        pid = int((shop.root / name).read_text(encoding="utf-8"))
        wait_until(lambda pid=pid: not alive(pid), "nothing of the command is left")  # type: ignore[misc]


def test_what_a_command_leaves_behind_does_not_keep_us(lab: Lab, shop: Shop) -> None:
    port = free_port()
    lab.start("answering", port)
    script = "sleep 1000 & echo $! >left; exit 0"
    shop.write(api={"port": port, "health": {"probe": ["sh", "-c", script], "timeout": 30}})
    found = shop.service()
    assert found["status"] == 0
    pid = int((shop.root / "left").read_text(encoding="utf-8"))
    wait_until(lambda: not alive(pid), "nothing of the command is left")


@pytest.mark.root
def test_a_command_of_another_users_file_is_not_run(lab: Lab, shop: Shop) -> None:
    if os.geteuid() != 0:
        pytest.skip("root gives files away")
    port = free_port()
    lab.start("answering", port)
    shop.write(api={"port": port, "health": ["touch", "was-run"]})
    file = shop.root / "ultra-ports.toml"
    for given_away in (file, shop.root):
        os.chown(given_away, 65534, 65534)
        found = shop.service()
        assert (found["status"], found["healthy"], found["level"]) == (1, None, "accepts")
        assert found["reason"] == f"not run: {given_away} belongs to nobody"
        os.chown(given_away, 0, 0)
    file.chmod(0o666)
    assert "everybody may write" in shop.service()["reason"]
    assert not (shop.root / "was-run").exists()
    file.chmod(0o644)
    assert shop.service()["status"] == 0
    assert (shop.root / "was-run").exists()


def test_many_services_in_one_table(lab: Lab, shop: Shop) -> None:
    first = free_range(3)
    shop.write(**{f"s{number}": {"port": first + number} for number in range(3)})
    lab.start("answering", first)
    lab.start("answering", first + 2)
    run = shop.health()
    assert run.status == 1
    head, *rows = run.stdout.splitlines()
    assert head.split() == ["SERVICE", "PORT", "LEVEL", "HEALTH", "HOLDER", "ANSWER"]
    assert [row.split()[:4] for row in rows[:3]] == [
        ["s0", f"{first}/tcp", "accepts", "healthy"],
        ["s1", f"{first + 1}/tcp", "free", "unhealthy"],
        ["s2", f"{first + 2}/tcp", "accepts", "healthy"],
    ]
    assert shop.health("s0", f"{first + 2}").status == 0
    assert shop.health("-q").stdout == ""
    assert shop.health("-q").status == 1


def test_bad_input_is_a_line_and_status_2(shop: Shop) -> None:
    shop.write(api={"port": free_port()})
    nonsense = [["nobody"], ["99999"], ["--timeout", "0", "80"], ["--timeout", "nan", "80"], [""],
                ["--probe", "ftp://x", "80"], ["--probe", "/ /", "80"]]  # fmt: skip
    refused(((words, "") for words in nonsense), "health", cwd=shop.root)


def test_without_a_file_something_has_to_be_named(shop: Shop) -> None:
    run = shop.health()
    assert run.status == 2
    assert "there is no project file" in run.stderr


def test_nothing_is_bound(lab: Lab, shop: Shop) -> None:
    """A server that starts just now is not to find its port taken by who asks after it."""
    port = free_port()
    witness = lab.start("binding", port)
    for _ in range(3):
        shop.health("-q", str(port))
    assert witness.alive


@pytest.mark.engine
def test_a_container_that_serves_freezes_and_forgets_to_listen(engine: Engine, shop: Shop) -> None:
    port = free_port()
    web = engine.publish(f"{port}:80")
    web.wait_for(port)
    good = shop.service(str(port), docker=True)
    assert (good["status"], good["level"], good["inside"]) == (0, "accepts", True), good
    assert good["holders"][0]["container"]["name"] == web.name

    os.kill(web.pid, signal.SIGSTOP)
    listener = [child.pid for child in psutil.Process(web.pid).children(recursive=True)]
    for pid in listener:
        os.kill(pid, signal.SIGSTOP)
    frozen = shop.service(str(port), docker=True)
    assert (frozen["status"], frozen["level"], frozen["healthy"]) == (1, "accepts", False), frozen
    assert "takes no connection" in frozen["reason"]
    web.engine("rm", "--force", web.name)
    assert shop.service(str(port), docker=True)["level"] == "free"

    idle = engine.publish(f"{port}:80", script='trap "exit 0" TERM; sleep 1000 & wait')
    wait_until(lambda: shop.service(str(port), docker=True)["level"] != "free", "it is published")
    found = shop.service(str(port), docker=True)
    assert (found["status"], found["level"], found["inside"]) == (1, "held", False), found
    assert found["reason"] == "nothing listens on 80/tcp in the container"
    assert idle.state == "running"
