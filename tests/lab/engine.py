"""A real container engine: local images, marked containers, and sockets of engines in trouble.

No registry is needed: images are imported from files of this machine. Every container carries the
mark of the test that started it, so that whatever is left can be found and removed.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import socketserver
import subprocess
import tarfile
import tempfile
import threading
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.lab.processes import unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LABEL = "ultra-ports-lab"
START_SECONDS = 30.0
APPLETS = ("sh", "nc", "sleep", "cat", "touch")
# Answers each line with its name. It ends at once on SIGTERM, which a shell as PID 1 would ignore,
# and lets the client hang up first, so that no TIME_WAIT is left on the published port.
ANSWER = 'nc -ll -p "$LISTEN" -e sh -c "read line; echo $NAME; cat >/dev/null"'
SERVE = f'trap "exit 0" TERM; {ANSWER} & wait'
IDLE = 'trap "exit 0" TERM; sleep 1000 & wait'


class EngineError(AssertionError):
    """The engine's command line failed; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine. `host` is its DOCKER_HOST, or None for the default; `mark` labels what it runs.

    `enter` is a command that runs another in the network namespace where it publishes ports; `pid`
    is the daemon's, where the lab started it.
    """

    mark: str
    image: str = ""
    host: str | None = None
    enter: tuple[str, ...] = ()
    pid: int = 0

    @property
    def env(self) -> dict[str, str]:
        """What a client of this engine has in its environment."""
        return {} if self.host is None else {"DOCKER_HOST": self.host}

    @property
    def socket(self) -> Path:
        """The path of its unix socket; where it listens elsewhere, the test cannot run."""
        host = self.host or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        if not host.startswith("unix://"):
            unavailable(f"the engine has no unix socket: {host}")
        return Path(host.removeprefix("unix://")).resolve()

    def __call__(self, *arguments: str, stdin: bytes = b"") -> str:
        """Runs `docker ARGUMENTS` and returns its stripped output.

        Raises:
            EngineError: it failed.
        """
        done = subprocess.run(
            [_client(), *arguments],
            input=stdin,
            env={**os.environ, **self.env, "DOCKER_BUILDKIT": "0"},
            capture_output=True,
            check=False,
            timeout=100,
        )
        if done.returncode != 0:
            raise EngineError(f"docker {arguments}: {done.stderr.decode()} {done.stdout.decode()}")
        return done.stdout.decode().strip()

    def start(
        self,
        *options: str,
        script: str = SERVE,
        listen: int = 80,
        image: str | None = None,
        command: Sequence[str] = (),
    ) -> Container:
        """Starts a container in the background: `docker run -d OPTIONS IMAGE …`.

        It runs a shell `script`, or the `command`. The script finds its own name in `$NAME`, and in
        `$LISTEN` the port to serve.
        """
        name = f"lab-{uuid.uuid4().hex[:12]}"
        marks = ["--name", name, "--label", f"{LABEL}={self.mark}"]
        environment = ["--env", f"NAME={name}", "--env", f"LISTEN={listen}"]
        runs = [*command] or ["sh", "-c", script]
        self("run", "-d", *marks, *environment, *options, image or self.image, *runs)
        return Container(self, name)

    def publish(self, *ports: str, options: Sequence[str] = (), script: str = SERVE) -> Container:
        """Starts a container that publishes `ports` (`-p`), and serves its name on its port 80."""
        return self.start(*(f"--publish={port}" for port in ports), *options, script=script)

    def marked(self) -> Engine:
        """The same engine with a new mark."""
        return replace(self, mark=uuid.uuid4().hex)

    def left(self) -> list[str]:
        """The ids of every container that carries the mark, running or not."""
        return self("ps", "--all", "--quiet", "--filter", f"label={LABEL}={self.mark}").split()

    def reap(self) -> None:
        """Removes every container that carries the mark; fails the test where one stays."""
        if left := self.left():  # it answers, or this fails
            with contextlib.suppress(EngineError):  # one may be on its way out by itself
                self("rm", "--force", "--volumes", *left)
            wait_until(lambda: not self.left(), "the engine removed every container of the test")

    def answers(self) -> bool:
        """True where the engine still answers."""
        return bool(self("version", "--format", "{{.Server.Version}}"))


@dataclass(frozen=True, slots=True)
class Container:
    """A container of the lab, by its name."""

    engine: Engine
    name: str

    def inspect(self, template: str) -> str:
        """One fact, by a Go template: `{{.State.Pid}}`."""
        return self.engine("inspect", "--type=container", "--format", template, self.name)

    @property
    def id(self) -> str:
        """The full id."""
        return self.inspect("{{.Id}}")

    @property
    def pid(self) -> int:
        """The PID of its first process, on the host; 0 where it does not run."""
        return int(self.inspect("{{.State.Pid}}"))

    @property
    def state(self) -> str:
        """`running`, `exited`, `paused`, `restarting` …, or `absent` where it was removed."""
        if not self.engine("ps", "-aq", "--filter", f"name=^{self.name}$"):
            return "absent"
        return self.inspect("{{.State.Status}}")

    def serves(self, port: int, address: str = "127.0.0.1") -> bool:
        """True where it is this container that answers on the host's port."""
        return named_by(port, address) == self.name

    def wait_for(self, port: int, address: str = "127.0.0.1") -> None:
        """Returns when the container answers on the host's port."""
        wait_until(lambda: self.serves(port, address), f"{self.name} serves {address}:{port}")


