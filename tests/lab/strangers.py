"""Another user of this machine, who would like root to believe something: a uid without a name.

Its runtime directory is below a /run/user of the test's own, so that nothing else that runs here as
root comes by and asks.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab.cli import may_run
from tests.lab.processes import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.processes import Lab, Server

_DEFAULT = "/var/run/docker.sock"
ID = "0123456789abcdef" * 4
_FIRST, _COUNT = 61_000, 4_000  # of uids that nobody has (Debian Policy, 9.2.2)
_UNMEASURED = ("env", "-u", "COVERAGE_PROCESS_START", "-u", "COVERAGE_PROCESS_CONFIG")


@dataclass(frozen=True, slots=True)
class Stranger:
    """The user, a folder of that user's, and where /run/user is kept."""

    uid: int
    folder: Path
    run_user: Path

    @property
    def inside(self) -> tuple[str, ...]:
        """A command that runs another where this user is logged in, and nobody else."""
        return _with_mounts(f"mount --bind {self.run_user} /run/user")

    @property
    def alone(self) -> tuple[str, ...]:
        """The same, where there is no engine at the usual place."""
        hide = f"if [ -e {_DEFAULT} ]; then mount --bind /dev/null {_DEFAULT}; fi"
        return _with_mounts(f"mount --bind {self.run_user} /run/user && {hide}")

    @property
    def prefix(self) -> tuple[str, ...]:
        """A command that runs another as this user."""
        return (*self.inside, *become(self.uid))

    @property
    def runtime(self) -> Path:
        """The directory that a login would have made, as it is called inside."""
        return Path("/run/user", str(self.uid))

    @property
    def docker(self) -> Path:
        """Where root would find a rootless engine of this user, inside."""
        return self.runtime / "docker.sock"

    def engine(self, lab: Lab, path: Path, *options: str | int) -> Server:
        """Starts a process of this user that passes for an engine at a unix socket."""
        words = ("-H", f"unix://{path}", "--folder", str(self.folder), *options)
        return lab.start("impostor", *words, prefix=self.prefix, log=False)

    def python(self, script: str, *arguments: str | Path) -> None:
        """Runs a script as this user."""
        words = (sys.executable, "-S", "-c", script, *map(str, arguments))
        subprocess.run([*self.prefix, *words], check=True)

    def says(self, text: bytes, name: str = "json") -> None:
        """What its engine lists, or what it says about a container."""
        (self.folder / f"{name}.json").write_bytes(text)

    def claims(
        self,
        *ports: int,
        name: str = "evil",
        image: str = "evil:1",
        **details: Any,  # noqa: ANN401 - JSON
    ) -> None:
        """Has its engine say that one container publishes these ports on the loopback address.

        `details` are what `GET /containers/ID/json` gives.
        """
        listed = row(*ports, name=name, Image=image)
        self.says(json.dumps([listed]).encode())
        self.says(json.dumps({"HostConfig": {}, "Config": {}, **details}).encode(), ID)

    @property
    def asked(self) -> list[str]:
        """The request lines that its engine has got."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "asked").read_text(encoding="utf-8").splitlines()
        return []


def row(*ports: int, name: str = "evil", **changes: object) -> dict[str, object]:
    """An entry of `GET /containers/json`."""
    return {
        "Id": ID,
        "Names": [f"/{name}"],
        "Image": "evil:1",
        "State": "running",
        "Ports": [
            {"IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": port, "Type": "tcp"}
            for port in ports
        ],
        **changes,
    }


def become(uid: int) -> tuple[str, ...]:
    """A command that runs another as this user."""
    return (*_UNMEASURED, "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")


def _with_mounts(script: str) -> tuple[str, ...]:
    return ("unshare", "--mount", "sh", "-c", f'{script} && exec "$@"', "sh")


@contextlib.contextmanager
def stranger() -> Iterator[Stranger]:
    """A user who is logged in, as far as directories tell; they are removed in the end."""
    if os.geteuid() != 0:
        unavailable("becoming another user needs root")
    if shutil.which("setpriv") is None or shutil.which("unshare") is None:
        unavailable("setpriv(1) or unshare(1) is missing")
    Path("/run/user").mkdir(mode=0o755, exist_ok=True)
    uid = _FIRST + os.getpid() % _COUNT
    with tempfile.TemporaryDirectory(prefix="lab") as directory:
        found = Stranger(uid, Path(directory, "home"), Path(directory, "user"))
        Path(directory).chmod(0o755)
        found.run_user.mkdir(mode=0o755)
        for path, mode in ((found.folder, 0o755), (found.run_user / str(uid), 0o700)):
            path.mkdir(mode=mode)
            os.chown(path, uid, uid)
        if not may_run(become(uid)):
            unavailable("another user may not read this installation")
        yield found
