"""`ultra-ports watch` as a user has it: lines, JSON, a terminal; and containers that restart."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.lab import contracts
from tests.lab.cli import COMMAND, refused
from tests.lab.ports import free_port
from tests.lab.processes import READY_SECONDS, unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab

LEFT_AS_IT_WAS = b"\x1b[?25h\x1b[?1049l"
STAMPED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d ")


class Watching:
    """`ultra-ports watch` in a process of its own, and what it has said."""

    def __init__(self, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        with interruptible():
            self.popen = subprocess.Popen(
                [COMMAND, "watch", "--interval", "0.1", *arguments],
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        self._raw = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.popen:
            self.popen.kill()

    def line(self) -> str:
        """The next line; fails the test where none comes."""
        assert self.popen.stdout is not None
        deadline = time.monotonic() + READY_SECONDS
        while b"\n" not in self._raw:
            left = max(0.0, deadline - time.monotonic())
            readable, _, _ = select.select([self.popen.stdout], [], [], left)
            block = os.read(self.popen.stdout.fileno(), 65536) if readable else b""
            assert block, f"nothing more was said: {self._raw!r} {self._errors()}"
            self._raw += block
        line, self._raw = self._raw.split(b"\n", 1)
        return line.decode()

    def _errors(self) -> str:
        return self.popen.communicate()[1].decode() if self.popen.poll() is not None else ""

    def event(self) -> Any:  # noqa: ANN401 - its shape is asserted by each test
        """The next line as JSON."""
        found = contracts.read(self.line())
        assert found["schema"] == "ultra-ports.event/1"
        return found

    def event_after(self, kind: str) -> Any:  # noqa: ANN401
        """The next event that is not of this kind, which there need not be."""
        found = self.event()
        return self.event() if found["event"] == kind else found

    def ended(self) -> tuple[int, str]:
        """Its exit status, and what it said on stderr."""
        _, errors = self.popen.communicate(timeout=READY_SECONDS)
        return self.popen.returncode, errors.decode()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """What is started here gets SIGINT, even where the test run itself was started with `&`."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _setsid() -> str:
    return shutil.which("setsid") or unavailable("setsid(1) is missing")


class Terminal:
    """`ultra-ports watch` on a terminal of its own, in a `shell` with job control or in none."""

    def __init__(
        self,
        *arguments: str,
        term: str = "xterm",
        shell: Sequence[str] = (),
        columns: int = 100,
    ) -> None:
        self._main, self._side = pty.openpty()
        self.resize(24, columns)
        self.modes = termios.tcgetattr(self._side)
        with interruptible():
            self.popen = subprocess.Popen(
                [_setsid(), "--ctty", *shell, COMMAND, "watch", "--interval=0.1", *arguments],
                env={**os.environ, "TERM": term},
                stdin=self._side,
                stdout=self._side,
                stderr=self._side,
            )
        self.said = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.popen:
            self.popen.kill()
        os.close(self._main)
        os.close(self._side)

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self._main, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def shows(self, what: str) -> None:
        """Waits until it is shown."""
        wait_until(lambda: what.encode() in self._read(), f"{what!r} is shown")

    def type(self, keys: bytes) -> None:
        os.write(self._main, keys)

    def ended(self) -> int:
        """Its exit status; the terminal is in the modes in which it was found."""
        wait_until(lambda: self._read() and self.popen.poll() is not None, "it has ended")
        self._read()
        assert termios.tcgetattr(self._side) == self.modes
        return self.popen.wait()

    def _read(self) -> bytes:
        while select.select([self._main], [], [], 0)[0]:
            self.said += os.read(self._main, 65536)
        return self.said


def test_a_narrow_terminal_has_ports_and_holders(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)
    with Terminal(str(port), "--no-docker", columns=50) as terminal:
        terminal.shows("before ")
        shown = terminal.said.decode()
        assert re.search(rf"{port}/tcp +held +python\S* {server.pid} .*before [\d:]{{8}}", shown)
        server.popen.kill()
        terminal.shows("released by")
        terminal.type(b"q")
        assert terminal.ended() == 0
        assert re.search(rf"[\d:]{{8}} {port}/tcp released by", terminal.said.decode())


def test_json_lines(lab: Lab) -> None:
    port = free_port()
    with Watching("--json", str(port), "--no-docker") as watching:
        free = watching.event()
        assert (free["event"], free["label"]) == ("free", f"{port}/tcp")
        server = lab.start("answering", port)
        taken = watching.event()
        assert STAMPED.fullmatch(taken["at"] + " ")
        assert taken["event"] == "taken"
        assert [each["processes"][0]["pid"] for each in taken["holders"]] == [server.pid]
        server.popen.kill()
        released = watching.event()
        assert (released["event"], released["holders"], released["at_least"]) == (
            "released",
            [],
            False,
        )
        assert released["before"] == taken["holders"]
        assert released["seconds"] > 0
        assert released.keys() == free.keys()


