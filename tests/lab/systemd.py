"""A booted systemd in a container that borrows the host's /usr and /etc, read-only.

The project and its interpreter are mounted at their own paths, so that the command which is tested
is the same one as outside.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.lab.cli import Run, ultra
from tests.lab.engine import Container, Engine, EngineError, add_directories, add_link
from tests.lab.processes import ROOT, answered_by, unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEMD = Path("/usr/lib/systemd/systemd")
BOOT_SECONDS = 40.0
UNITS = "/etc/systemd/system"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
USER_UNITS = "/run/systemd/user"
USER = {"XDG_RUNTIME_DIR": "/run/user/0"}
COVERAGE = "COVERAGE_PROCESS_CONFIG"
MEASURED = "/measured"  # where coverage writes inside; the project itself is read-only
DIRECTORIES = ("usr", "etc", "proc", "sys", "dev", "run", "tmp", "root", "var", "var/lib")
WAYS_IN = ("bin", "sbin", "lib", "lib64")
# Whether a port is free, and stays so for some seconds.
PROBE = """
import sys, time
from tests.lab.ports import is_free
port, end = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
while (free := is_free(port)) and time.monotonic() < end:
    time.sleep(0.1)
sys.exit(not free)
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A container whose PID 1 is systemd; it has its own network, hence its own ports."""

    container: Container
    address: str  # on the engine's network
    pid: int  # of its systemd, outside

    @classmethod
    def of(cls, container: Container) -> Self:
        """The one that runs in the container."""
        return cls(container, container.inspect("{{.NetworkSettings.IPAddress}}"), container.pid)

    def run(self, *command: str, stdin: str = "", check: bool = True, **env: str) -> str:
        """Runs a command inside and returns its stripped output."""
        done = subprocess.run(
            [*self.enter(env), *command], input=stdin, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def enter(self, env: dict[str, str] | None = None) -> tuple[str, ...]:
        """The command that runs another one inside, in the project's directory."""
        options = [f"--env={name}={value}" for name, value in (env or {}).items()]
        start = ("docker", "exec", "-i", f"--workdir={ROOT}", *options)
        return (*start, self.container.name)

    def ultra(self, *arguments: str, **env: str) -> Run:
        """Runs `ultra-ports ARGUMENTS` inside."""
        return ultra(*arguments, prefix=self.enter({**_coverage(), **env}))

    def systemctl(self, *arguments: str, user: bool = False) -> str:
        """Runs `systemctl`, or `systemctl --user`, whatever its status."""
        if user:
            return self._quickly("systemctl", "--user", *arguments, **USER)
        return self._quickly("systemctl", *arguments)

    def _quickly(self, *command: str, stdin: str = "", **env: str) -> str:
        """As `run`, whatever its status, for what starts nothing there.

        Past the engine, which takes ten times as long as the command.
        """
        if os.geteuid() != 0:
            return self.run(*command, stdin=stdin, check=False, **env)
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid")
        variables = [f"{name}={value}" for name, value in {"PATH": PATH, **env}.items()]
        done = subprocess.run(
            ["nsenter", f"--target={self.pid}", *spaces, "env", "-i", *variables, *command],  # noqa: S607
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    def write(self, name: str, text: str, *, user: bool = False) -> None:
        """Writes a unit and makes systemd read it."""
        directory = USER_UNITS if user else UNITS
        self._quickly("mkdir", "-p", directory)
        written = self._quickly("tee", f"{directory}/{name}", stdin=text)
        assert written == text.strip()
        self.systemctl("daemon-reload", user=user)

    def main_pid(self, unit: str, *, user: bool = False) -> int:
        """The unit's main process; 0 where it has none."""
        return int(self.systemctl("show", unit, "--property=MainPID", "--value", user=user) or 0)

    def is_active(self, unit: str, *, user: bool = False) -> bool:
        """True where the unit runs."""
        return self.systemctl("is-active", unit, user=user) == "active"

    def server(self, port: int) -> int | None:
        """The PID, inside, of the lab server that answers on the port."""
        return answered_by(port, self.address)

    def is_free(self, port: int) -> bool:
        """True where every address of the port can be bound inside."""
        return self.stays_free(port, 0.0)

    def stays_free(self, port: int, seconds: float = 2.0) -> bool:
        """True where the port is free now and all through the next `seconds`."""
        probe = (sys.executable, "-B", "-S", "-c", PROBE, str(port), str(seconds))
        return subprocess.run([*self.enter(), *probe], check=False).returncode == 0

    def wait_for(self, port: int) -> int:
        """Returns the PID of the lab server on the port, when it answers."""
        wait_until(lambda: self.server(port), f"a server answers inside on {port}")
        pid = self.server(port)
        assert pid is not None
        return pid


def serving(port: int) -> str:
    """The command line of a lab server on every address of the port."""
    return f"{sys.executable} -B -S -m tests.lab.servers.answering {port} --tcp 0.0.0.0"


def service(port: int, restart: str, command: str | None = None) -> str:
    """The text of a service unit around a lab server."""
    return (
        f"[Service]\nExecStart={command or serving(port)}\nWorkingDirectory={ROOT}\n"
        f"Restart={restart}\nRestartSec=0\nTimeoutStopSec=5\n[Unit]\nStartLimitIntervalSec=0\n"
    )


@contextlib.contextmanager
def boot(engine: Engine) -> Iterator[Machine]:
    """Boots a machine and, at the end, removes it with all that runs in it."""
    if not SYSTEMD.exists():
        unavailable(f"systemd is missing: {SYSTEMD}")
    image = _import_mount_points(engine)
    try:
        machine = Machine.of(engine.start(*_options(), image=image, command=_command()))
        try:
            _wait_until_up(machine)
            yield machine
        finally:
            _keep_coverage(machine)
            engine.reap()
    finally:
        engine("rmi", "--force", image)


def _command() -> tuple[str, ...]:
    return (str(SYSTEMD), "--unit=basic.target")


def _options() -> Iterator[str]:
    yield from ("--env=container=docker", "--stop-signal=SIGRTMIN+3", "--cgroupns=host")
    for capability in ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"):
        yield f"--cap-add={capability}"
    yield from ("--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined")
    for volatile in ("/run:exec", "/run/lock", "/tmp:exec", "/var/log", UNITS):  # noqa: S108 - inside
        yield f"--tmpfs={volatile}"
    yield "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw"
    for path in borrowed():
        yield f"--volume={path}:{path}:ro"


def borrowed() -> list[Path]:
    """The directories of this machine that a container needs to run the project as we do."""
    wanted = {Path("/usr"), Path("/etc"), ROOT, Path(sys.prefix), Path(sys.base_prefix)}
    wanted.add(Path(sys.executable).resolve().parents[1])
    return sorted(path for path in wanted if wanted.isdisjoint(path.parents))


def _import_mount_points(engine: Engine) -> str:
    reference = f"ultra-ports-lab:systemd-{engine.mark}"
    with io.BytesIO() as stream:
        with tarfile.open(fileobj=stream, mode="w") as tar:
            add_directories(tar, *DIRECTORIES, MEASURED.removeprefix("/"))
            for name in WAYS_IN:
                add_link(tar, name, f"usr/{name}")
        engine("import", "-", reference, stdin=stream.getvalue())
    return reference


def _wait_until_up(machine: Machine) -> None:
    def up() -> bool:
        return machine.systemctl("is-system-running") in {"running", "degraded"}

    try:
        wait_until(up, "systemd is up", BOOT_SECONDS)
    except AssertionError as error:
        log = machine.container.engine("logs", machine.container.name)
        raise AssertionError(f"{error}: container {machine.container.state}: {log}") from error


def _coverage() -> dict[str, str]:
    """Lets coverage, where this run measures it, write to a place that is writable inside."""
    if COVERAGE not in os.environ:
        return {}
    config: dict[str, Any] = json.loads(base64.b64decode(os.environ[COVERAGE]))
    config["data_file"] = f"{MEASURED}/{Path(config['data_file']).name}"
    return {COVERAGE: base64.b64encode(json.dumps(config).encode()).decode()}


def _keep_coverage(machine: Machine) -> None:
    """Copies what coverage measured inside to where it looks for it outside."""
    if COVERAGE in os.environ:
        config = json.loads(base64.b64decode(os.environ[COVERAGE]))
        outside = Path(config["data_file"]).parent
        with contextlib.suppress(EngineError):
            machine.container.engine("cp", f"{machine.container.name}:{MEASURED}/.", str(outside))
