"""`ultra-ports serve`: what it tells, whom it refuses, and what it puts up with."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.lab import contracts
from tests.lab.cli import COMMAND, refused, ultra
from tests.lab.exporter import Serving, answered
from tests.lab.ports import free_port
from tests.lab.processes import unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.processes import Lab

ODD_NAME = 'a"b\\c\n\u202e<b>'  # as much as the kernel keeps: 15 bytes
EVIL = ("evil.example", "evil.example:9485", "localhost.evil.example", "127.0.0.1.evil.example")
OURS = ("localhost", "LOCALHOST:9485", "127.0.0.1", "127.0.0.1:80", "[::1]:9485", "10.1.2.3")


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def serving(port: int) -> Iterator[Serving]:
    """Serves one port."""
    with Serving(str(port)) as serving:
        yield serving


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Serves one port that nobody has, to every test that only asks."""
    with pytest.MonkeyPatch.context() as own:
        own.setenv("ULTRA_PORTS_STATE", str(tmp_path_factory.mktemp("lasting") / "state"))
        lasting = Serving(str(free_port()))
    with lasting:
        yield lasting


def samples(serving: Serving) -> dict[str, list[tuple[dict[str, str], float]]]:
    """The metrics as Prometheus's own client reads them: name → labels and values."""
    response = serving.get("/metrics")
    assert response.status == 200
    assert response.fields["Content-Type"].startswith("text/plain; version=0.0.4")
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(response.text):
        assert family.documentation
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def only(
    found: dict[str, list[tuple[dict[str, str], float]]], name: str
) -> tuple[dict[str, str], float]:
    [sample] = found[f"ultra_ports_{name}"]
    return sample


def test_health_follows_the_server(lab: Lab, port: int) -> None:
    with Serving(str(port), "--make-token") as serving:
        before = serving.get()
        server = lab.start("answering", port)
        wait_until(lambda: serving.get().status == 200, "it is healthy")
        during = serving.health(token=serving.token)
        same = ultra("health", "--json", "--no-docker", str(port)).json
        server.popen.kill()
        server.popen.wait()
        wait_until(lambda: serving.get().status == 503, "it is not")
        after = serving.health()

    assert before.status == 503
    assert before.fields["Content-Type"] == "application/json"
    [service] = during["services"]
    assert (during["schema"], during["healthy"], service["healthy"]) == (same["schema"], True, True)
    assert service["holders"] == same["services"][0]["holders"]
    assert after["services"][0]["level"] == "free"


def test_services_of_the_project_file(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "ultra-ports.toml").write_text(
        f'project = "shop"\n[services.api]\nport = {port}\n[services.web]\nport = {free_port()}\n'
    )
    monkeypatch.chdir(tmp_path)
    lab.start("answering", port)
    with Serving() as serving:
        services = {each["service"]: each["healthy"] for each in serving.health()["services"]}
        up = {labels["service"]: value for labels, value in samples(serving)["ultra_ports_port_up"]}

    assert services == {"api": True, "web": False}
    assert up == {"api": 1.0, "web": 0.0}


def test_metrics_of_a_port(lab: Lab, serving: Serving, port: int) -> None:
    lab.start("answering", port)
    wait_until(lambda: serving.get().status == 200, "it is healthy")
    found = samples(serving)

    labels, up = only(found, "port_up")
    assert up == 1.0
    assert labels == {"service": "", "port": str(port), "transport": "tcp", "address": ""}
    holder, _ = only(found, "port_holder_info")
    assert holder["kind"] == "local"
    assert holder["holder"].startswith("python")
    assert only(found, "port_info")[0]["health"] == "healthy"
    assert only(found, "check_success")[1] == 1.0
    assert abs(only(found, "check_timestamp_seconds")[1] - time.time()) < 60


def test_respawns_are_counted(lab: Lab, serving: Serving, port: int) -> None:
    def looked_at() -> None:
        """Waits for a look that began after now."""
        before = only(samples(serving), "looks_total")[1]
        wait_until(lambda: only(samples(serving), "looks_total")[1] >= before + 2, "it looks")

    server = lab.start("answering", port, log=False)
    looked_at()
    assert only(samples(serving), "port_respawns_total")[1] == 0
    server.popen.kill()
    server.popen.wait()
    looked_at()
    lab.start("answering", port, log=False)
    looked_at()
    assert only(samples(serving), "port_respawns_total")[1] == 1


