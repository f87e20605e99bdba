"""`ultra-ports portserver` with the real portpicker package, and with clients that mean no good."""

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
from typing import TYPE_CHECKING, Any

import portpicker  # type: ignore[import-untyped]
import psutil
import pytest

from resolver.leases.owner import here
from resolver.leases.stores.ledger import Ledger
from tests.lab.cli import COMMAND, ultra
from tests.lab.ports import free_range, is_free
from tests.lab.processes import READY_SECONDS, ROOT, stays, unavailable, wait_until
from tests.lab.redis import Server as Redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "AF_UNIX"), reason="the protocol needs unix sockets here"
)
CLIENT = ROOT / "tests" / "lab" / "servers" / "portpicking.py"


class Portserver:
    """One running server; `ask` is a bare client."""

    def __init__(self, address: str, state: Path, *options: str, **more: Any) -> None:  # noqa: ANN401
        self.address = address
        self.state = state
        self.errors = state / f"{os.urandom(4).hex()}.stderr"
        prefix = more.pop("prefix", ())
        environ = {**os.environ, "ULTRA_PORTS_STATE": str(state), **more.pop("env", {})}
        with self.errors.open("wb") as errors:
            self.popen = subprocess.Popen(
                [*prefix, COMMAND, "portserver", "-v", "--listen", address, *options],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.popen.stdout is not None
        self.said = self.popen.stdout.readline().strip()  # when it is ready, or has ended

    def ask(self, request: bytes | None = None) -> int | None:
        """The port for a request, that of this process by default; None where none is given."""
        with self.connected() as client:
            client.sendall(f"{os.getpid()}\n".encode() if request is None else request)
            return int(client.recv(1024) or b"0") or None

    def connected(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(READY_SECONDS)
        client.connect(self.address.replace("@", "\0", 1))
        return client

    def leases(self) -> dict[int, int]:
        """Port → owner, of what the ledger has."""
        leases = Ledger(self.state / "leases.db", here({})).leases()
        return {lease.port: lease.owner.pid for lease in leases if lease.owner}

    def end(self, number: int = signal.SIGTERM) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(READY_SECONDS)

    @property
    def stderr(self) -> str:
        return self.errors.read_text(encoding="utf-8")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Portserver]]:
    """Starts servers of one state directory; ends them, and fails where one had a traceback."""
    started: list[Portserver] = []

    def make(pool: str, *options: str, address: str = "", **more: Any) -> Portserver:  # noqa: ANN401
        address = address or str(tmp_path / "ports.sock")
        started.append(Portserver(address, tmp_path, "--pool", pool, *options, **more))
        return started[-1]

    yield make
    for server in started:
        with server.popen:
            server.popen.kill()
        assert "Traceback" not in server.stderr
        assert "internal error" not in server.stderr


@pytest.fixture
def clients() -> Iterator[Callable[[str, int], dict[str, Any]]]:
    """Starts programs that use portpicker, and ends them."""
    with contextlib.ExitStack() as running:

        def make(address: str, count: int, *prefix: str) -> dict[str, Any]:
            argv = [*prefix, sys.executable, str(CLIENT), address, str(count)]
            popen = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
            running.enter_context(popen)
            running.callback(popen.kill)
            assert popen.stdout is not None
            return {**json.loads(popen.stdout.readline()), "popen": popen}

        yield make


def pool(count: int) -> tuple[str, range]:
    first = free_range(count)
    return f"{first}-{first + count - 1}", range(first, first + count)


def can_bind(port: int, *, reuse: bool) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
        try:
            server.bind(("127.0.0.1", port))
            server.listen()
        except OSError:
            return False
    return True


@pytest.mark.slow
def test_sixteen_programs_get_five_ports_each(
    start: Callable[..., Portserver], clients: Callable[..., dict[str, Any]]
) -> None:
    text, ports = pool(100)
    server = start(text, address=f"@ultra-ports-test-{os.getpid()}-{ports[0]}")
    assert server.said == f"PORTSERVER_ADDRESS={server.address}"
    made: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: made.append(clients(server.address, 5))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    given = [port for each in made for port in each["ports"]]
    assert len(set(given)) == len(given) == 80
    assert set(given) <= set(ports)
    assert all(all(each["free"]) for each in made)  # portpicker's own probe passes under the hold
    assert server.leases() == {port: each["pid"] for each in made for port in each["ports"]}

    for each in made[:8]:
        each["popen"].kill()  # nobody reaps it yet: a zombie has no ports either
    living = {port: each["pid"] for each in made[8:] for port in each["ports"]}
    wait_until(lambda: server.leases() == living, "the dead ones' leases are gone")
    dead = [port for each in made[:8] for port in each["ports"]]
    wait_until(lambda: all(map(is_free, dead)), "their ports are not held any longer")


