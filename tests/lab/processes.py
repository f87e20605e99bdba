"""Starts the lab's servers as real processes, waits until they are ready, and reaps them all.

Every process that a `Lab` starts carries the lab's mark in its environment, and so does whatever it
forks: orphans and respawned children are found and reaped too. Nothing here knows `ultra-ports`
beyond how to start it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import psutil
import pytest

from tests.lab.cli import COMMAND
from tests.lab.ports import is_free, is_served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

MARK = "ULTRA_PORTS_LAB"
ROOT = Path(__file__).parents[2]
# For `python -S`, which starts faster and is not measured, but knows no packages.
PACKAGES = os.pathsep.join([str(ROOT), *(p for p in sys.path if p.endswith("-packages"))])
READY_SECONDS = 20.0
POLL_SECONDS, LONGEST_POLL_SECONDS = 0.02, 0.25


def unavailable(reason: str) -> NoReturn:
    """Skips the test on a laptop; fails it where CI promised that everything is there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"this must run when CI=true: {reason}")
    pytest.skip(reason)


def wait_until(condition: Callable[[], object], what: str, seconds: float = READY_SECONDS) -> None:
    """Polls until the condition is true; fails the test after `seconds`.

    What takes long to find out, such as what a command says, is asked half of the time.
    """
    deadline = time.monotonic() + seconds
    asked = time.monotonic()
    while not condition():
        answered = time.monotonic()
        assert answered < deadline, f"not within {seconds} s: {what}"
        time.sleep(min(max(POLL_SECONDS, answered - asked), LONGEST_POLL_SECONDS))
        asked = time.monotonic()


def stays_free(port: int, seconds: float = 2.0, transport: str = "tcp") -> bool:
    """True where the port is free now and all through the next `seconds`."""
    deadline = time.monotonic() + seconds
    while is_free(port, transport):
        if time.monotonic() >= deadline:
            return True
        time.sleep(0.1)
    return False


def stays(condition: Callable[[], object], seconds: float = 2.0) -> bool:
    """True where the condition holds now and all through the next `seconds`."""
    deadline = time.monotonic() + seconds
    while condition():
        if time.monotonic() >= deadline:
            return True
        time.sleep(0.1)
    return False


def alive(pid: int) -> bool:
    """True where the process runs or is stopped; a zombie has ended."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def answered_by(port: int, address: str = "127.0.0.1", transport: str = "tcp") -> int | None:
    """The PID of the lab server that answers there, or None where none does within 2 s."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as client:
        client.settimeout(2.0)
        try:
            client.connect((address, port))
            client.sendall(b"who\n")
            return int(client.recv(64) or b"0") or None
        except OSError:
            return None