def test_leases_are_counted(serving: Serving) -> None:
    ultra("reserve", "api", str(free_port()), "--ttl", "1h")

    wait_until(lambda: "ultra_ports_leases" in samples(serving), "the lease is seen")
    labels, count = only(samples(serving), "leases")
    assert (labels["held"], count) == ("false", 1.0)


def test_what_resolve_came_to_is_counted(lab: Lab, serving: Serving) -> None:
    def outcomes() -> dict[str, float]:
        found = samples(serving)["ultra_ports_resolve_outcomes_total"]
        return {labels["verdict"]: value for labels, value in found if value}

    assert outcomes() == {}
    other = free_port()
    lab.start("answering", other)
    ultra("resolve", "--no-docker", "--dry-run", str(other))
    assert outcomes() == {}
    ultra("resolve", "--no-docker", "--settle", "0.1", str(other))
    ultra("resolve", "--no-docker", "--settle", "0.1", f"{other}", f"{free_port()}")

    assert outcomes() == {"freed": 1.0, "free": 2.0}


def test_nothing_is_counted_that_nobody_wants_to_know(state: Path, port: int) -> None:
    assert ultra("resolve", "--no-docker", "--settle", "0.1", str(port)).status == 0
    assert not state.exists()


@pytest.mark.parametrize("kind", ["link", "hardlink", "pipe", "stranger"])
def test_a_file_that_is_not_our_count_is_left_alone(state: Path, port: int, kind: str) -> None:
    state.mkdir()
    outcomes, other = state / "outcomes", state / "other"
    other.write_text("precious")
    if kind == "link":
        outcomes.symlink_to(other)
    elif kind == "hardlink":
        outcomes.hardlink_to(other)
    elif kind == "pipe":
        os.mkfifo(outcomes)
    else:
        outcomes.write_text("precious")

    assert ultra("resolve", "--no-docker", "--settle", "0.1", str(port)).status == 0
    assert other.read_text() == "precious"
    assert kind != "stranger" or outcomes.read_text() == "precious"


def test_many_count_at_once(serving: Serving) -> None:
    def resolve(port: int) -> int:
        return ultra("resolve", "--no-docker", "--settle", "0", str(port)).status

    ports = [free_port() for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(resolve, ports)) == {0}

    found = {
        labels["verdict"]: value
        for labels, value in samples(serving)["ultra_ports_resolve_outcomes_total"]
    }
    assert 0 < found["free"] <= 8  # to count is best effort: who would have to wait gives up


def test_promtool_agrees(lab: Lab, serving: Serving, port: int) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        unavailable("promtool is missing")
    lab.start("answering", port, "--name", ODD_NAME)
    ultra("reserve", "api", str(free_port()), "--ttl", "1h")
    wait_until(lambda: serving.get().status == 200, "it is healthy")
    wait_until(lambda: "ultra_ports_leases" in samples(serving), "the lease is seen")

    text = serving.get("/metrics").text
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_odd_name_is_one_label(lab: Lab, serving: Serving, port: int) -> None:
    lab.start("answering", port, "--name", ODD_NAME)
    wait_until(lambda: serving.get().status == 200, "it is healthy")

    name = only(samples(serving), "port_holder_info")[0]["holder"]
    assert name == 'a"b\\c\\n\\u202e<b>'[: len(name)]
    assert name.startswith('a"b\\c\\n\\u202e')
    assert "\u202e" not in serving.get("/metrics").text
    [holder] = serving.health()["services"][0]["holders"]
    assert holder["processes"][0]["name"].startswith('a"b\\c\n\u202e')


@pytest.mark.parametrize("host", EVIL)
@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics"])
def test_foreign_hosts_are_refused(lasting: Serving, host: str, path: str) -> None:
    assert lasting.get(path, Host=host).status == 403


@pytest.mark.parametrize("host", OURS)
def test_addresses_and_localhost_are_ours(lasting: Serving, host: str) -> None:
    assert lasting.get("/", Host=host).status == 200


