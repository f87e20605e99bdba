"""What an engine's own files say of its containers while it does not answer.

With live-restore they outlive their dockerd (dockerd(8)). It keeps what each was made with in
`containers/ID/config.v2.json` of its data root (moby's daemon/container/container.go), and mounts
files of the same folder into the container, which is how the folder is found. How the engine is
started is told by the unit in which the container's shim was left (snap's, a user's own), else by
the data root that docker.service is configured for (/etc/docker/daemon.json).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from msgspec import Struct, field

from resolver.errors import UntrustedError
from resolver.gather.engines import container_id_in, own_container_id
from resolver.host import trust
from resolver.host.files import text_of
from resolver.json_text import JsonError, decode
from resolver.model import UNATTENDED, Container

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.model import Process

_FOLDER = r" (/\S*)/containers/{id}/hostname /etc/hostname "  # proc_pid_mountinfo(5)
_DEFAULT_ROOT, _SETTINGS = "/var/lib/docker", "/etc/docker/daemon.json"  # dockerd(8)
_UNIT = r"(?:/user@(?P<uid>\d+)\.service/.*)?/(?P<name>(?!-)[\w.-]*docker[\w.-]*)\.service"
_UNIT_FILES = tuple(
    f"{place}/systemd/system/docker.service" for place in ("/etc", "/run", "/usr/lib", "/lib")
)


class _SavedConfig(Struct, frozen=True, rename="pascal"):
    image: str = ""


class _DaemonSettings(Struct, frozen=True, rename="kebab"):
    """`daemon.json`, as far as it is of interest here."""

    data_root: str = _DEFAULT_ROOT


class _SavedContainer(Struct, frozen=True):
    """`config.v2.json`; the name begins with a slash."""

    id: str = field(default="", name="ID")
    name: str = field(default="", name="Name")
    config: _SavedConfig = field(default=_SavedConfig(), name="Config")


def saved_containers(
    processes: Iterable[Process], known: Iterable[Container]
) -> tuple[Container, ...]:
    """The containers in which some of the processes run and which no engine told of; by their ids.

    Never our own; only where nobody but root or the caller could have written the file.
    """
    told = {own_container_id(), *(each.id for each in known)}
    found = {each.id: each for process in processes for each in _saved(process)}
    return tuple(found[each] for each in sorted(found.keys() - told))


def _saved(process: Process) -> Iterator[Container]:
    known = next(filter(None, map(container_id_in, process.cgroups)), None)
    mounts = text_of(f"/proc/{process.pid}/mountinfo") if known else ""
    folder = re.search(_FOLDER.format(id=known), mounts)
    if folder is None:
        return
    path = f"{folder[1]}/containers/{known}/config.v2.json"
    try:
        trust.check_file(path)
        saved = decode(
            trust.read_named(path, os.geteuid()).decode(errors="replace"), _SavedContainer
        )
    except (OSError, UntrustedError, JsonError):
        return
    if known and saved.id == known and saved.name:
        start, client = ways_to_engine(_cgroups_above(process, known), folder[1], _services_root())
        yield Container(
            known,
            saved.name.removeprefix("/"),
            engine="",
            image=saved.config.image,
            state=UNATTENDED,
            client=client,
            engine_start=start,
        )


def ways_to_engine(
    shim: str, root: str, services_root: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The command that starts an engine again, and how those begin that reach it then. Pure.

    Args:
        shim: the cgroups of the container's shim, as /proc has them.
        root: the engine's data root.
        services_root: that of docker.service; empty where this machine has no such unit.
    """
    unit = re.search(_UNIT, shim)
    if unit and unit["name"].startswith("snap."):
        return ("snap", "start", "docker"), ("snap", "run", "docker")
    if unit and unit["uid"]:
        socket = f"unix:///run/user/{unit['uid']}/docker.sock"
        return ("systemctl", "--user", "start", unit["name"]), ("docker", "--host", socket)
    if unit or root == services_root:
        return ("systemctl", "start", unit["name"] if unit else "docker"), ("docker",)
    return ("dockerd", "--data-root", root), ("docker",)


def _cgroups_above(process: Process, container_id: str) -> str:
    """The cgroups of what is above the container's processes: the shim that was left behind."""
    for identity in process.ancestors:
        text = text_of(f"/proc/{identity.pid}/cgroup")
        if container_id not in text:
            return text
    return ""


def _services_root() -> str:
    """The data root of docker.service; empty where this machine has no such unit."""
    if not any(map(os.path.exists, _UNIT_FILES)) or not os.path.isdir("/run/systemd/system"):
        return ""
    try:
        text = trust.read_named(_SETTINGS, 0).decode(errors="replace")
        return decode(text, _DaemonSettings).data_root
    except (OSError, JsonError):
        return _DEFAULT_ROOT