def test_the_library_as_it_is_used(start: Callable[..., Portserver]) -> None:
    text, ports = pool(5)
    server = start(text)
    got = {portpicker.pick_unused_port(portserver_address=server.address) for _ in range(5)}
    assert got == set(ports)
    assert server.leases() == dict.fromkeys(ports, os.getpid())
    script = f"{sys.executable} -m portpicker; {sys.executable} -m portpicker $$; echo $$"
    more, other = pool(5)
    second = start(more, address=f"{server.address}2")
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        env={**os.environ, "PORTSERVER_ADDRESS": second.address},
        capture_output=True,
        text=True,
        check=True,
    )
    one, two, shell = map(int, done.stdout.split())
    assert {one, two} < set(other)
    assert one != two
    assert f"{one} for process {shell}" in second.stderr
    assert f"{two} for process {shell}" in second.stderr


def test_a_port_is_held_for_its_process(start: Callable[..., Portserver]) -> None:
    text, _ = pool(3)
    server = start(text)
    port = server.ask()
    assert port is not None
    assert not can_bind(port, reuse=False)
    assert can_bind(port, reuse=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", port))  # udp is not held: no server could bind under that
    server.end()
    assert can_bind(port, reuse=False)


def test_plain_ports_are_not_held(start: Callable[..., Portserver]) -> None:
    text, _ = pool(3)
    server = start(text, "--plain")
    port = server.ask()
    assert port is not None
    assert can_bind(port, reuse=False)
    assert server.ask() != port


def test_what_is_taken_or_reserved_is_not_lent(
    start: Callable[..., Portserver], tmp_path: Path
) -> None:
    text, (tcp, udp, reserved, left) = pool(4)
    env = {"ULTRA_PORTS_STATE": str(tmp_path)}
    assert ultra("reserve", "api", str(reserved), "--project", "shop", env=env).status == 0
    with (
        socket.create_server(("127.0.0.1", tcp)),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        other.bind(("127.0.0.1", udp))
        server = start(text)
        assert server.ask() == left
        assert server.ask() is None
        assert "no port of 4 is left" in server.stderr
        assert ultra("reserve", "api", str(left), "--project", "shop", env=env).status == 1


def test_a_port_is_lent_again_after_the_others(
    start: Callable[..., Portserver], clients: Callable[..., dict[str, Any]]
) -> None:
    text, ports = pool(3)
    server = start(text)
    first = clients(server.address, 1)
    assert first["ports"] == [ports[0]]
    first["popen"].kill()
    wait_until(lambda: not server.leases(), "the lease is gone")
    assert [server.ask() for _ in range(4)] == [ports[1], ports[2], ports[0], None]


def test_a_loan_has_its_time(start: Callable[..., Portserver]) -> None:
    text, ports = pool(1)
    server = start(text, "--ttl", "1s")
    assert server.ask() == ports[0]
    assert not is_free(ports[0])
    wait_until(lambda: is_free(ports[0]), "its time is over")
    wait_until(lambda: server.ask() == ports[0], "it is lent again")


BAD = {
    "nothing": b"",
    "an empty line": b"\n",
    "garbage": b"GET / HTTP/1.1\r\n\r\n",
    "bytes": b"\0\xff\xfe\n",
    "a digit that int() takes": "٣\n".encode(),
    "zero": b"0\n",
    "init": b"1\n",
    "negative": b"-5\n",
    "nobody": b"4194304\n",  # PID_MAX_LIMIT of Linux
    "too large for anything": b"99999999999999999999\n",
    "too long": b"1" * 21 + b"\n",
    "huge": b"7" * (1 << 20),
}


@pytest.mark.parametrize("name", BAD)
def test_a_request_that_makes_no_sense(start: Callable[..., Portserver], name: str) -> None:
    text, ports = pool(2)
    server = start(text)
    with server.connected() as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(BAD[name])
            client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1024) == b""
    assert server.ask() == ports[0]
    assert "a client gets no port: " in server.stderr
    assert all(len(line) < 500 for line in server.stderr.splitlines())


def test_a_request_without_a_newline_is_complete_when_its_client_says_so(
    start: Callable[..., Portserver],
) -> None:
    text, ports = pool(2)
    server = start(text)
    with server.connected() as client:
        client.sendall(str(os.getpid()).encode())
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1024) == b"%d\n" % ports[0]


