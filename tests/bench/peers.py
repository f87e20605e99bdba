"""Other tools that say who holds a port. They are looked up, or installed into a folder on request.

Those that can only end the holder are given one of their own for each run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench.bench import Contender
from tests.lab.ports import free_port, is_free
from tests.lab.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.bench.bench import Bench
    from tests.lab.processes import Lab

INSTALL_SECONDS = 300
PYPI = ("whoisport", "portcheck-tool", "whatport", "kport")
NPM = ("kill-port", "fkill-cli")


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool: its program, the words that ask for a port, and what it is written in."""

    program: str
    words: Callable[[int], tuple[str, ...]]
    interpreted: bool = False
    ends: bool = False


PEERS = (
    Peer("ss", lambda port: ("-ltnp", f"sport = :{port}")),
    Peer("lsof", lambda port: ("-nP", f"-iTCP:{port}", "-sTCP:LISTEN")),
    Peer("fuser", lambda port: (f"{port}/tcp",)),
    Peer("whoisport", lambda port: (str(port),)),
    Peer("portcheck", lambda port: (str(port),)),
    Peer("whatport", lambda port: (str(port),)),
    Peer("kport", lambda port: ("inspect", str(port)), interpreted=True),
    Peer("kill-port", lambda port: (str(port),), interpreted=True, ends=True),
    Peer("fkill", lambda port: ("--force", f":{port}"), interpreted=True, ends=True),
)


def contenders(
    bench: Bench, lab: Lab, port: int, owners: set[int], interpreted: float
) -> Iterator[tuple[Contender, float | None]]:
    """Every tool that is here; those in Python and Node with the ratio that ours has to reach."""
    for peer in PEERS:
        program = locate(bench, peer.program)
        if program is None:
            continue
        if peer.ends:
            found = _ending(lab, peer, program)
        else:
            label = " ".join((peer.program, *peer.words(port)))
            argv = (program, *peer.words(port))
            # portcheck says with 1 that a port is not free
            found = Contender(label, argv, statuses=(0, 1), names=lambda: owners)
        yield found, interpreted if peer.interpreted else None


def asking(bench: Bench, name: str, *words: str, owners: set[int]) -> Contender | None:
    """One tool with words of its own; None where it is not here."""
    program = locate(bench, name)
    label = " ".join((name, *words))
    return Contender(label, (program, *words), names=lambda: owners) if program else None


def _ending(lab: Lab, peer: Peer, program: str) -> Contender:
    """A tool that ends the holder, which is a new one each time."""
    port = free_port()

    def before() -> None:
        wait_until(lambda: is_free(port), f"{port} is free again")
        lab.start("plain", port)

    label = f"{peer.program} (which ends it)"
    return Contender(label, (program, *peer.words(port)), before=before)


def locate(bench: Bench, program: str) -> str | None:
    """The path of a tool: among those that were installed for this, or anywhere."""
    places = ["/usr/sbin", "/sbin", os.environ.get("PATH", os.defpath)]
    if bench.peers:
        places[:0] = [str(bench.peers / "bin"), str(bench.peers / "node_modules" / ".bin")]
    return shutil.which(program, path=os.pathsep.join(places))


def install(folder: Path) -> None:
    """Installs what PyPI and npm have into a folder; never into the project's environment."""
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    for package in PYPI:
        _try([*pip, package], package)
    npm = shutil.which("npm")
    if npm is None:
        print("npm is missing: no peers from there", file=sys.stderr)
        return
    words = ["install", "--no-fund", "--no-audit", "--silent", "--prefix", str(folder)]
    _try([npm, *words, *NPM], " ".join(NPM))


def _try(command: list[str], what: str) -> None:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        command, env=env, check=False, timeout=INSTALL_SECONDS, capture_output=True, text=True
    )
    if done.returncode:
        print(f"could not install {what}: {done.stderr.strip()[-200:]}", file=sys.stderr)
