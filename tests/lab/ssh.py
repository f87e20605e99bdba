"""A private sshd with keys of its own, and the options by which a client reaches it."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.lab.ports import free_port
from tests.lab.processes import unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.processes import Lab

_PRIVSEP = Path("/run/sshd")  # Debian's sshd does not start as root without it
_CONFIGURATION = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {home}/host
AuthorizedKeysFile {home}/user.pub
PidFile none
StrictModes no
UsePAM no
"""


class Sshd:
    """A running daemon; its home has the keys, and a place for control sockets."""

    def __init__(self, home: Path, port: int, popen: subprocess.Popen[bytes]) -> None:
        self.home = home
        self.port = port
        self.popen = popen
        self.host = f"{getpass.getuser()}@127.0.0.1"

    @property
    def alive(self) -> bool:
        """True where the daemon has not ended."""
        return self.popen.poll() is None

    def end(self) -> None:
        """Ends it with its sessions and what runs in them: titles hide the lab's mark there."""
        family = psutil.Process(self.popen.pid).children(recursive=True) if self.alive else []
        self.popen.terminate()
        self.popen.wait()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        _, left = psutil.wait_procs(family, timeout=5.0)
        assert not left, f"leaked: {left}"

    def options(self, *more: str) -> tuple[str, ...]:
        """What stands between the client's name and the host."""
        settings = (
            f"Port={self.port}",
            f"IdentityFile={self.home}/user",
            f"UserKnownHostsFile={self.home}/known",
            "StrictHostKeyChecking=accept-new",
            "ExitOnForwardFailure=yes",
            "BatchMode=yes",
        )
        words = [word for setting in settings for word in ("-o", setting)]
        return ("-F", "none", *words, *more)


def _keygen(path: Path) -> None:
    words = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path))
    subprocess.run(words, check=True)


@contextlib.contextmanager
def sshd(lab: Lab) -> Iterator[Sshd]:
    """A daemon on a port of its own; it ends with its sessions."""
    program = shutil.which("sshd") or unavailable("sshd is missing")
    for needed in ("ssh", "ssh-keygen"):
        if shutil.which(needed) is None:
            unavailable(f"{needed} is missing")
    if os.geteuid() == 0:
        _PRIVSEP.mkdir(mode=0o755, exist_ok=True)
    # Short, since the path of a control socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="lab") as folder:
        home, port = Path(folder), free_port()
        for name in ("host", "user"):
            _keygen(home / name)
        configuration = home / "sshd_config"
        configuration.write_text(_CONFIGURATION.format(port=port, home=home), encoding="utf-8")
        # By its full path: sshd starts itself again for each connection.
        found = Sshd(home, port, lab.command(program, "-D", "-e", "-f", str(configuration)))
        try:
            wait_until(lambda: _answers(found), "sshd takes connections")
            yield found
        finally:
            found.end()


def _answers(daemon: Sshd) -> bool:
    words = ("ssh", *daemon.options(), daemon.host, "true")
    return subprocess.run(words, capture_output=True, check=False).returncode == 0
