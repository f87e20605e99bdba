"""A CI runner in a container that borrows this machine's programs, and an engine behind TCP."""

from __future__ import annotations

import contextlib
import io
import socket
import tarfile
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.lab.cli import Run, ultra
from tests.lab.engine import LABEL, Container, Engine, add_directories, add_link
from tests.lab.processes import ROOT
from tests.lab.systemd import borrowed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

DIRECTORIES = ("usr", "etc", "proc", "sys", "dev", "run", "tmp", "root", "var")
WAYS_IN = ("bin", "sbin", "lib", "lib64")
SOCKET = "/var/run/docker.sock"


@dataclass(frozen=True, slots=True)
class Runner:
    """A container in which jobs run."""

    container: Container

    def ultra(self, *arguments: str, **env: str) -> Run:
        """Runs `ultra-ports ARGUMENTS` as a job."""
        return ultra(*arguments, prefix=self.enter(**env))

    def enter(self, **env: str) -> tuple[str, ...]:
        """The command that runs another one inside."""
        options = [f"--env={name}={value}" for name, value in env.items()]
        start = ("docker", "exec", "-i", f"--workdir={ROOT}", *options)
        return (*start, self.container.name)


def image(engine: Engine) -> str:
    """Imports the image of empty mount points; returns its reference."""
    reference = f"{LABEL}:runner-{engine.mark}"
    with io.BytesIO() as stream:
        with tarfile.open(fileobj=stream, mode="w") as tar:
            add_directories(tar, *DIRECTORIES)
            for name in WAYS_IN:
                add_link(tar, name, f"usr/{name}")
        engine("import", "-", reference, stdin=stream.getvalue())
    return reference


def start(
    engine: Engine,
    reference: str,
    *options: str,
    command: Sequence[str] = ("/usr/bin/sleep", "1000"),
) -> Runner:
    """Starts a runner that has the engine's socket where clients look for it, and nothing else."""
    volumes = [f"--volume={path}:{path}:ro" for path in borrowed()]
    volumes.append(f"--volume={engine.socket}:{SOCKET}")
    words = ("--stop-timeout=1", *volumes, *options)
    return Runner(engine.start(*words, image=reference, command=command))


@contextlib.contextmanager
def over_tcp(path: Path) -> Iterator[str]:
    """The address, as of DOCKER_HOST, of a server that passes everything on to a unix socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, str(path)))
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)  # wakes the thread up
            thread.join(10.0)
            assert not thread.is_alive()


def _serve(server: socket.socket, path: str) -> None:
    threads = []
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            break
        engine = socket.socket(socket.AF_UNIX)
        engine.connect(path)
        threads += [
            threading.Thread(target=_pass_on, args=pair)
            for pair in ((client, engine), (engine, client))
        ]
        for thread in threads[-2:]:
            thread.start()
    for thread in threads:
        thread.join(10.0)


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    """Copies until the source ends; the two directions close their own source."""
    with source, contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