def named_by(port: int, address: str = "127.0.0.1") -> str | None:
    """The name of the container that answers there, or None where none does within 2 s."""
    try:
        with socket.create_connection((address, port), timeout=2.0) as client:
            client.sendall(b"who\n")
            return client.recv(64).decode().strip() or None
    except OSError:
        return None


def forwarders(port: int) -> set[int]:
    """The PIDs of the userland proxies of one host port."""
    wanted = ["-host-port", str(port)]
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            at = command.index(wanted[0]) if wanted[0] in command else -1
            if process.name() == "docker-proxy" and command[at : at + 2] == wanted:
                found.add(process.pid)
    return found


def _client() -> str:
    return shutil.which("docker") or unavailable("the docker command is missing")


def local_engine() -> Engine:
    """The engine that `docker` talks to here, with the lab's image; skips where none answers."""
    engine = Engine(uuid.uuid4().hex)
    try:
        engine.answers()
    except EngineError as error:
        unavailable(f"no container engine answers: {error}")
    return replace(engine, image=import_busybox(engine))


def import_busybox(engine: Engine) -> str:
    """Imports an image with a shell and a few small tools; returns its reference."""
    busybox = Path(shutil.which("busybox") or unavailable("busybox is missing"))
    reference = f"{LABEL}:{engine.mark}"
    with io.BytesIO() as stream:
        with tarfile.open(fileobj=stream, mode="w") as tar:
            tar.add(busybox.resolve(), "bin/busybox")
            for applet in APPLETS:
                add_link(tar, f"bin/{applet}", "busybox")
        engine("import", "-", reference, stdin=stream.getvalue())
    return reference


def add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    """Adds a symbolic link to an archive."""
    link = tarfile.TarInfo(name)
    link.type, link.linkname = tarfile.SYMTYPE, target
    tar.addfile(link)


def add_directories(tar: tarfile.TarFile, *names: str) -> None:
    """Adds empty directories to an archive: the mount points of an image."""
    for name in names:
        directory = tarfile.TarInfo(name)
        directory.type, directory.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(directory)


