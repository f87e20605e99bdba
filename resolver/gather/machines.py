"""Containers that no engine has: those of systemd-nspawn(1), LXC, LXD and Incus.

Known by the process that watches one, which is above whatever runs in it. It may be anybody's: what
it is called is only printed.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from resolver.model import Container
from resolver.programs import known_as

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.model import Process

_NSPAWN = frozenset({"systemd-nspawn"})
_NAME_OPTIONS = ("-M", "--machine", "-D", "--directory", "-i", "--image")  # in this order
# The title of LXC's monitor (lxc_monitor of lxc/start.c): where its containers are, and its name
_MONITOR = r"\[lxc monitor\] (\S+) (\S+)"
_CLIENTS = (("incus", "incus"), ("lxd", "lxc"))


def machine_above(line: Iterable[Process]) -> Container | None:
    """The container of the nearest such process in a line of ancestors."""
    for process in line:
        if known_as(process, _NSPAWN):
            return _container(process, _machine_name(process.command), "machinectl")
        if match := re.match(_MONITOR, " ".join(process.command)):
            client = next((name for part, name in _CLIENTS if part in match[1]), "lxc-stop")
            return _container(process, match[2], client)
    return None


def _container(watcher: Process, name: str, client: str) -> Container:
    return Container(str(watcher.pid), name, engine="", state="running", client=(client,))


def _machine_name(command: tuple[str, ...]) -> str:
    """As it was given, or the last part of its directory or image (systemd-nspawn(1), -M)."""
    for option in _NAME_OPTIONS:
        for word, following in pairwise((*command, "")):
            key, _, value = word.partition("=")
            given = "" if option.startswith("--") else word.removeprefix(option)
            if key == option and (found := value or following):
                return found.rstrip("/").rpartition("/")[2].removesuffix(".raw")
            if given and given != word:
                return given.rstrip("/").rpartition("/")[2].removesuffix(".raw")
    return "?"
