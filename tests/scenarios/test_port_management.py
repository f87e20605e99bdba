"""Sessions of the pages are played, each on its stage, with ports and names of its own."""

from __future__ import annotations

import os
import pty
import pwd
import shutil
import socket
import subprocess
import sys
import uuid
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from tests.lab import pages
from tests.lab.cli import COMMAND
from tests.lab.engine import LABEL, SERVE
from tests.lab.ports import free_port, free_range, listens
from tests.lab.processes import ROOT, answered_by, wait_until
from tests.lab.shells import WEBAPP, environment
from tests.lab.supervisord import program, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.engine import Engine
    from tests.lab.pages import Block
    from tests.lab.processes import Lab
    from tests.lab.supervisord import Supervisor

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "port-management.md"
EXAMPLES = ROOT / "examples"
SESSIONS = [
    (page, block)
    for page in (PAGE, ROOT / "README.md", ROOT / "docs" / "many-checkouts.md")
    for block in pages.blocks(page)
    if block.language == "console" and (block.stage or page == PAGE)
]
BASH = shutil.which("bash") or "bash"
APPLICATION = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
"""
PORTS = ("8085", "3000", "6379", "9000", "9085")


class Stage:
    """Where a session is played: a copy of the examples, where each name of the page's is another.

    `names` has the real word for each of them. The ports are free until somebody takes them.
    """

    def __init__(self, request: pytest.FixtureRequest, lab: Lab, home: Path) -> None:
        self._request = request
        self.lab = lab
        self.after = ExitStack()
        self.project = f"lab{uuid.uuid4().hex[:10]}"
        self.folder = home / self.project
        self.names = {
            "/srv/shop": str(self.folder),
            "shop": self.project,
            "ada": pwd.getpwuid(os.geteuid()).pw_name,
            **{port: str(free_port()) for port in PORTS},
            "8100-8199": "-".join(map(str, (first := free_range(20), first + 19))),
        }
        self.cwd = self.folder
        self.prelude = ""
        self.env = {**environment(), **lab.marked(), "PYTHONPATH": ""}
        self._copy_examples()

    def fixture(self, name: str) -> Any:  # noqa: ANN401 - any fixture
        """What a fixture of the tests gives: only those that a stage needs are set up."""
        return self._request.getfixturevalue(name)

    def port(self, number: int) -> int:
        """The real port in the place of one of the page's."""
        return int(self.names[str(number)])

    def play(self, session: str) -> list[pages.Command]:
        """What happens when the session is typed here, in the words of the page."""
        real = pages.commands(pages.substituted(session, self.names))
        back = {real: told for told, real in self.names.items()}
        return [
            pages.Command(
                pages.substituted(each.typed, back),
                [pages.substituted(line, back) for line in each.printed],
                each.status,
            )
            for each in pages.play(real, self.cwd, self.env, self.prelude)
        ]

    def serve(self, number: int) -> None:
        """Starts the web application on a port; the shell that started it is gone."""
        line = f"python -m uvicorn backend.app:app --port {self.port(number)} >/dev/null 2>&1 &"
        subprocess.run(["/bin/sh", "-c", line], cwd=self.folder, env=self.env, check=True)
        wait_until(lambda: listens(self.port(number)), f"the application listens on {number}")

    def compose(self, *arguments: str) -> str:
        """Runs `docker compose` on the project's file."""
        engine: Engine = self.fixture("engine")
        return engine("compose", "-f", str(self.folder / "docker-compose.yml"), *arguments)

    def borrow_images(self) -> None:
        """Lets the services of the compose file run what this machine has."""
        engine: Engine = self.fixture("engine")
        path = self.folder / "docker-compose.yml"
        described = YAML(typ="safe").load(path)
        for service in described["services"].values():
            listen = service["ports"][0].rpartition(":")[2]
            service["image"] = engine.image
            service["command"] = ["sh", "-c", SERVE.replace("$", "$$")]
            service["environment"] = {"NAME": "it", "LISTEN": listen}
            service["restart"] = "always"
            service["labels"] = {LABEL: engine.mark}
        YAML().dump(described, path)
        self.after.callback(self._compose_down)

    def _compose_down(self) -> None:
        words = ("docker", "compose", "-p", self.project, "down", "--timeout", "1")
        subprocess.run([*words, "--remove-orphans"], check=True, capture_output=True)

    def _copy_examples(self) -> None:
        shutil.copytree(EXAMPLES, self.folder)
        shutil.copytree(WEBAPP / "backend", self.folder / "backend")
        for path in ("ultra-ports.toml", "docker-compose.yml"):
            text = (self.folder / path).read_text()
            (self.folder / path).write_text(pages.substituted(text, self.names))