def test_slow_and_silent_clients_keep_nobody(start: Callable[..., Portserver]) -> None:
    text, ports = pool(2)
    server = start(text)
    process = psutil.Process(server.popen.pid)
    with contextlib.ExitStack() as opened:
        silent = [opened.enter_context(server.connected()) for _ in range(100)]
        for client in silent[::2]:
            client.sendall(b"1")
        assert server.ask() == ports[0]  # after two seconds at most: more are there than it accepts
        for client in silent:
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
        assert process.num_fds() < 40
    with server.connected() as dripping:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(200):
                dripping.sendall(b"0")
                readable = stays(lambda: server.popen.poll() is None, 0.05)
                assert readable
        with contextlib.suppress(ConnectionResetError):
            assert dripping.recv(1) == b""
    assert server.ask() == ports[1]


def test_it_sleeps_when_there_is_nothing_to_do(start: Callable[..., Portserver]) -> None:
    text, _ = pool(2)
    server = start(text)
    server.ask()
    with server.connected():
        process = psutil.Process(server.popen.pid)
        before = sum(process.cpu_times()[:2])
        assert stays(lambda: server.popen.poll() is None, 2.5)
        assert sum(process.cpu_times()[:2]) - before < 0.5


def test_who_has_left_has_no_port(start: Callable[..., Portserver]) -> None:
    text, ports = pool(2)
    server = start(text)
    server.popen.send_signal(signal.SIGSTOP)
    with server.connected() as client:
        client.sendall(f"{os.getpid()}\n".encode())
    server.popen.send_signal(signal.SIGCONT)
    assert [server.ask() for _ in range(3)] == [ports[1], ports[0], None]


