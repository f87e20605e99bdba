"""Real supervisors, each in a directory of its own: runit, s6 and daemontools; monit; circus.

Those of the daemontools family supervise one service, `web`, below a scanner, as on a real machine.
Its run script is the test's; nothing here needs root, or touches the machine's own services.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.lab.processes import ROOT, Lab, alive, answered_by, unavailable, wait_until


class Programs(NamedTuple):
    """The programs of one family, and the words that they know.

    `started` and `stopped` are what `status` must say; `once` makes it start, and not start again.
    """

    name: str
    scanner: tuple[str, ...]
    supervisor: str
    status: tuple[str, ...]
    up: tuple[str, ...]
    once: tuple[str, ...]
    stop: str
    packages: str


RUNIT = Programs(
    name="runit",
    scanner=("runsvdir", "-P"),
    supervisor="runsv",
    status=("sv", "status"),
    up=("sv", "up"),
    once=("sv", "once"),
    stop="sv -w 60 stop {}",
    packages="runit",
)
S6 = Programs(
    name="s6",
    scanner=("s6-svscan",),
    supervisor="s6-supervise",
    status=("s6-svstat",),
    up=("s6-svc", "-u"),
    once=("s6-svc", "-o"),
    stop="s6-svc -wD -T 60000 -d {}",
    packages="s6",
)
DAEMONTOOLS = Programs(
    name="daemontools",
    scanner=("svscan",),
    supervisor="supervise",
    status=("svstat",),
    up=("svc", "-u"),
    once=("svc", "-o"),
    stop="svc -d {}",
    packages="daemontools",
)


class Supervisors(Lab):
    """Runs a service of one family; `folder` is its service directory."""

    def __init__(self, directory: Path, programs: Programs) -> None:
        super().__init__(directory)
        self.programs = programs
        self.scanned = directory / "services"
        self.folder = self.scanned / "web"
        for program in (programs.scanner, programs.status, programs.up):
            if shutil.which(program[0]) is None:
                unavailable(f"{program[0]} is missing (Debian: {programs.packages})")

    def start_service(self, script: str, *, log: str | None = None) -> None:
        """Starts the scanner, and waits until the service is supervised."""
        write(self.folder / "run", script)
        if log is not None:
            write(self.folder / "log" / "run", log)
        argv = (*self.programs.scanner, str(self.scanned))
        self._popen(argv, self._directory / "scanner.log", {})
        wait_until(lambda: self.says("up (") or self.says("run: "), "the service is supervised")

    def call(self, words: tuple[str, ...]) -> str:
        """What one of the family's commands says about the service."""
        argv = (*words, str(self.folder))
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def says(self, words: str) -> bool:
        """Whether the family's status command says this of the service."""
        return words in self.call(self.programs.status)

    @property
    def supervisor(self) -> psutil.Process:
        """The process that supervises the service itself, and not its log."""
        (found,) = (
            process
            for process in self.processes()
            if process.name() == self.programs.supervisor and process.cwd() == str(self.folder)
        )
        return found


class Monit(Lab):
    """A monit that checks every second; `web` is what its scripts start and stop."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        if shutil.which("monit") is None:
            unavailable("monit is missing (Debian: monit)")
        self.file = directory / "monitrc"
        self.pid_file = directory / "web.pid"
        self.start_program = f'start program = "{directory}/start"'
        self.stop_program = f'stop program = "{directory}/stop"'

    def start_monit(self, checks: str, *, http: bool = True) -> int:
        """Starts it with these checks, and waits until it answers; returns its PID."""
        home = self._directory
        listener = f"set httpd unixsocket {home}/monit.sock allow lab:lab\n" if http else ""
        facts = "".join(
            f"set {each} {home}/{each}\n" for each in ("pidfile", "idfile", "statefile")
        )
        self.file.write_text(f"set daemon 1\n{facts}{listener}{checks}\n", encoding="utf-8")
        self.file.chmod(0o600)
        argv = ("monit", "-I", "-c", str(self.file), "-l", str(home / "monit.log"))
        popen = self._popen(argv, home / "monit.stderr", {})
        if http:
            wait_until(lambda: "uptime" in self.call("summary"), "monit answers")
        return popen.pid

    def serve(self, port: int) -> None:
        """Writes the scripts with which monit starts and stops a server on the port."""
        write(
            self._directory / "start",
            f"cd {self._directory}\nsetsid {serving(port)} </dev/null 2>&1 &\n"
            f"echo $! >{self.pid_file}",
        )
        write(self._directory / "stop", f"kill $(cat {self.pid_file})")

    def call(self, *words: str) -> str:
        """What `monit WORDS` says."""
        argv = ("monit", "-c", str(self.file), "-B", *words)
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


class Circus(Lab):
    """A circusd; its directory must be short, since it has unix sockets in it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._circusd = Path(sys.executable).with_name("circusd")
        if not self._circusd.exists():
            unavailable("circusd is missing (PyPI: circus)")
        self.endpoint = f"ipc://{directory}/control"
        self.control = (str(self._circusd.with_name("circusctl")), "--endpoint", self.endpoint)

    def start_circus(self, sections: str) -> int:
        """Starts it with these watchers, and waits until it answers; returns its PID."""
        file = self._directory / "circus.ini"
        pubsub = f"pubsub_endpoint = ipc://{self._directory}/pubsub\ncheck_delay = 0.5\n"
        file.write_text(
            f"[circus]\nendpoint = {self.endpoint}\n{pubsub}{sections}\n", encoding="utf-8"
        )
        log = self._directory / "circusd.log"
        popen = self._popen((str(self._circusd), str(file)), log, {})
        wait_until(lambda: "active" in self.call("status"), "circusd answers")
        return popen.pid

    def call(self, *words: str) -> str:
        """What `circusctl WORDS` says."""
        return self._told(words).stdout

    def refusal(self, *words: str) -> str:
        """What it says is wrong with `circusctl WORDS`."""
        return self._told(words).stderr

    def _told(self, words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        argv = (*self.control, "--timeout", "5", *words)
        return subprocess.run(argv, capture_output=True, text=True, check=False)


def watcher(name: str, command: str, **options: object) -> str:
    """The section of one watcher of circus."""
    lines = "".join(f"{key} = {value}\n" for key, value in options.items())
    return f"[watcher:{name}]\ncmd = {command}\ncopy_env = True\n{lines}"


def write(script: Path, text: str) -> None:
    """Writes an executable shell script."""
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    script.chmod(0o755)


def comes_back(port: int, pid: int) -> None:
    """Kills who answers on the port, and waits until another does.

    Nobody is connected while it ends: that would leave a TIME_WAIT on the port.
    """
    psutil.Process(pid).kill()
    wait_until(lambda: not alive(pid), f"process {pid} ends")
    wait_until(lambda: answered_by(port) not in {None, pid}, "its supervisor starts it again")


def serving(port: int, prefix: str = "") -> str:
    """The command line of a lab server on every IPv4 address of the port; `prefix` runs it."""
    server = "-B -S -m tests.lab.servers.answering"
    start = f"{prefix} {sys.executable} {server} {port} --tcp 0.0.0.0 >{os.devnull}"
    return f"env PYTHONPATH={ROOT} {start.strip()}"
