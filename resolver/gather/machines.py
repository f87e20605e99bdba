"""Containers that no engine has: those of systemd-nspawn(1), LXC, LXD and Incus.

Known by the process that watches one, which is above whatever runs in it. It may be anybody's: what
it is called is only printed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.model import Container
from resolver.programs import known_as, options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.model import Process

_NSPAWN = frozenset({"systemd-nspawn"})
_LXC = frozenset({"lxc-start", "lxc-execute"})  # in the foreground, they watch it themselves
_LXC_PATH = "/var/lib/lxc"  # where its tools look for containers if they are not told (lxc.conf(5))
_NAMES = ("-M", "--machine", "-D", "--directory", "-i", "--image")  # in this order
# The title of LXC's monitor (lxc_monitor of lxc/start.c): where its containers are, and its name
_MONITOR = r"\[lxc monitor\] (\S+) (\S+)"
_CLIENTS = (("incus", "incus"), ("lxd", "lxc"))


def machine_above(line: Iterable[Process]) -> Container | None:
    """The container of the nearest such process in a line of ancestors."""
    for process in line:
        if known_as(process, _NSPAWN):
            name = _option(process.command, *_NAMES).rstrip("/").rpartition("/")[2]
            return _container(process, name.removesuffix(".raw"), "machinectl")
        if match := re.match(_MONITOR, process.command_line):
            return _container(process, match[2], *_client(match[1]))
        if known_as(process, _LXC):
            path = _option(process.command, "-P", "--lxcpath") or _LXC_PATH
            return _container(process, _option(process.command, "-n", "--name"), *_client(path))
    return None


def _container(watcher: Process, name: str, *client: str) -> Container:
    return Container(str(watcher.pid), name or "?", engine="", state="running", client=client)


def _client(path: str) -> tuple[str, ...]:
    """Whose container it is that is kept there: LXD's, Incus', or LXC's own."""
    known = next((name for part, name in _CLIENTS if part in path), "")
    return (known,) if known else ("lxc-stop", *(() if path == _LXC_PATH else ("-P", path)))


def _option(command: tuple[str, ...], *names: str) -> str:
    """The value of the first of these options that was given, in their order; empty for none."""
    return next((value for name in names for value in options(command, name)), "")
