"""Another user's many connections to `ultra-ports serve`, which are in nobody's way but his own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.lab.exporter import Serving, answered
from tests.lab.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.lab.processes import Lab

pytestmark = pytest.mark.root
CROWD = 100
LASTS_SECONDS = 6.0
DEADLINE_SECONDS = 3.0  # less than any of them may stay
CLIENT = """
import select, socket, sys
port, count, said = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode()
poll, clients = select.poll(), {}
def connect():
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    client.connect(("127.0.0.1", port))
    client.sendall(said)
    clients[client.fileno()] = client
    poll.register(client, select.POLLRDHUP)
def again(number):
    poll.unregister(number)
    clients.pop(number).close()
    connect()
sys.stdin.readline()
for _ in range(count):
    connect()
print("ready", flush=True)
while True:
    for number, _ in poll.poll(50):
        again(number)
    again(next(iter(clients)))
"""
"""Opens connections once it is told to, says something on each and reads nothing; opens another
for each that ends."""
ASKED = "GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextlib.contextmanager
def waiting_crowd(
    as_nobody: tuple[str, ...], serving: Serving, said: str
) -> Iterator[Callable[[], None]]:
    """What is yielded opens so many connections of nobody's, for as long as it lasts."""
    argv = [*as_nobody, sys.executable, "-I", "-c", CLIENT, str(serving.port), str(CROWD), said]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, bufsize=0, cwd="/") as client:

        def come() -> None:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(b"\n")
            assert client.stdout.readline() == b"ready\n"

        try:
            yield come
            assert client.poll() is None
        finally:
            client.kill()


@contextlib.contextmanager
def crowd(as_nobody: tuple[str, ...], serving: Serving, said: str) -> Iterator[None]:
    """So many connections of nobody's, for as long as it lasts."""
    with waiting_crowd(as_nobody, serving, said) as come:
        come()
        yield


def asked(serving: Serving, path: str) -> float:
    """How many seconds it took until this was answered as it should be."""
    begun = time.monotonic()
    response = serving.get(path)
    seconds = time.monotonic() - begun
    assert response.status == 200, response
    return seconds


@pytest.mark.parametrize(
    "said",
    ["", "GET / HT", ASKED.format("/"), ASKED.format("/healthz")],
    ids=["idle", "half", "page", "health"],
)
def test_others_are_served(lab: Lab, as_nobody: tuple[str, ...], said: str) -> None:
    port = free_port()
    lab.start("answering", port)
    with Serving(str(port)) as serving, crowd(as_nobody, serving, said):
        until = time.monotonic() + LASTS_SECONDS
        while time.monotonic() < until:
            assert asked(serving, "/healthz") < DEADLINE_SECONDS
            asked(serving, "/metrics")
        assert serving.stderr == ""


def test_others_are_served_while_a_slow_check_keeps_the_crowd(
    lab: Lab, as_nobody: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All places are taken by requests that wait for their answer; another user's gets one."""
    port = free_port()
    (tmp_path / ".git").mkdir()
    slow = json.dumps([sys.executable, "-c", "import time; time.sleep(4)"])
    (tmp_path / "ultra-ports.toml").write_text(
        f"[services.api]\nport = {port}\nhealth = {{ probe = {slow}, timeout = 10 }}\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    lab.start("answering", port)
    with Serving() as serving, crowd(as_nobody, serving, ASKED.format("/healthz")):
        for _ in range(20):
            assert asked(serving, "/") < DEADLINE_SECONDS
            threads = psutil.Process(serving.popen.pid).num_threads()
            assert threads < 2 * CROWD  # who has left is waited for no longer


def test_a_silent_one_may_stay_where_others_crowd(as_nobody: tuple[str, ...], lab: Lab) -> None:
    """The one that has to leave is the crowd's own.

    What takes time on a busy machine comes before: the silent one has some seconds for its request.
    """
    port = free_port()
    lab.start("answering", port)
    with (
        Serving(str(port)) as serving,
        waiting_crowd(as_nobody, serving, "") as come,
        serving.connected() as slow,
    ):
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
        come()
        asked(serving, "/")
        slow.sendall(b"alhost\r\n\r\n")
        assert answered(slow).status == 200


def test_ones_own_crowd_makes_room_too(lab: Lab) -> None:
    """Of one user's the oldest that says nothing is ended, and told why."""
    port = free_port()
    lab.start("answering", port)
    with Serving(str(port)) as serving, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(serving.connected()) for _ in range(CROWD)]
        asked(serving, "/healthz")
        statuses = [answered(client).status for client in clients]
        assert set(statuses[:30]) == {503}
        assert set(statuses[-30:]) == {408}