class Server:
    """A ready process of the lab.

    `pid` is that of the process which said it was ready, `facts` is all that it said. `popen` is
    what the lab started; they differ where the process detached itself.
    """

    def __init__(self, popen: subprocess.Popen[bytes], facts: dict[str, Any], log: Path) -> None:
        self.popen = popen
        self.facts = facts
        self.pid: int = facts["pid"]
        self.log = log

    @property
    def alive(self) -> bool:
        """True where it has not ended."""
        self.popen.poll()  # reaps it, where it is our child and has ended
        return alive(self.pid)

    def events(self) -> list[dict[str, Any]]:
        """Its log: each signal that it or one of its children got, with the sender's PID."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]

    def signals(self) -> list[str]:
        """The names of the signals that it or one of its children got, in order."""
        return [event["event"] for event in self.events() if event["event"].startswith("SIG")]

    def was_left_alone(self) -> bool:
        """Ends it; true where nobody had sent it any of the ending signals before.

        Of what is pending the lowest number is taken first (signal(7)), SIGTERM is the highest of
        them, and one that was sent twice keeps its first sender: what came before is in the log.
        """
        self.popen.terminate()
        self.popen.wait(READY_SECONDS)
        got = [(each["event"], each["sender"]) for each in self.events() if "sender" in each]
        return got == [("SIGTERM", os.getpid())]


class Lab:
    """Starts servers; at the end every one of them is gone, with all that it started."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._mark = uuid.uuid4().hex
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reap()

    def start(
        self,
        script: str,
        *arguments: str | int | bytes,
        prefix: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        log: bool = True,
    ) -> Server:
        """Starts `servers/SCRIPT.py` and returns when it is ready.

        `prefix` is a command that runs it (`setpriv …`). Without `log` it writes nothing, for a
        user who may not write here.
        """
        number = len(self._started)
        record = self._directory / f"server{number}.log"
        errors = self._directory / f"server{number}.stderr"
        argv: list[str | bytes] = [
            *prefix,
            sys.executable,
            "-S",
            "-m",
            f"tests.lab.servers.{script}",
        ]
        argv += ["--log", str(record)] if log else []
        argv += [part if isinstance(part, bytes) else str(part) for part in arguments]
        popen = self._popen(argv, errors, {"PYTHONPATH": PACKAGES, **(env or {})})
        return Server(popen, self._first_line(popen, errors), record)

    def command(
        self, *argv: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts any program, and returns at once; its output goes to a file of the lab's."""
        output = self._directory / f"command{len(self._started)}.out"
        popen = self._popen(argv, output, env or {}, cwd, output)
        assert popen.poll() is None, output.read_text(encoding="utf-8")
        return popen

    def _popen(
        self,
        argv: Sequence[str | bytes],
        errors: Path,
        env: Mapping[str, str],
        cwd: Path | None = None,
        output: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        with errors.open("wb") as stderr:
            popen = subprocess.Popen(
                argv,
                cwd=cwd or self._directory,
                env={**os.environ, "PYTHONPATH": str(ROOT), MARK: self._mark, **env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if output is None else stderr,
                stderr=stderr,
                start_new_session=output is not None,
            )
        self._started.append(popen)
        return popen

    @staticmethod
    def _first_line(popen: subprocess.Popen[bytes], errors: Path) -> dict[str, Any]:
        """The facts that a server tells when it is ready."""
        assert popen.stdout is not None
        deadline = time.monotonic() + READY_SECONDS
        said = b""
        while not said.endswith(b"\n"):
            left = max(0.0, deadline - time.monotonic())
            readable, _, _ = select.select([popen.stdout], [], [], left)
            more = os.read(popen.stdout.fileno(), 65536) if readable else b""
            assert more, f"not ready: {popen.args!r}: {errors.read_text(encoding='utf-8')}"
            said += more
        facts: dict[str, Any] = json.loads(said)
        return facts

    def marked(self) -> dict[str, str]:
        """What a process needs in its environment to be reaped with the lab."""
        return {MARK: self._mark, "PYTHONPATH": str(ROOT)}

    def processes(self) -> list[psutil.Process]:
        """Every living process that carries this lab's mark."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def frees(
        self, port: int, *others: Server, seconds: float = 2.0, transport: str = "tcp"
    ) -> bool:
        """True where the port is free until nobody lives any more who could take it back.

        That is whoever was started here, and whatever that has started, but for the `others`; they
        have `seconds` to end.
        """
        deadline = time.monotonic() + seconds
        while is_free(port, transport):
            if {process.pid for process in self.processes()} <= {each.pid for each in others}:
                return is_free(port, transport)
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)
        return False

    def _is_ours(self, process: psutil.Process) -> bool:
        try:  # as it is: to parse it would take several times as long, at the end of each test
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        except OSError:  # gone, a zombie, or somebody else's
            return False
        return f"{MARK}={self._mark}".encode() in environment.split(b"\0")

    def reap(self) -> None:
        """Kills what is left and waits for it; fails the test where anything stays."""
        deadline = time.monotonic() + READY_SECONDS
        while left := self.processes():
            assert time.monotonic() < deadline, f"leaked: {left}"
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self._wait()
        self._wait()

    def _wait(self) -> None:
        for popen in self._started:
            with popen:  # closes its pipe and waits
                popen.kill()


@contextlib.contextmanager
def running(*arguments: str, stderr: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """`ultra-ports ARGUMENTS` while it runs, for tests that interrupt it or answer its questions.

    SIGINT has its default action there, even where the test run itself was started with `&`.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        popen = subprocess.Popen(
            [COMMAND, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with popen:
        try:
            yield popen
        finally:
            popen.kill()


def until_served(port: int) -> None:
    """Waits for whoever takes the port, as a large program does after a while."""
    wait_until(lambda: is_served(port), f"{port} is served", 60)


def remove_cgroup(folder: Path) -> None:
    """Removes a cgroup when it is empty: who is ending is in it a little longer than is listed."""

    def is_removed() -> bool:
        try:
            folder.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
        return True

    wait_until(is_removed, f"{folder} is empty")


def unified() -> Path:
    """Where cgroup v2 is mounted here."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            return Path(line.split()[4])
    raise AssertionError("no cgroup v2 here")