def test_a_host_name_of_our_own(port: int) -> None:
    with Serving(str(port), "--host-name", "Ports.example") as serving:
        assert serving.get("/", Host="ports.example:9485").status == 200
        assert serving.get("/", Host="other.example").status == 403


def test_what_is_no_host_name(port: int) -> None:
    names = ("", "a b", "example.com:80", "http://example.com")
    listening = ("serve", "--listen", "127.0.0.1:0", "--host-name")
    refused((((name, str(port)), "") for name in names), *listening)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT"])
def test_nothing_can_be_changed(lasting: Serving, method: str) -> None:
    response = lasting.get("/healthz", method)
    assert (response.status, response.fields["Allow"]) == (405, "GET, HEAD")


def test_a_body_is_not_read(lasting: Serving) -> None:
    head = f"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: {1 << 20}\r\n\r\n"
    assert lasting.say(head.encode() + b"x" * (1 << 20)).status == 405


def test_a_head_alone(lasting: Serving) -> None:
    whole, head = lasting.get("/"), lasting.get("/", "HEAD")
    assert (head.status, head.text) == (200, "")
    assert head.fields == whole.fields
    assert int(head.fields["Content-Length"]) == len(whole.text.encode())


@pytest.mark.parametrize("path", ["/healthz", "/healthz?x=1&y=%2e"])
def test_a_query_is_no_matter(lasting: Serving, path: str) -> None:
    assert lasting.get(path).status == 503


@pytest.mark.parametrize("path", ["/nothing", "//healthz", "/healthz/", "/../etc/passwd", "/%2e"])
def test_there_is_nothing_else(lasting: Serving, path: str) -> None:
    assert lasting.get(path).status == 404


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nno field\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: b\nHost: evil\r\n x\r\n\r\n",
        b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"\xff\xfe GET \xff HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_request(lasting: Serving, sent: bytes) -> None:
    assert lasting.say(sent).status == 400
    assert lasting.get("/").status == 200


def test_a_client_of_http_1_0(lasting: Serving) -> None:
    assert lasting.say(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n").status == 200
    assert lasting.say(b"GET / HTTP/1.0\r\nHost: evil.example\r\n\r\n").status == 403


def test_a_huge_head(serving: Serving) -> None:
    before = psutil.Process(serving.popen.pid).memory_info().rss
    with serving.connected() as client, contextlib.suppress(OSError):
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nA: ")
        for _ in range(256):
            client.sendall(b"x" * (1 << 20))
    after = psutil.Process(serving.popen.pid).memory_info().rss
    assert after - before < 32 << 20
    assert serving.say(b"GET / HTTP/1.1\r\nA: " + b"x" * (20 << 10) + b"\r\n\r\n").status == 431


def test_pipelined_requests_are_answered_once(lasting: Serving) -> None:
    request = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"
    response = lasting.say(request * 100)
    assert response.status == 404
    assert "HTTP/1.1" not in response.text


def test_a_client_that_has_nothing_more_to_say(lasting: Serving) -> None:
    with lasting.connected() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        assert answered(client).status == 200


def test_silent_clients_are_sent_away(serving: Serving) -> None:
    with serving.connected() as silent, serving.connected() as dripping:
        dripping.sendall(b"GET / HT")
        assert serving.get("/").status == 200
        assert answered(silent).status == 408
        assert answered(dripping).status == 408


def test_clients_that_do_not_read(serving: Serving) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(serving.connected())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert serving.get("/").status == 200
        server = psutil.Process(serving.popen.pid)

        def connections() -> int:
            return sum(each.status == psutil.CONN_ESTABLISHED for each in server.net_connections())

        wait_until(lambda: connections() == 0, "they were sent away")


def test_however_many_ask_there_is_one_check_a_second(port: int) -> None:
    """The port's server counts the connections that checks make."""
    asked, ended = [0], threading.Event()
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(0.1)

        def count() -> None:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    listener.accept()[0].close()
                    asked[0] += 1

        thread = threading.Thread(target=count)
        thread.start()
        with Serving(str(port)) as serving, ThreadPoolExecutor(8) as pool:
            begun = time.monotonic()
            statuses = set(pool.map(lambda _: serving.get().status, range(200)))
            seconds = time.monotonic() - begun
        wait_until(lambda: asked[0], "a check was counted")
        ended.set()
        thread.join()
    assert statuses == {200}
    assert asked[0] <= seconds + 1  # each asks 127.0.0.1 once, and [::1], where nobody listens


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signals_end_it(port: int, number: int, status: int) -> None:
    with Serving(str(port)) as serving, serving.connected() as silent:
        assert serving.get("/").status == 200
        assert serving.end(number) == status
        assert answered(silent).status == 0
        assert serving.stderr == ""


def test_a_check_that_is_under_way_ends_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab: Lab, port: int
) -> None:
    """The command that a probe runs is not left behind."""
    (tmp_path / ".git").mkdir()
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    (tmp_path / "ultra-ports.toml").write_text(
        f"[services.api]\nport = {port}\n"
        f"health = {{ probe = {json.dumps(command)}, timeout = 300 }}\n"
    )
    monkeypatch.chdir(tmp_path)
    lab.start("answering", port)
    with Serving() as serving, serving.connected() as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        started: list[psutil.Process] = []

        def runs() -> bool:
            started[:] = psutil.Process(serving.popen.pid).children(recursive=True)
            return bool(started)

        wait_until(runs, "the command runs")
        assert serving.end() == 0
        assert not [each for each in started if each.is_running() and each.status() != "zombie"]


