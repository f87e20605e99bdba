"""A real pm2 with its own PM2_HOME, hence its own God daemon."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.lab.npm import install
from tests.lab.processes import ROOT, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SERVER = """\
require('net').createServer((client) => {
  client.on('data', () => client.write(process.pid + '\\n'))
  client.on('error', () => {})
}).listen(Number(process.argv[2]), '127.0.0.1')
"""


class Pm2:
    """One PM2_HOME; `prefix` is a command that runs pm2 as somebody else."""

    def __init__(self, home: Path, prefix: Sequence[str] = ()) -> None:
        self.home = home
        self._program = install("pm2")
        self._prefix = tuple(prefix)

    @property
    def environment(self) -> dict[str, str]:
        """What finds this pm2's program, for `ultra-ports`: it has to find the daemon itself."""
        return {"PATH": f"{self._program.parent}:{os.environ['PATH']}"}

    def ctl(self, *arguments: str) -> str:
        """What `pm2 ARGUMENTS` says; fails the test where it fails."""
        done = subprocess.run(
            [*self._prefix, "env", f"PM2_HOME={self.home}", str(self._program), *arguments],
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"pm2 {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def serve(self, name: str, port: int, *options: str) -> None:
        """Starts a lab server as an application of pm2's."""
        server = ("-B", "-S", "-m", "tests.lab.servers.answering", str(port))
        words = ("--interpreter", "none", "--cwd", str(ROOT), *options)
        self.ctl("start", sys.executable, "--name", name, *words, "--", *server)

    def script(self, name: str, port: int, *options: str) -> None:
        """Starts a server of Node's as an application of pm2's."""
        script = self.home / "server.js"
        script.write_text(SERVER, encoding="utf-8")
        self.ctl("start", str(script), "--name", name, *options, "--", str(port))

    def cluster(self, name: str, port: int) -> None:
        """Starts two workers in cluster mode: the daemon itself listens for them."""
        self.script(name, port, "-i", "2")

    def applications(self) -> dict[str, Any]:
        """The applications by name, with the facts of `pm2 jlist`."""
        return {each["name"]: each for each in json.loads(self.ctl("jlist"))}

    def status(self, name: str) -> str:
        """`online`, `stopped` …"""
        return str(self.applications()[name]["pm2_env"]["status"])

    def pid(self, name: str) -> int:
        """The PID of an application."""
        return int(self.applications()[name]["pid"])

    @property
    def daemon(self) -> int:
        """The PID of the God daemon."""
        return int((self.home / "pm2.pid").read_text())

    def processes(self) -> list[psutil.Process]:
        """The daemon, or daemons, and everything that they started."""
        return [each for each in psutil.process_iter() if self._is_ours(each)]

    def _is_ours(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error, OSError):
            return process.environ().get("PM2_HOME") == str(self.home)
        return False

    def end(self) -> None:
        """Ends it all; fails the test where anything stays."""

        def ended() -> bool:
            left = self.processes()
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            return not left

        wait_until(ended, "pm2 and all of its applications are gone")


@contextlib.contextmanager
def pm2(prefix: Sequence[str] = (), uid: int | None = None) -> Iterator[Pm2]:
    """A pm2 whose daemon starts with its first application; it is ended with all that it runs."""
    home = Path(tempfile.mkdtemp(prefix="lab"))  # short: the path of a unix socket has 107 bytes
    try:
        if uid is not None:
            os.chown(home, uid, uid)
        made = Pm2(home, prefix)
        try:
            yield made
        finally:
            made.end()
    finally:
        shutil.rmtree(home, ignore_errors=True)