@pytest.mark.root
def test_nobody_speaks_for_another_user(
    start: Callable[..., Portserver], as_nobody: Sequence[str]
) -> None:
    text, ports = pool(2)
    server = start(text, address=f"@ultra-ports-test-{os.getpid()}-{ports[0]}")
    script = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX);"
        "s.connect(chr(0) + sys.argv[1][1:]);"
        "s.sendall(b'%d\\n' % (int(sys.argv[2]) or os.getpid()));"
        "print(s.recv(99).decode().strip())"
    )
    answers = [
        subprocess.run(
            [*as_nobody, sys.executable, "-S", "-c", script, server.address, pid],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for pid in (str(os.getpid()), "0")
    ]
    assert answers == ["", str(ports[0])]
    assert f"process {os.getpid()} belongs to another user" in server.stderr


@pytest.mark.root
def test_a_process_of_another_pid_namespace(
    start: Callable[..., Portserver], clients: Callable[..., dict[str, Any]]
) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        unavailable("another PID namespace needs root and unshare(1)")
    text, ports = pool(2)
    server = start(text)
    inside = clients(server.address, 1, "unshare", "--pid", "--fork", "--kill-child")
    if inside["pid"] != 1:
        unavailable("unshare(1) makes no PID namespace here")
    # its PID is 1 there: neither our init nor anybody else here is its owner
    assert inside["ports"] == [None]
    inside = clients(
        server.address, 1, "unshare", "--pid", "--fork", "--kill-child", "sh", "-c", '"$@"; :', "sh"
    )
    [owner] = server.leases().values()
    assert inside["ports"] == [ports[0]]
    children = psutil.Process(inside["popen"].pid).children(recursive=True)
    assert owner in {each.pid for each in children}
    assert owner != inside["pid"]
    inside["popen"].kill()
    wait_until(lambda: not server.leases(), "the lease ends with it")


def test_it_ends_cleanly(start: Callable[..., Portserver]) -> None:
    text, ports = pool(3)
    server = start(text)
    path = server.address
    assert server.ask() == ports[0]
    assert server.end() == 0
    assert not os.path.exists(path)  # noqa: PTH110 - a path of the test's own
    assert server.leases() == {ports[0]: os.getpid()}  # we live, and have the port
    again = start(text)
    assert [again.ask(), again.ask(), again.ask()] == [ports[1], ports[2], None]
    assert again.end(signal.SIGINT) == 130
    assert not os.path.exists(path)  # noqa: PTH110


def test_a_new_server_takes_back_what_an_earlier_one_lent(
    start: Callable[..., Portserver], clients: Callable[..., dict[str, Any]]
) -> None:
    text, ports = pool(1)
    server = start(text)
    client = clients(server.address, 1)
    server.end()
    again = start(text)
    assert again.ask() is None
    client["popen"].kill()
    wait_until(lambda: not again.leases(), "the lease ends with its process")
    assert again.ask() == ports[0]


def test_one_server_for_each_address(start: Callable[..., Portserver], tmp_path: Path) -> None:
    text, ports = pool(2)
    path = tmp_path / "ports.sock"
    server = start(text)
    env = {"ULTRA_PORTS_STATE": str(tmp_path)}
    refused = ultra("portserver", "--listen", str(path), env=env)
    assert (refused.status, refused.stdout) == (1, "")
    assert f"another server listens on {path}" in refused.stderr
    server.popen.send_signal(signal.SIGSTOP)
    assert ultra("portserver", "--listen", str(path), env=env).status == 1
    server.popen.send_signal(signal.SIGCONT)
    assert server.ask() == ports[0]

    server.end(signal.SIGKILL)
    assert path.is_socket()
    again = start(text)  # takes the stale file over
    assert again.ask() == ports[1]
    path.unlink()
    another = start(text)  # somebody removed the file, and another server listens there now
    again.end()
    assert path.is_socket()
    assert another.ask() is None
    assert "no port of 2 is left" in another.stderr

    abstract = start(text, address=f"@ultra-ports-test-{os.getpid()}-{ports[0]}")
    assert ultra("portserver", "--listen", abstract.address, env=env).status == 1


def test_bad_options(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    env = {"ULTRA_PORTS_STATE": str(tmp_path)}
    for options in (
        ("--listen", str(file)),
        ("--listen", str(tmp_path / "missing" / "sock")),
        ("--listen", str(tmp_path)),
        ("--listen", f"{tmp_path}/{'long' * 40}"),
        ("--listen", "@"),
        ("--listen", ""),
        ("--pool", "abc"),
        ("--pool", "9000-8000"),
        ("--pool", "8000/udp"),
        ("--pool", ""),
        ("--ttl", "soon"),
        ("--ttl", "0s"),
    ):
        run = ultra("portserver", *options, env={"PORTSERVER_ADDRESS": "@unused", **env})
        assert (run.status, run.stdout) == (2, ""), options
        assert len(run.stderr.splitlines()) == 1, run.stderr
    assert file.read_text(encoding="utf-8") == "mine"


def test_few_descriptors(start: Callable[..., Portserver]) -> None:
    prlimit = shutil.which("prlimit")
    if prlimit is None:
        unavailable("prlimit(1) is missing")
    text, ports = pool(20)
    server = start(text, prefix=(prlimit, "--nofile=200:200"))
    assert [server.ask() for _ in ports] == list(ports)
    held = [port for port in ports if not can_bind(port, reuse=False)]
    assert len(held) == 4
    assert server.leases() == dict.fromkeys(ports, os.getpid())


def test_with_redis(
    start: Callable[..., Portserver], clients: Callable[..., dict[str, Any]]
) -> None:
    text, ports = pool(4)
    with Redis() as redis:
        server = start(text, env={"ULTRA_PORTS_STORE": redis.url})
        client = clients(server.address, 2)
        assert client["ports"] == [ports[0], ports[1]]
        assert redis.url in server.stderr
        redis.kill()
        assert server.ask() is None
        assert f"127.0.0.1:{redis.port}" in server.stderr
        redis.start()
        assert server.ask() == ports[3]
        client["popen"].kill()
        wait_until(lambda: is_free(ports[0]) and is_free(ports[1]), "the dead one's ports are back")
