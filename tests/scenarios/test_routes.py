"""The ready routes in real applications: FastAPI, Starlette, Flask, wsgiref, uvicorn, gunicorn."""

from __future__ import annotations

import contextlib
import http.client
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from resolver.health.public import LEFT_OUT
from tests.lab import contracts
from tests.lab.cli import ultra
from tests.lab.ports import free_port
from tests.lab.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.processes import Lab

STARLETTE = """
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from resolver.health.routes import Asgi, asgi
application = Starlette(
    routes=[Route("/healthz", asgi), Mount("/ports", Asgi(PORT)), Mount("/all", Asgi(details=True))]
)
"""
FASTAPI = """
from fastapi import FastAPI
from resolver.health.routes import Asgi, asgi
application = FastAPI()
application.add_route("/healthz", asgi)
application.mount("/ports", Asgi(PORT))

@application.get("/own")
async def own() -> dict:
    return {"own": True}
"""
FLASK = """
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from resolver.health.routes import Wsgi, wsgi
flask = Flask(__name__)
application = DispatcherMiddleware(flask, {
    "/healthz": wsgi, "/ports": Wsgi(PORT), "/all": Wsgi(details=True)
})

@flask.get("/own")
def own():
    return {"own": True}
"""
WSGIREF = """
import sys
from wsgiref.simple_server import make_server
from wsgiref.validate import validator
from resolver.health.routes import wsgi
with make_server("127.0.0.1", int(sys.argv[1]), validator(wsgi)) as server:
    server.serve_forever()
"""
UVICORN = ("-m", "uvicorn", "--log-level", "warning", "--port", "{port}")
GUNICORN = ("-m", "gunicorn", "--workers", "1", "--bind", "127.0.0.1:{port}")
SERVERS = {
    "starlette": (STARLETTE, (*UVICORN, "shop_site:application")),
    "fastapi": (FASTAPI, (*UVICORN, "shop_site:application")),
    "uvicorn": ("", (*UVICORN, "resolver.health.routes:asgi")),
    "flask": (FLASK, (*GUNICORN, "--threads", "4", "shop_site:application")),
    "preloaded": (FLASK, (*GUNICORN, "--preload", "shop_site:application")),
    "gunicorn": ("", (*GUNICORN, "resolver.health.routes:wsgi")),
    "wsgiref": (WSGIREF, ("shop_site.py", "{port}")),
}
MOUNTED = ("starlette", "fastapi", "flask")


class Response(NamedTuple):
    status: int
    fields: dict[str, str]
    body: bytes


class Site:
    """An application that serves the routes of a project with one service, `api`."""

    def __init__(self, lab: Lab, root: Path, name: str) -> None:
        self.port, self.api = free_port(), free_port()
        script, command = SERVERS[name]
        (root / ".git").mkdir()
        self.file = root / "ultra-ports.toml"
        self.file.write_text(f"[services.api]\nport = {self.api}\n")
        (root / "shop_site.py").write_text(script.replace("PORT", str(self.api)))
        argv = (each.format(port=self.port) for each in command)
        self.popen = lab.command(sys.executable, *argv, cwd=root)
        wait_until(lambda: self.get() is not None, "the application answers")

    def ask(self, method: str = "GET", path: str = "/healthz") -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Response(response.status, fields, response.read())
        finally:
            connection.close()

    def get(self, path: str = "/healthz") -> Response | None:
        try:
            return self.ask(path=path)
        except OSError:
            return None

    def service(self, path: str = "/healthz") -> Any:  # noqa: ANN401 - JSON
        [service] = contracts.read(self.ask(path=path).body)["services"]
        return service


@pytest.fixture(params=SERVERS)
def site(request: pytest.FixtureRequest, lab: Lab, tmp_path: Path) -> Iterator[Site]:
    site = Site(lab, tmp_path, request.param)
    yield site
    site.popen.send_signal(signal.SIGINT)  # by itself, so that what it did is measured
    with contextlib.suppress(subprocess.TimeoutExpired):
        site.popen.wait(2.0)


def test_the_route_follows_the_service(lab: Lab, site: Site) -> None:
    assert site.ask().status == 503
    server = lab.start("answering", site.api)
    wait_until(lambda: site.ask().status == 200, "it is healthy")

    response = site.ask()
    told = contracts.read(response.body)
    same = ultra("health", "--json", "--no-docker", cwd=site.file.parent).json
    assert response.fields["content-type"] == "application/json"
    assert response.fields["cache-control"] == "no-store"
    assert told["services"][0]["holders"][0]["processes"][0]["pid"] == server.pid
    assert told.keys() == same.keys()
    assert told["services"][0].keys() == same["services"][0].keys()

    head = site.ask("HEAD")
    assert (head.status, head.body) == (200, b"")
    assert site.ask("POST").status == 405
    server.popen.kill()
    server.popen.wait()
    wait_until(lambda: site.ask().status == 503, "it is not")


@pytest.mark.parametrize("site", MOUNTED, indirect=True)
def test_mounted_beside_other_routes(lab: Lab, site: Site) -> None:
    lab.start("answering", site.api)
    wait_until(lambda: site.ask(path="/ports/").status == 200, "it is healthy")

    assert site.service("/ports/")["service"] is None  # a port, not the project's service
    assert site.service("/healthz")["service"] == "api"
    expected = 404 if site.ask(path="/own").status == 404 else 200
    assert site.ask(path="/own").status == expected


@pytest.mark.parametrize("site", ["starlette", "flask"], indirect=True)
def test_command_lines_are_for_who_asks_for_them(lab: Lab, site: Site) -> None:
    lab.start("answering", site.api, "--padding=--password=hunter2")
    wait_until(lambda: site.ask().status == 200, "it is healthy")
    assert b"hunter2" not in site.ask().body
    assert b"hunter2" not in site.ask(path="/ports/").body
    assert b"hunter2" in site.ask(path="/all/").body


@pytest.mark.parametrize("site", ["fastapi", "gunicorn"], indirect=True)
def test_a_project_file_that_makes_no_sense(site: Site) -> None:
    site.file.write_text("[services.api]\nport = 'none'\n")
    wait_until(lambda: not contracts.read(site.ask().body)["services"], "it is read again")

    response = site.ask()
    told = contracts.read(response.body)
    assert response.status == 503
    assert (told["healthy"], told["exit_status"]) == (False, 2)
    assert str(site.file.parent) not in response.body.decode()
    assert told["notes"] == [LEFT_OUT]
