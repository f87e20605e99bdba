"""A real supervisord with its own configuration and socket."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.lab.processes import ROOT, unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

STOP_SECONDS = 20.0
BASE = """\
[supervisord]
nodaemon=true
directory={root}
logfile={home}/supervisord.log
pidfile={home}/supervisord.pid
childlogdir={home}
[unix_http_server]
file={home}/supervisor.sock
[supervisorctl]
serverurl=unix://{home}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""


class Supervisor:
    """One supervisord; `config` is the path of its configuration file."""

    def __init__(self, home: Path, supervisord: str, supervisorctl: str) -> None:
        self.config = home / "supervisord.conf"
        self._supervisord = supervisord
        self._supervisorctl = supervisorctl
        self._popen: subprocess.Popen[bytes] | None = None
        self.config.write_text(BASE.format(home=home, root=ROOT), encoding="utf-8")

    @property
    def pid(self) -> int:
        """The PID of the supervisord."""
        assert self._popen is not None
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """True where it has not ended."""
        return self._popen is not None and self._popen.poll() is None

    def start(self, sections: str) -> None:
        """Adds sections to the configuration, starts it, and returns when it answers."""
        with self.config.open("a", encoding="utf-8") as config:
            config.write(sections)
        self._popen = subprocess.Popen(
            [self._supervisord, "-c", str(self.config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: self.ctl("pid") == str(self.pid), "supervisord answers")

    def ctl(self, *arguments: str) -> str:
        """What `supervisorctl ARGUMENTS` says, whatever its status."""
        return subprocess.run(
            [self._supervisorctl, "-c", str(self.config), *arguments],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()

    def program(self, name: str) -> int:
        """The PID of `group:program`; 0 where it does not run."""
        said = self.ctl("pid", name)
        return int(said) if said.isdigit() else 0

    def state(self, name: str) -> str:
        """The state of `group:program`: `RUNNING`, `STOPPED`, `EXITED` …"""
        return self.ctl("status", name).split()[1]

    def end(self) -> None:
        """Ends it with all its programs; fails the test where one stays."""
        if self._popen is None:
            return
        family = psutil.Process(self.pid).children(recursive=True) if self.alive else []
        self._popen.terminate()
        try:
            self._popen.wait(STOP_SECONDS)
        finally:
            self._popen.kill()
            self._popen.wait()
            _, left = psutil.wait_procs(family, timeout=5.0)
            for process in left:
                process.kill()
            assert not left, f"leaked: {left}"


def serving(port: int, options: str = "") -> str:
    """The command line of a lab server on every IPv4 address of the port."""
    server = "-B -S -m tests.lab.servers.answering"
    return f"{sys.executable} {server} {port} --tcp 0.0.0.0 {options}".strip()


def program(name: str, command: str, autorestart: str) -> str:
    """The section of one program."""
    return (
        f"[program:{name}]\ncommand={command}\nautorestart={autorestart}\n"
        "startsecs=0\nstopwaitsecs=5\nstdout_logfile=NONE\nredirect_stderr=true\n"
    )


@contextlib.contextmanager
def supervisor() -> Iterator[Supervisor]:
    """A supervisord that can be started; it is ended with all that it runs."""
    supervisord = shutil.which("supervisord") or unavailable("supervisord is missing")
    supervisorctl = shutil.which("supervisorctl") or unavailable("supervisorctl is missing")
    # Not under pytest's directory: the path of a unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="lab") as home:
        made = Supervisor(Path(home), supervisord, supervisorctl)
        try:
            yield made
        finally:
            made.end()
