"""A developer's own server is freed without a flag, whatever goes down with it by design."""

from __future__ import annotations

import shutil
import socket
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.cli import ultra
from tests.lab.known import TERMINAL, real
from tests.lab.npm import install
from tests.lab.ports import free_port, is_free, is_served
from tests.lab.processes import unavailable, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.processes import Lab

QUICK = ("--settle", "0.3")
SERVER = "require('http').createServer((q, r) => r.end('ok')).listen(+process.argv[2], '127.0.0.1')"
WEB = """\
from prometheus_client import start_http_server
def application(environ, start_response):
    start_response('200 OK', [])
    return [b'ok']
"""
METRICS = "def on_starting(server):\n    import web\n    web.start_http_server({})\n"
JAVA = """\
public class Server {
  public static void main(String[] a) throws Exception {
    java.net.ServerSocket s = new java.net.ServerSocket(Integer.parseInt(a[0]));
    while (true) { s.accept().close(); }
  }
}
"""


def freed(port: int) -> list[dict[str, Any]]:
    """Frees the port, and asserts that this needs no flag; what was lost with the holder."""
    run = ultra("resolve", "--json", *QUICK, str(port))
    assert run.status == 0, run.stdout
    [holder, *_] = run.port(f"{port}/tcp")["holders"]
    collateral: list[dict[str, Any]] = holder["collateral"]
    assert {each["degree"] for each in collateral} <= {"mentioned"}
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0
    return collateral


def listening(port: int) -> None:
    wait_until(lambda: is_served(port), f"{port} is served")


def test_node_with_its_inspector(lab: Lab, tmp_path: Path) -> None:
    node = shutil.which("node") or unavailable("node is missing")
    port, inspector = free_port(), free_port()
    (tmp_path / "server.js").write_text(SERVER, encoding="utf-8")
    lab.command(node, f"--inspect=127.0.0.1:{inspector}", "server.js", str(port))
    listening(port)

    assert [each["text"] for each in freed(port)] == [f"{inspector}/tcp"]


def test_vite_with_the_websocket_of_a_browser(lab: Lab, tmp_path: Path) -> None:
    vite = install("vite@5")  # later ones want a newer node than Debian 12 has
    port = free_port()
    (tmp_path / "index.html").write_text("<script type=module></script>", encoding="utf-8")
    lab.command(str(vite), "--port", str(port), "--strictPort", "--host", "127.0.0.1")
    listening(port)
    with closing(socket.create_connection(("127.0.0.1", port), 10)) as browser:
        browser.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Protocol: vite-hmr\r\n\r\n"
        )
        assert b" 101 " in browser.recv(4096)

        freed(port)


@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_gunicorn_with_a_metrics_port(lab: Lab, tmp_path: Path, worker: str) -> None:
    port, metrics = free_port(), free_port()
    (tmp_path / "web.py").write_text(WEB, encoding="utf-8")
    (tmp_path / "gunicorn.conf.py").write_text(METRICS.format(metrics), encoding="utf-8")
    words = ("-k", worker, "-b", f"127.0.0.1:{port}", "web:application")
    lab.command(sys.executable, "-m", "gunicorn", *words, env={"PYTHONPATH": str(tmp_path)})
    listening(port)
    listening(metrics)

    assert [each["text"] for each in freed(port)] == [f"{metrics}/tcp"]


def test_uvicorn_whose_socket_came_from_its_reloader(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "web.py").write_text(WEB, encoding="utf-8")
    words = ("--reload", "--interface", "wsgi", "--port", str(port), "web:application")
    lab.command(sys.executable, "-m", "uvicorn", *words, env={"PYTHONPATH": str(tmp_path)})
    listening(port)

    assert freed(port) == []


def test_java_with_jmx(lab: Lab, tmp_path: Path) -> None:
    java = shutil.which("java") or unavailable("java is missing")
    port, jmx = free_port(), free_port()
    (tmp_path / "Server.java").write_text(JAVA, encoding="utf-8")
    management = "-Dcom.sun.management.jmxremote"
    options = (f"{management}.port={jmx}", f"{management}.authenticate=false")
    lab.command(java, *options, f"{management}.ssl=false", "Server.java", str(port))
    listening(port)

    assert f"{jmx}/tcp" in [each["text"] for each in freed(port)]


def test_a_server_with_a_client_and_the_way_it_is_told(lab: Lab) -> None:
    port, other = free_port(), free_port()
    server = lab.start("answering", port)
    lab.start("answering", other)
    with closing(socket.create_connection(("127.0.0.1", port))):
        run = ultra("resolve", *QUICK, str(port))
    assert (run.status, server.alive) == (0, False)
    assert "would also end" not in run.stdout
    assert not is_free(other)


NGINX = """\
daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{ access_log off; server {{ listen 127.0.0.1:{port}; }} }}
"""


def test_what_a_developer_starts_on_a_terminal(lab: Lab, tmp_path: Path) -> None:
    """Each has a terminal as its standard input, and nobody types into it."""
    (tmp_path / "server.js").write_text(SERVER, encoding="utf-8")
    (tmp_path / "config.ru").write_text("run ->(e) { [200, {}, ['ok']] }", encoding="utf-8")
    (tmp_path / "web.py").write_text(WEB.partition("\n")[2], encoding="utf-8")
    (tmp_path / "index.php").touch()
    ports = [free_port() for _ in range(9)]
    (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path, port=ports[0]))
    here = "127.0.0.1"
    commands = (
        (real("nginx"), "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")),
        (real("node"), "server.js", str(ports[1])),
        (sys.executable, "-m", "http.server", "--bind", here, str(ports[2])),
        (real("php"), "-S", f"{here}:{ports[3]}"),
        ("env", "PHP_CLI_SERVER_WORKERS=2", real("php"), "-S", f"{here}:{ports[4]}"),
        (real("puma"), "-b", f"tcp://{here}:{ports[5]}"),
        (real("puma"), "-w", "2", "-b", f"tcp://{here}:{ports[6]}"),
        (
            sys.executable,
            "-m",
            "gunicorn",
            "-w",
            "2",
            "-b",
            f"{here}:{ports[7]}",
            "web:application",
        ),
        (real("redis-server"), "--port", str(ports[8]), "--save", "", "--bind", here),
    )
    for command in commands:
        lab.command(*TERMINAL, *command)
    for port in ports:
        listening(port)

    run = ultra("resolve", "--json", "--no-docker", *QUICK, *map(str, ports))

    assert run.status == 0, run.stdout
    assert {each["verdict"] for each in run.json["ports"]} == {"freed"}