def test_lines_with_names_that_try_the_terminal(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port, "--name", "\x1b[31mred\n")
    with Watching(str(port), "--no-docker") as watching:
        first = watching.line()
        assert STAMPED.match(first)
        assert first.endswith(f" {port}/tcp held by \\x1b[31mred\\n {server.pid}")
        watching.popen.send_signal(signal.SIGINT)
        assert watching.ended()[0] == 130


def test_a_service_of_the_project(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    (tmp_path / "ultra-ports.toml").write_text(f"[services]\nshop = {port}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with Watching("--no-docker") as watching:
        assert watching.line().endswith(f" {port}/tcp (shop) free")
        lab.start("answering", port)
        assert f"{port}/tcp (shop) taken by " in watching.line()


def test_a_reader_that_leaves_while_nothing_happens() -> None:
    with Watching(str(free_port()), "--no-docker") as watching:
        watching.line()
        assert watching.popen.stdout is not None
        watching.popen.stdout.close()
        assert watching.popen.wait(READY_SECONDS) == 1
        assert watching.popen.stderr is not None
        assert watching.popen.stderr.read() == b""


def test_bad_input() -> None:
    nonsense = [
        (("nonsense!",), "is not a port"),
        (("",), "it is empty"),
        (("--interval", "0", "80"), "is not a time"),
        (("192.0.2.1:80",), "not an address of this machine"),
    ]
    refused(nonsense, "watch")


def test_a_terminal_is_left_as_it_was(lab: Lab) -> None:
    port = free_port()
    with Terminal(str(port), "--no-docker") as terminal:
        terminal.shows("q ends it")
        server = lab.start("answering", port)
        terminal.shows(f"{port}/tcp taken by ")
        terminal.resize(10, 80)
        server.popen.kill()
        terminal.shows("released by")
        terminal.type(b"q")
        assert terminal.ended() == 0
        assert terminal.said.rstrip().endswith(LEFT_AS_IT_WAS)


@pytest.mark.parametrize(
    ("ending", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP)],
)
def test_a_terminal_is_left_as_it_was_by_signals(ending: signal.Signals, status: int) -> None:
    with Terminal(str(free_port()), "--no-docker") as terminal:
        terminal.shows("q ends it")
        if ending == signal.SIGINT:
            terminal.type(b"\x03")
        else:
            terminal.popen.send_signal(ending)
        assert terminal.ended() == status
        assert LEFT_AS_IT_WAS in terminal.said


def test_a_terminal_while_it_is_suspended() -> None:
    shell = ("bash", "-mc", '"$@"; echo stopped; read -r; fg', "bash")
    with Terminal(str(free_port()), "--no-docker", shell=shell) as terminal:
        terminal.shows("q ends it")
        terminal.type(b"\x1a")
        terminal.shows("stopped\r\n")
        assert LEFT_AS_IT_WAS in terminal.said
        terminal.said = b""
        terminal.type(b"\n")
        terminal.shows("q ends it")
        terminal.type(b"q")
        assert terminal.ended() == 0


def test_a_terminal_that_can_do_nothing() -> None:
    port = free_port()
    with Terminal(str(port), "--no-docker", term="dumb") as terminal:
        terminal.shows(f"{port}/tcp free")
        assert b"\x1b" not in terminal.said
        terminal.type(b"\x03")
        assert terminal.ended() == 130


@pytest.mark.engine
def test_a_container_is_told_and_not_its_forwarder(engine: Engine) -> None:
    port = free_port()
    with Watching("--json", str(port)) as watching:
        assert watching.event()["event"] == "free"
        web = engine.publish(f"{port}:80")
        taken = watching.event()
        assert taken["event"] == "taken"
        assert {each["container"]["name"] for each in taken["holders"]} == {web.name}
        engine("restart", "--time", "1", web.name)
        respawned = watching.event_after("released")
        assert (respawned["event"], respawned["count"]) == ("respawned", 1)
        assert {each["container"]["name"] for each in respawned["holders"]} == {web.name}
        engine("rm", "--force", web.name)
        assert watching.event()["event"] == "released"


@pytest.mark.engine
@pytest.mark.root
def test_a_container_without_any_socket(engine_without_proxy: Engine) -> None:
    """Where its network namespace is another one, the engine's events are all there is."""
    engine = engine_without_proxy
    port = free_port()
    with Watching("--json", str(port), env=engine.env) as watching:
        assert watching.event()["event"] == "free"
        web = engine.publish(f"{port}:80")
        taken = watching.event()
        assert (taken["event"], taken["holders"][0]["state"]) == ("taken", "published")
        assert taken["holders"][0]["container"]["name"] == web.name
        engine("restart", "--time", "0", web.name)
        assert watching.event_after("released")["event"] == "respawned"
        engine("stop", "--time", "0", web.name)
        assert watching.event()["event"] == "released"
