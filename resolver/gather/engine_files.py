"""What an engine's own files say of its containers while it does not answer.

With live-restore they outlive their dockerd (dockerd(8)). It keeps what each was made with in
`containers/ID/config.v2.json` of its data root (moby's daemon/container/container.go), and mounts
files of the same folder into the container, which is how the folder is found.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from msgspec import Struct, field

from resolver.errors import UntrustedError
from resolver.gather.engines import container_id_in
from resolver.host import trust
from resolver.host.files import text_of
from resolver.json_text import JsonError, decode
from resolver.model import UNATTENDED, Container

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.model import Process

_FOLDER = r" (/\S*/containers/{id})/hostname /etc/hostname "  # proc_pid_mountinfo(5)


class _SavedConfig(Struct, frozen=True, rename="pascal"):
    image: str = ""


class _SavedContainer(Struct, frozen=True):
    """`config.v2.json`; the name begins with a slash."""

    id: str = field(default="", name="ID")
    name: str = field(default="", name="Name")
    config: _SavedConfig = field(default=_SavedConfig(), name="Config")


def saved_containers(
    processes: Iterable[Process], known: Iterable[Container]
) -> tuple[Container, ...]:
    """The containers in which some of the processes run and which no engine told of; by their ids.

    Only where nobody but root or the caller could have written the file.
    """
    told = {each.id for each in known}
    found = {each.id: each for process in processes for each in _saved(process)}
    return tuple(found[each] for each in sorted(found.keys() - told))


def _saved(process: Process) -> Iterator[Container]:
    known = next(filter(None, map(container_id_in, process.cgroups)), None)
    mounts = text_of(f"/proc/{process.pid}/mountinfo") if known else ""
    folder = re.search(_FOLDER.format(id=known), mounts)
    if folder is None:
        return
    path = f"{folder[1]}/config.v2.json"
    try:
        trust.check_file(path)
        saved = decode(
            trust.read_named(path, os.geteuid()).decode(errors="replace"), _SavedContainer
        )
    except (OSError, UntrustedError, JsonError):
        return
    if saved.id == known and saved.name:
        name, image = saved.name.removeprefix("/"), saved.config.image
        yield Container(saved.id, name, engine="", image=image, state=UNATTENDED)