@contextmanager
def _typed(line: str, lab: Lab) -> Iterator[None]:
    """An interactive shell on a terminal of its own, with a line typed into it."""
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        [BASH, "--norc", "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "PS1": "$ ", **lab.marked()},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        os.write(ours, line.encode() + b"\n")
        yield
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


# --- the stages -----------------------------------------------------------------------------------


def empty(_: Stage) -> None:
    """Nobody holds anything."""


def server(stage: Stage) -> None:
    """A server that was forgotten holds the API's port."""
    stage.serve(8085)


def servers(stage: Stage) -> None:
    """The API's port and the front end's are held."""
    stage.serve(8085)
    stage.serve(3000)


def supervised(stage: Stage) -> None:
    """supervisord keeps a server on the API's port."""
    port = stage.port(8085)
    config = _supervised(stage, serving(port))
    wait_until(lambda: answered_by(port), "the supervised server answers")
    stage.names["/etc/supervisord.conf"] = config


def _supervised(stage: Stage, command: str) -> str:
    """Has a supervisord run it as `web`; where its configuration is."""
    supervisor: Supervisor = stage.fixture("supervisor")
    group = f"[group:{stage.project}]\nprograms=web\n"
    supervisor.start(f"{group}{program('web', command, 'true')}")
    return str(supervisor.config)


def three(stage: Stage) -> None:
    """A container publishes a port, gunicorn serves on one, and supervisord keeps one."""
    (stage.folder / "ultra-ports.toml").unlink()  # it has other services
    del stage.names["ada"]  # the page says root
    stage.names |= {port: str(free_port()) for port in ("8086", "8087")}
    engine: Engine = stage.fixture("engine")
    _publish(stage, stage.project, f"{stage.project}-web-1")
    stage.names["shop-web:1.4"] = engine.image
    gunicorn = f"{Path(sys.executable).parent}/gunicorn"
    stage.names |= {"/srv/gv/bin/python3": sys.executable, "/srv/gv/bin/gunicorn": gunicorn}
    (stage.folder / "app.py").write_text(APPLICATION)
    words = ("--daemon", "-w", "2", "-b", f"0.0.0.0:{stage.port(8086)}", "app:app")
    subprocess.run([gunicorn, *words], cwd=stage.folder, env=stage.env, check=True)
    served = f"{sys.executable} -m http.server {stage.port(8087)}"
    config = _supervised(stage, f"env -C {stage.folder} {served}")
    stage.names["/srv/shop/supervisord.conf"] = config
    for port in (8086, 8087):
        wait_until(partial(listens, stage.port(port)), f"somebody serves on {port}")


def leased(stage: Stage) -> None:
    """A server runs under the lease of a checkout, and the command in the second worktree."""
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b")
    other = stage.folder.with_name("fix")
    for words in (
        ("init", "--quiet", "--initial-branch", "main"),
        ("add", "."),
        ("commit", "--quiet", "--message", "all"),
        ("worktree", "add", "--quiet", str(other)),
    ):
        subprocess.run([*git, *words], cwd=stage.folder, check=True, capture_output=True)
    port = stage.port(8085)
    line = f"ultra-ports run -p api:{port} -- {sys.executable} -m http.server {port} >&- 2>&- &"
    subprocess.run(["/bin/sh", "-c", line], cwd=stage.folder, env=stage.env, check=True)
    wait_until(lambda: listens(port), "the leased server listens")
    stage.cwd = other
    del stage.names["ada"]  # the pages say root


def loop(stage: Stage) -> None:
    """A loop that somebody typed into a shell starts the server again and again."""
    port = stage.port(8085)
    line = f"while true; do {serving(port)}; done"
    stage.after.enter_context(_typed(line, stage.lab))
    wait_until(lambda: answered_by(port), "the loop's server answers")


def anothers(stage: Stage) -> None:
    """The server is root's, and the command is typed by somebody else."""
    server(stage)
    somebody = " ".join(stage.fixture("as_nobody"))
    stage.prelude = f'ultra-ports() {{ {somebody} {COMMAND} "$@"; }}'
    stage.cwd = Path("/")
    del stage.names["ada"]  # the page says root
    stage.names["/usr/local/bin/ultra-ports"] = COMMAND


def neighbour(stage: Stage) -> None:
    """A container of another compose project publishes the API's port."""
    stage.borrow_images()
    engine: Engine = stage.fixture("engine")
    other = f"lab{uuid.uuid4().hex[:10]}"
    stage.names |= {"blog": other, "blog:latest": engine.image}
    _publish(stage, other, f"{other}-web-1")


def _publish(stage: Stage, project: str, name: str) -> None:
    """Starts a compose project's container that publishes the API's port."""
    engine: Engine = stage.fixture("engine")
    labels = [
        f"--label=com.docker.compose.{key}={value}"
        for key, value in {"project": project, "service": "web", "container-number": "1"}.items()
    ]
    engine(
        *("run", "-d", "--name", name, "--restart=always", f"--label={LABEL}={engine.mark}"),
        *(*labels, f"--env=NAME={name}", "--env=LISTEN=80", f"--publish={stage.port(8085)}:80"),
        *(engine.image, "sh", "-c", SERVE),
    )
    wait_until(lambda: listens(stage.port(8085)), "the project's container listens")


def orphan(stage: Stage) -> None:
    """The project runs, and then its API is called otherwise in the file."""
    stage.borrow_images()
    stage.compose("up", "--detach")
    path = stage.folder / "docker-compose.yml"
    path.write_text(path.read_text().replace("  api:", "  backend:"))


def client(stage: Stage) -> None:
    """The kernel gave a port of the ephemeral range to somebody's outgoing connection."""
    port = free_port()
    stage.lab.start("answering", port)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        chosen = probe.getsockname()[1]
    stage.names |= {"40085": str(chosen), "5432": str(port)}
    stage.lab.start("client", port, "--source-port", chosen)


STAGES = {
    each.__name__: each
    for each in (
        *(empty, server, servers, supervised, loop, anothers, neighbour, orphan, client),
        *(three, leased),
    )
}
MARKS = {
    "supervised": [pytest.mark.supervisord],
    "neighbour": [pytest.mark.engine],
    "orphan": [pytest.mark.engine],
    "three": [pytest.mark.engine, pytest.mark.supervisord, pytest.mark.root],
    "leased": [pytest.mark.root],
}


# --- the sessions ---------------------------------------------------------------------------------


@pytest.fixture
def stage(request: pytest.FixtureRequest, lab: Lab, tmp_path: Path) -> Iterator[Stage]:
    """A stage; what was started on it is taken down."""
    made = Stage(request, lab, tmp_path)
    with made.after:
        yield made


@pytest.mark.parametrize(
    "session",
    [
        pytest.param(
            each, id=f"{page.stem}-{each.stage}-{each.line}", marks=MARKS.get(each.stage, [])
        )
        for page, each in SESSIONS
    ],
)
def test_a_session_goes_as_the_page_says(session: Block, stage: Stage) -> None:
    STAGES[session.stage](stage)

    played = stage.play(session.text)

    wrong = pages.differences(pages.commands(session.text), played, stage.names)
    assert not wrong, f"{wrong}\n\nWhat happened:\n\n{pages.shown(played)}"
