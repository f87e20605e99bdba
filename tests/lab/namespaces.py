"""Network namespaces of a test's own: no rules, no sockets, a loopback that is up."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import uuid
from typing import TYPE_CHECKING

import psutil

from tests.lab.processes import unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.processes import Lab


@contextlib.contextmanager
def network_namespace(lab: Lab) -> Iterator[tuple[str, ...]]:
    """A command that runs another in a new namespace; at the end the lab's servers go with it."""
    if os.geteuid() != 0:
        unavailable("a network namespace needs root")
    ip = shutil.which("ip", path="/usr/sbin:/usr/bin:/sbin:/bin") or unavailable("ip is missing")
    name = f"lab{uuid.uuid4().hex[:8]}"
    subprocess.run([ip, "netns", "add", name], check=True)
    try:
        inside = (ip, "netns", "exec", name)
        subprocess.run([*inside, ip, "link", "set", "lo", "up"], check=True)
        yield inside
        lab.reap()
    finally:
        subprocess.run([ip, "netns", "delete", name], check=True)


def run(inside: tuple[str, ...], *lines: str) -> None:
    """Runs lines of shell in a namespace."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    script = " && ".join(lines)
    subprocess.run([*inside, "sh", "-c", script], env=os.environ | {"PATH": path}, check=True)


def pid_in(lab: Lab, inside: tuple[str, ...]) -> int:
    """A process that lives in a namespace."""
    popen = lab.command(*inside, "sleep", "600")
    wait_until(lambda: psutil.Process(popen.pid).name() == "sleep", "it is in the namespace")
    return popen.pid
