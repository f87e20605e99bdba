"""To which checkout a holder belongs, and whether it is whom a port is reserved for. Read-only."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.leases.token_carriers import carries
from resolver.model import Container, Holder, Process, ProcessIdentity
from resolver.model.compose_labels import PROJECT, WORKING_DIR
from resolver.project.checkout import checkout
from resolver.project.location import exists, is_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from resolver.leases.model import Lease, Owner
    from resolver.leases.owner import Here

_WORDS = 4  # of a command line, in which its script is looked for


class Belongs(StrEnum):
    """Whether a holder is the reservation's, or the service's own."""

    OWN = "own"  # a process of the project, its container, or the lease's owner
    STRANGER = "stranger"
    NOBODY = "nobody"  # there is no holder
    UNKNOWN = "unknown"  # hidden, or nothing says whose it is


def worst(found: Iterable[Belongs], otherwise: Belongs) -> Belongs:
    """The one of several holders that counts; `otherwise` where there is none."""
    gravity = (Belongs.NOBODY, Belongs.OWN, Belongs.UNKNOWN, Belongs.STRANGER)
    return max(found, key=gravity.index, default=otherwise)


class Home(Struct, frozen=True):
    """The checkout that a holder belongs to, by a directory in it; `gone`: that was deleted."""

    place: str
    folder: str
    evidence: str
    gone: bool = False


def home(holder: Holder, place: str, place_of: Callable[[str], str] = checkout) -> Home | None:
    """The checkout of a holder: that of its compose project, else of what its processes work in.

    Args:
        holder: its working directory goes before its script, and that before its environment.
        place: counts as a checkout, even where nothing says that it is one.
        place_of: `checkout`, which may remember what it was asked.
    """
    working = {each.cwd for each in holder.processes}
    for folder, evidence, gone in _directories(holder):
        if gone:
            return Home(_deleted(folder), folder, evidence, gone=True)
        found = place_of(folder)
        if Path(found).name.startswith(".") and folder not in working:
            continue  # a program's own clone, as ~/.pyenv and ~/.nvm are, is nobody's project
        if not found and _inside(folder, place):
            found = place
        if found or holder.container is not None:
            return Home(found or folder, folder, evidence)
    return None


def belonging(holder: Holder, of: Lease, where: Here) -> Belongs:
    """Whether the holder is the reservation's.

    The owner, what descends from it, and what carries the lease's token, is. Where the reservation
    has no owner, its project's place says it. The owner's compose project may well hold the port
    as a container.
    """
    if holder.container is not None or of.owner is None:
        return _at(holder, of.project, of.place)
    carried = any(carries(each.pid, of) for each in holder.processes)
    return Belongs.OWN if carried else of_owner(holder, of.owner, where)


def of_project(holder: Holder, project: str, place: str) -> Belongs:
    """Whether the holder is the project's in this place.

    What works in no checkout, and in quite another directory, is not. What works above the place,
    such as in `/`, where daemons live, may be anybody's.
    """
    found = _at(holder, project, place)
    working = [each.cwd for each in holder.processes]
    if found is Belongs.UNKNOWN and place and working and holder.container is None:
        away = all(folder and _apart(folder, place) for folder in working)
        return Belongs.STRANGER if away else found
    return found


def _at(holder: Holder, project: str, place: str) -> Belongs:
    found = home(holder, place)
    if found is None or not place:
        same = holder.container is not None and holder.container.label(PROJECT) == project
        return Belongs.OWN if same else Belongs.UNKNOWN
    if found.place != (checkout(place) or place):  # a script may well be everybody's
        working = {each.cwd for each in holder.processes}
        works = holder.container is not None or found.gone or found.folder in working
        return Belongs.STRANGER if works else Belongs.UNKNOWN
    if _inside(found.folder, place):
        return Belongs.OWN
    return Belongs.STRANGER if _apart(found.folder, place) else Belongs.UNKNOWN


def _apart(folder: str, place: str) -> bool:
    """Whether neither directory is inside the other."""
    return not (_inside(folder, place) or _inside(place, folder))


def of_owner(holder: Holder, owner: Owner, where: Here) -> Belongs:
    """Whether the process, or what descends from it, is the holder."""
    if (owner.boot, owner.pid_namespace) != (where.boot, where.pid_namespace):
        return Belongs.UNKNOWN
    if not holder.processes:
        return Belongs.UNKNOWN
    identity = ProcessIdentity(owner.pid, owner.start_time)
    lines = ((process.identity, *process.ancestors) for process in holder.processes)
    return Belongs.OWN if any(identity in line for line in lines) else Belongs.STRANGER


def _directories(holder: Holder) -> Iterator[tuple[str, str, bool]]:
    """Directories that may say where it belongs, how, and whether they were deleted."""
    if holder.container is not None:
        yield from _of_labels(holder.container)
        return
    for process in holder.processes:
        if process.deleted_cwd:
            yield process.deleted_cwd, f"{process} has its working directory in it", True
        for what, folder in _of_process(process):
            yield folder, f"{process} has {what} in it", False


def _of_labels(container: Container) -> Iterator[tuple[str, str, bool]]:
    folder, project = container.label(WORKING_DIR), container.label(PROJECT)
    if folder:
        yield folder, f"its compose project {project or ''} is in {folder}", False


def _of_process(process: Process) -> Iterator[tuple[str, str]]:
    folder = Path(process.cwd or "/")
    yield "its working directory", str(folder)
    for word in process.command[1:_WORDS]:
        if "/" in word and not word.startswith("-") and is_file(folder / word):
            yield "its script", os.path.normpath((folder / word).parent)
    if process.command and "/" in process.command[0]:  # as it was called: a venv's is a link
        environment = (folder / process.command[0]).parent.parent
        if is_file(environment / "pyvenv.cfg"):
            yield "its virtual environment", os.path.normpath(environment)


def _deleted(folder: str) -> str:
    """The topmost directory that was deleted with this one."""
    gone = folder
    for each in (Path(folder), *Path(folder).parents):
        if exists(each):
            break
        gone = str(each)
    return gone


def _inside(folder: str, place: str) -> bool:
    return bool(place) and Path(folder).is_relative_to(place)
