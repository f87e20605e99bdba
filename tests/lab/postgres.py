"""A real PostgreSQL on a port of its own, made by initdb(1) for the occasion."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

from tests.lab.ports import free_port
from tests.lab.processes import unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

STOP_SECONDS = 10.0
NOBODY = 65534


class Postgres:
    """One server with a cluster of its own; a context manager that ends it.

    Args:
        settings: of postgresql.conf, as `name=value`.
    """

    def __init__(self, *settings: str) -> None:
        self._programs = _programs()
        self._home = Path(tempfile.mkdtemp(prefix="ultra-ports-postgres-"))
        self._settings = settings
        self._popen: subprocess.Popen[bytes] | None = None
        self.data = self._home / "data"
        self.port = free_port()

    @property
    def pid(self) -> int:
        """The PID of the server's first process."""
        assert self._popen is not None
        return self._popen.pid

    def __enter__(self) -> Self:
        try:
            if os.geteuid() == 0:
                os.chown(self._home, NOBODY, NOBODY)
            self._run("initdb", "--auth=trust", "--no-sync", "--username=postgres")
        except BaseException:
            shutil.rmtree(self._home)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._home)

    def start(self) -> None:
        """Starts it, and returns when it has opened its port."""
        options = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"]
        arguments = [part for each in (*options, *self._settings) for part in ("-c", each)]
        with (self._home / "log").open("ab") as log:
            self._popen = subprocess.Popen(
                [*self._argv("postgres"), "-p", str(self.port), *arguments],
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._ready, f"PostgreSQL is ready: {self.log()}")

    def freeze(self) -> None:
        """Stops its first process: connections are made, and nobody takes them."""
        os.kill(self.pid, signal.SIGSTOP)

    def kill(self) -> None:
        """Ends it with all its processes, by SIGKILL."""
        if self._popen is not None:
            family = (
                psutil.Process(self.pid).children(recursive=True)
                if self._popen.poll() is None
                else []
            )
            self._popen.kill()
            self._popen.wait(STOP_SECONDS)
            for process in family:
                with_suppressed(process)
            psutil.wait_procs(family, STOP_SECONDS)

    def log(self) -> str:
        """What it wrote."""
        return (self._home / "log").read_text(encoding="utf-8", errors="replace")

    def _ready(self) -> bool:
        assert self._popen is not None
        assert self._popen.poll() is None, self.log()
        log = self.log()
        return "ready to accept" in log or "entering standby mode" in log

    def _run(self, program: str, *options: str) -> None:
        done = subprocess.run(
            [*self._argv(program), *options],
            cwd=self._home,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr

    def _argv(self, program: str) -> Sequence[str]:
        """It refuses to run as root."""
        argv = [str(self._programs / program), "-D", str(self.data)]
        if os.geteuid() != 0:
            return argv
        setpriv = shutil.which("setpriv") or unavailable("setpriv(1) is missing")
        return [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *argv]


def with_suppressed(process: psutil.Process) -> None:
    """Kills a process that may have ended by itself."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def _programs() -> Path:
    """Debian keeps the programs of each version apart."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next(iter(folders), None) or unavailable("PostgreSQL is missing")