@contextlib.contextmanager
def engine_without_proxy(*options: str) -> Iterator[Engine]:
    """A second engine, without a userland proxy: dockerd itself holds the published ports.

    It has its own network namespace, so that its packet filter rules cannot disturb those of the
    first engine, and everything else of its own too; `options` are more of dockerd(8).
    """
    dockerd, unshare = _second_engine_tools()
    with tempfile.TemporaryDirectory(prefix="lab") as directory, _log(directory) as log:
        home = Path(directory)
        host, name = f"unix://{home}/docker.sock", uuid.uuid4().hex
        prepare = 'ip link set lo up && exec "$@"'
        popen = subprocess.Popen(
            [
                *(unshare, "--net", "--mount", "sh", "-c", prepare, "sh"),
                *(dockerd, "--userland-proxy=false", f"--host={host}"),
                *(f"--data-root={home}/data", f"--exec-root={home}/exec"),
                *(f"--pidfile={home}/docker.pid", f"--containerd-namespace=lab-{name}"),
                f"--containerd-plugins-namespace=lab-plugins-{name}",
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield _second_engine(host, popen, home / "log")
        finally:
            _end(popen)


def _second_engine(host: str, popen: subprocess.Popen[bytes], log: Path) -> Engine:
    nsenter = shutil.which("nsenter") or unavailable("nsenter is missing")
    enter = (nsenter, f"--net=/proc/{popen.pid}/ns/net", "--")
    engine = Engine(uuid.uuid4().hex, host=host, enter=enter, pid=popen.pid)

    def up() -> bool:
        assert popen.poll() is None, f"the second engine ended: {log.read_text(encoding='utf-8')}"
        with contextlib.suppress(EngineError):
            return engine.answers()
        return False

    wait_until(up, "the second engine answers", START_SECONDS)
    return replace(engine, image=import_busybox(engine))


def _second_engine_tools() -> tuple[str, str]:
    if os.geteuid() != 0:
        unavailable("a second engine needs root")
    dockerd = shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    return (
        dockerd or unavailable("dockerd is missing"),
        shutil.which("unshare") or unavailable("unshare is missing"),
    )


@contextlib.contextmanager
def _log(directory: str) -> Iterator[io.BufferedWriter]:
    with (Path(directory) / "log").open("wb") as log:
        yield log


def _end(popen: subprocess.Popen[bytes]) -> None:
    """Ends an engine, and fails the test where a process of it stays."""
    family = psutil.Process(popen.pid).children(recursive=True) if popen.poll() is None else []
    popen.terminate()
    try:
        popen.wait(START_SECONDS)
    finally:
        popen.kill()
        popen.wait()
        _, left = psutil.wait_procs(family, timeout=10.0)
        for process in left:
            process.kill()
        assert not left, f"leaked: {left}"


@contextlib.contextmanager
def broken_socket(answer: bytes | None) -> Iterator[Path]:
    """The unix socket of an engine that accepts, then says `answer` and hangs up.

    None: it never says anything at all, as a wedged engine does.
    """
    with tempfile.TemporaryDirectory(prefix="lab") as directory:
        path = Path(directory) / "docker.sock"
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            path.chmod(0o666)
            path.parent.chmod(0o755)
            server.listen(16)
            thread = threading.Thread(target=_accept, args=(server, answer))
            thread.start()
            try:
                yield path
            finally:
                server.shutdown(socket.SHUT_RDWR)  # wakes the thread up
                thread.join(10.0)
                assert not thread.is_alive()


def _accept(server: socket.socket, answer: bytes | None) -> None:
    with contextlib.ExitStack() as kept:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            kept.enter_context(connection)
            if answer is not None:
                _hang_up(connection, answer)


def _hang_up(connection: socket.socket, answer: bytes) -> None:
    with contextlib.suppress(OSError):  # the client may have gone first
        connection.recv(65536)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def counting_socket(folder: Path, asked: list[str]) -> Iterator[Path]:
    """An engine that takes every question down, and never answers."""
    path = folder / "docker.sock"

    class Silent(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if question := self.request.recv(65536):
                asked.append(question.decode())
            self.request.recv(1)  # until the client has given up

    with socketserver.ThreadingUnixStreamServer(str(path), Silent) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield path
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def dead_socket(mode: int = 0o666) -> Iterator[Path]:
    """The socket file of an engine that has gone: nobody listens any more."""
    with tempfile.TemporaryDirectory(prefix="lab") as directory:
        path = Path(directory) / "docker.sock"
        path.parent.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
        path.chmod(mode)
        yield path