def test_a_port_that_somebody_has(lab: Lab, port: int) -> None:
    taken = free_port()
    server = lab.start("answering", taken)

    run = ultra("serve", "--listen", f"127.0.0.1:{taken}", str(port))

    assert (run.status, run.stdout) == (1, "")
    assert len(run.stderr.splitlines()) == 1
    assert f"held by {psutil.Process(server.pid).name()} {server.pid}" in run.stderr
    assert server.alive


NO_ADDRESSES = [
    *("", ":", ":9485", "9485x", "65536", "-1", "*:9485", "example.com:9485", "::1:9485"),
    *("[::1]", "[127.0.0.1]:9485", "127.0.0.1", "127.0.0.1:", "127.0.0.1:123456"),
    *("1.2.3.4:9485", "127.0.0.1:9485:1", "[::1%lo]:9485", "\u0663:9485"),
]


def test_what_is_no_address(port: int) -> None:
    refused((((listen, str(port)), "") for listen in NO_ADDRESSES), "serve", "--listen")


def test_what_is_no_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    for arguments in (["nobody"], ["70000"], []):
        run = ultra("serve", "--listen", "127.0.0.1:0", *arguments)
        assert (run.status, run.stdout) == (2, "")


def test_ipv6(port: int) -> None:
    with Serving(str(port), listen="[::1]:0") as serving:
        assert serving.url == f"http://[::1]:{serving.port}/"
        with socket.create_connection(("::1", serving.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n")
            assert answered(client).status == 200
        assert serving.stderr == ""


def test_another_address_than_loopback_is_warned_of(port: int) -> None:
    with Serving(str(port), listen="0.0.0.0:0") as serving:
        assert serving.get("/").status == 200
        assert "WARNING" in serving.stderr
        assert len(serving.stderr.splitlines()) == 1


def test_a_state_directory_that_cannot_be_made(port: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Serving(str(port), env={"ULTRA_PORTS_STATE": str(tmp_path / "file" / "x")}) as serving:
        found = samples(serving)
        assert "ultra_ports_resolve_outcomes_total" not in found
        assert "ultra_ports_port_up" in found
        assert "not counted" in serving.stderr


def test_json_says_where_it_listens(lab: Lab, port: int) -> None:
    lab.start("answering", port)
    argv = [COMMAND, "serve", "--json", "--make-token", "--no-docker", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        [*argv, str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as popen:
        assert popen.stdout is not None
        told = contracts.read("".join(iter(popen.stdout.readline, "}\n")) + "}")
        token = told["page"].rpartition("#token=")[2]
        client = HTTPConnection(told["address"], told["port"])
        client.request("GET", "/healthz", headers={"Authorization": f"Bearer {token}"})
        health = json.load(client.getresponse())
        client.close()
        popen.terminate()
        more, errors = popen.communicate()

    assert told["url"] == f"http://{told['address']}:{told['port']}/"
    assert health["services"][0]["holders"][0]["processes"][0]["command"], "the token is good"
    assert (popen.returncode, more) == (0, "")
    assert token not in errors
