"""What root's `ultra-ports serve` shows to other users: who holds a port, and nothing that is his.

A secret stands in the command line, the environment, the directory and the program's name of what
holds the port, and in what a project file has run; another user asks for everything there is.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.lab import contracts
from tests.lab.cli import refused, ultra
from tests.lab.exporter import Serving
from tests.lab.ports import free_port, is_served
from tests.lab.processes import unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.lab.processes import Lab

pytestmark = pytest.mark.root
MARK = "hunter2"
RIGHT = "a-token-of-32-characters-or-more"
NOBODY = 65534
PATHS = ("/", "/healthz", "/metrics", "/nothing")
RAW = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20) as client:
    client.sendall(sys.stdin.buffer.read())
    while block := client.recv(1 << 16):
        sys.stdout.buffer.write(block)
"""


class Stage(NamedTuple):
    """A holder with the secret in all that is its own, in a project that is called by it too."""

    port: int
    folder: Path
    pid: int


@pytest.fixture
def stage(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    folder = tmp_path / f"shop-{MARK}"
    (folder / ".git").mkdir(parents=True)
    port = free_port()
    program = folder / f"a-long-program-name-{MARK}"
    program.symlink_to(os.path.realpath(sys.executable))
    holder = lab.command(
        *(str(program), "-S", "-m", "tests.lab.servers.answering", str(port)),
        f"--padding=--password={MARK}",
        env={"PASSWORD": MARK},
        cwd=folder,
    )
    wait_until(lambda: is_served(port), "the holder listens")
    command = [sys.executable, "-c", f"import sys; sys.exit('{MARK}')", f"--password={MARK}"]
    (folder / "ultra-ports.toml").write_text(
        f"[services.api]\nport = {port}\n"
        f"[services.web]\nport = {port}\nhealth = {json.dumps(command)}\n"
        f'[services.page]\nport = {port}\nhealth = "/{MARK}"\n',
        encoding="utf-8",
    )
    monkeypatch.chdir(folder)
    assert ultra("reserve", "api", str(port), "--ttl", "1h").status == 0
    return Stage(port, folder, holder.pid)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{RIGHT}\n", encoding="utf-8")
    path.chmod(0o600)
    return path


@pytest.fixture
def serving(stage: Stage, token_file: Path) -> Iterator[Serving]:
    assert stage.pid
    with Serving("--token-file", str(token_file)) as serving:
        wait_until(lambda: f'port="{stage.port}"' in serving.get("/metrics").text, "it is known")
        wait_until(lambda: "ultra_ports_leases" in serving.get("/metrics").text, "so is the lease")
        yield serving


def raw(as_nobody: Sequence[str], serving: Serving, sent: str) -> str:
    """What nobody is answered over a bare socket."""
    done = subprocess.run(
        [*as_nobody, sys.executable, "-I", "-c", RAW, str(serving.port)],
        input=sent.encode(),
        capture_output=True,
        timeout=60,
        check=True,
        cwd="/",
    )
    return done.stdout.decode("utf-8")


WRONG = (
    "",
    "Authorization: Bearer\r\n",
    "Authorization: Bearer \r\n",
    "Authorization: Bearer wrong\r\n",
    f"Authorization: Bearer {RIGHT[:-1]}\r\n",
    f"Authorization: Bearer {RIGHT}\r\nAuthorization: Bearer x\r\n",
    f"Authorization: Basic {RIGHT}\r\n",
    "Authorization: Bearer \xff\xfe\r\n",
)


def test_another_user_finds_no_secret(
    as_nobody: tuple[str, ...], stage: Stage, serving: Serving
) -> None:
    for path in PATHS:
        for method in ("GET", "HEAD", "POST"):
            for wrong in WRONG if path == "/healthz" else WRONG[:4]:
                head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{wrong}\r\n"
                answer = raw(as_nobody, serving, head)
                assert answer.startswith("HTTP/1.1 "), (head, answer)
                assert MARK not in answer, (head, answer)
    query = raw(
        as_nobody,
        serving,
        f"GET /healthz?token={RIGHT} HTTP/1.0\r\nHost: localhost\r\n\r\n",
    )
    assert MARK not in query
    assert str(stage.folder.parent) not in query
    assert MARK not in serving.stderr


def test_nor_with_curl(as_nobody: tuple[str, ...], serving: Serving) -> None:
    curl = shutil.which("curl")
    if curl is None:
        unavailable("curl is missing")
    for path in PATHS:
        done = subprocess.run(
            [*as_nobody, curl, "-s", f"{serving.url.rstrip('/')}{path}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            cwd="/",
        )
        assert done.stdout
        assert MARK not in done.stdout


def test_what_is_for_everybody_is_shown(stage: Stage, serving: Serving) -> None:
    report = serving.health()
    api, web, page = report["services"]
    [holder] = api["holders"]
    [process] = holder["processes"]
    assert (process["pid"], process["user"]) == (stage.pid, "root")
    assert process["name"] == "a-long-program-"
    assert process["command"] == []
    assert process["cwd"] is None
    assert holder["kind"] == "local"
    assert (holder["chain"], holder["evidence"]) == ([], [])
    assert (holder["step"]["command_lines"], holder["step"]["undo_lines"]) == ([], [])
    assert (api["level"], api["healthy"], api["reason"]) == ("accepts", True, "accepts connections")
    assert (web["healthy"], web["reason"]) == (False, "its command does not succeed")
    assert page["reason"] == "accepts connections, and does not answer as it should"
    assert api["lease"] == "somebody"
    assert "left out" in report["notes"][0]
    assert 'ultra_ports_leases{project="",held="false"} 1.0' in serving.get("/metrics").text


def whole(serving: Serving, token: str) -> Any:  # noqa: ANN401 - JSON
    connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/healthz", headers={"Authorization": f"bearer {token}"})
        return contracts.read(connection.getresponse().read())


def test_who_has_the_token_sees_everything(stage: Stage, serving: Serving) -> None:
    report = whole(serving, RIGHT)
    api, web, page = report["services"]
    [holder] = api["holders"]
    [process] = holder["processes"]
    assert f"--padding=--password={MARK}" in process["command"]
    assert process["cwd"] == str(stage.folder)
    assert process["name"].endswith(MARK)
    assert f"--password={MARK}" in holder["step"]["undo_lines"][0]
    assert MARK in web["reason"]
    assert page["probe"]["path"] == f"/{MARK}"
    assert str(stage.folder) in api["lease"]
    assert not [note for note in report["notes"] if "left out" in note]
    assert MARK not in serving.get("/metrics", Authorization=f"Bearer {RIGHT}").text


def test_a_token_that_is_made(stage: Stage, as_nobody: tuple[str, ...]) -> None:
    with Serving(str(stage.port), "--make-token") as serving:
        line = f"ultra-ports: everything is shown at {serving.url}#token={serving.token}\n"
        assert serving.stderr == line
        assert len(serving.token) >= 32
        assert MARK in json.dumps(whole(serving, serving.token))
        assert MARK not in raw(as_nobody, serving, "GET /healthz HTTP/1.1\r\nHost: [::1]\r\n\r\n")
        assert serving.token.encode() not in Path(f"/proc/{serving.popen.pid}/cmdline").read_bytes()


def test_without_a_token_nobody_sees_it(stage: Stage) -> None:
    with Serving(str(stage.port)) as serving:
        for token in ("", "x", "None"):
            assert MARK not in json.dumps(whole(serving, token))


def test_a_check_that_cannot_be_made(stage: Stage, serving: Serving) -> None:
    """What is wrong with the machine is not for everybody either: a message names directories."""
    state = Path(os.environ["ULTRA_PORTS_STATE"])
    (state / "leases.db").unlink(missing_ok=True)
    shutil.rmtree(state)
    state.write_text("no directory", encoding="utf-8")
    time.sleep(1.1)  # what was found out before is shown for a second
    public = serving.get().text
    assert str(state) not in public
    assert MARK not in public
    assert stage.pid


def test_what_is_no_token_file(tmp_path: Path) -> None:
    files = [
        (0o644, 0, "x" * 32, "is open to other users"),
        (0o604, 0, "x" * 32, "is open to other users"),
        (0o660, 0, "x" * 32, "is open to other users"),
        (0o600, NOBODY, "x" * 32, "belongs to nobody"),
        (0o600, 0, "short", "has no token"),
        (0o600, 0, "", "has no token"),
        (0o600, 0, "two words of a token", "has no token"),
        (0o600, 0, "x" * 4096, "has no token"),
    ]
    listening = ("serve", "--listen", "127.0.0.1:0", "--token-file")
    cases = []
    for number, (mode, uid, text, why) in enumerate(files):
        file = tmp_path / f"token{number}"
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)
        os.chown(file, uid, uid)
        cases.append(((str(file), "8085"), f"the token file {file} {why}"))
    for run, (_, _, text, _) in zip(refused(cases, *listening), files, strict=True):
        assert text not in run.stderr or not text


@pytest.mark.parametrize("kind", ["missing", "pipe", "folder"])
def test_what_cannot_be_read(token_file: Path, kind: str) -> None:
    token_file.unlink()
    if kind == "pipe":
        os.mkfifo(token_file)
    elif kind == "folder":
        token_file.mkdir()
    run = ultra("serve", "--listen", "127.0.0.1:0", "--token-file", str(token_file), "8085")
    assert (run.status, run.stdout, len(run.stderr.splitlines())) == (2, "", 1)


def test_a_group_may_be_trusted_with_a_token_of_roots(token_file: Path) -> None:
    token_file.chmod(0o640)
    with Serving("--token-file", str(token_file), str(free_port())) as serving:
        token = token_file.read_text(encoding="utf-8").strip()
        assert whole(serving, token)["notes"] == []


def test_one_token_is_enough(token_file: Path) -> None:
    run = ultra("serve", "--make-token", "--token-file", str(token_file), "8085")
    assert (run.status, run.stdout) == (2, "")


def test_only_the_right_host_gets_anything(serving: Serving) -> None:
    """A page of another site that points its name here has no token, and gets nothing at all."""
    for head in ("GET /healthz HTTP/1.0\r\n\r\n", "GET /healthz HTTP/1.1\r\nHost:\r\n\r\n"):
        assert serving.say(head.encode()).status in {400, 403}
    with serving.connected() as client:
        client.sendall(b"OPTIONS /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        answer = client.recv(1 << 16)
    assert b"405" in answer.splitlines()[0]
    assert b"access-control" not in answer.lower()
