"""Whose a holder is: this checkout's, another's, or nobody's that is known. Read-only.

Evidence, the strongest first: a living lease that the holder runs under; the working directory of a
container's compose project; the checkout that a process works in, or else that its script or its
virtual environment is in. A checkout is the top of a git worktree, else the directory of a project
file. A directory that was deleted is a place, too: nobody's but its own.
"""

from __future__ import annotations

import os
import stat
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from resolver.errors import UltraPortsError
from resolver.host import trust
from resolver.leases import notes
from resolver.leases.belonging import DIRECTORY_LABEL, PROJECT_LABEL, Belonging, belonging
from resolver.leases.model import collide
from resolver.leases.owner import here
from resolver.model import Ownership, PortRequest, Whose
from resolver.project.file import OWN_NAME
from resolver.project.location import exists

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from resolver.leases.model import Lease
    from resolver.leases.owner import Here
    from resolver.model import Classification, Container, Holder, Process

_HEAD = "ref: refs/heads/"
_WORDS = 4  # of a command line, in which its script is looked for


class Viewpoint(Struct, frozen=True):
    """Who asks: the checkout that this command runs in, and the living leases of the machine.

    `place_of` is `checkout`, and `branch_of` is `_branch`; both remember what they were asked.
    """

    place: str
    where: Here
    leases: tuple[Lease, ...]
    place_of: Callable[[str], str]
    branch_of: Callable[[str], str]


def viewpoint(environ: Mapping[str, str]) -> Viewpoint:
    """This command. What cannot be read counts as not reserved here: reports say so."""
    try:
        folder = str(Path.cwd())
    except OSError:
        folder = ""
    try:
        leases = notes.living(environ)
    except UltraPortsError:
        leases = ()
    place = checkout(folder) or folder
    return Viewpoint(place, here(environ), leases, cache(checkout), cache(_branch))


def with_ownership(
    found: tuple[Classification, ...], environ: Mapping[str, str]
) -> tuple[Classification, ...]:
    """The same, with whose each holder is."""
    if not found:
        return ()
    asking = viewpoint(environ)
    return tuple(replace(each, ownership=ownership(each.holder, asking)) for each in found)


def ownership(holder: Holder, asking: Viewpoint) -> Ownership:
    """Whose the holder is, seen from the caller's checkout."""
    container = holder.container  # who forwards to it is the engine's
    where = _by_labels(container, asking) if container else _by_directories(holder, asking)
    return _by_lease(holder, asking) or where or Ownership()


def checkout(folder: str) -> str:
    """The top of the git worktree that a directory is in, else that of its project; else ""."""
    if not folder.startswith("/"):
        return ""
    project = ""
    for each in (Path(folder), *Path(folder).parents):
        if exists(each / ".git"):
            return str(each)
        if not project and exists(each / OWN_NAME):
            project = str(each)
    return project


def _by_lease(holder: Holder, asking: Viewpoint) -> Ownership | None:
    binding = holder.binding
    held = PortRequest(binding.port, binding.transport, binding.address)
    for lease in asking.leases:
        mine = collide(held, lease.request)
        if mine and belonging(holder, lease, asking.where) is Belonging.OWN:
            said = f"it runs under the living lease of {lease.service} of {lease.project}"
            found = _of_place(lease.place, asking, said, project=lease.project)
            return replace(found, leased=lease.service)
    return None


def _by_labels(container: Container, asking: Viewpoint) -> Ownership | None:
    folder, project = container.label(DIRECTORY_LABEL), container.label(PROJECT_LABEL)
    if not folder:
        return None
    said = f"its compose project {project or ''} is in {folder}"
    return _of_place(asking.place_of(folder) or folder, asking, said, project=project or "")


def _by_directories(holder: Holder, asking: Viewpoint) -> Ownership | None:
    for process in holder.processes:
        if process.deleted_cwd:
            said = f"{process} has its working directory in it"
            return _of_place(_gone(process.deleted_cwd), asking, said, gone=True)
        for what, folder in _directories(process):
            place = asking.place_of(folder)
            if not place and asking.place and Path(folder).is_relative_to(asking.place):
                place = asking.place
            if place:
                return _of_place(place, asking, f"{process} has {what} in it")
    return None


def _directories(process: Process) -> Iterator[tuple[str, str]]:
    """The directories that may say to which checkout a process belongs."""
    folder = Path(process.cwd or "/")
    yield "its working directory", str(folder)
    for word in process.command[1:_WORDS]:
        if "/" in word and not word.startswith("-") and _is_file(folder / word):
            yield "its script", os.path.normpath((folder / word).parent)
    if process.command and "/" in process.command[0]:  # as it was called: a venv's is a link
        environment = (folder / process.command[0]).parent.parent
        if _is_file(environment / "pyvenv.cfg"):
            yield "its virtual environment", os.path.normpath(environment)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _gone(folder: str) -> str:
    """The topmost directory that was deleted with this one."""
    gone = folder
    for each in (Path(folder), *Path(folder).parents):
        if exists(each):
            break
        gone = str(each)
    return gone


def _of_place(
    place: str,
    asking: Viewpoint,
    said: str,
    *,
    project: str = "",
    gone: bool = False,
) -> Ownership:
    whose = Whose.UNKNOWN
    if place and asking.place:
        whose = Whose.MINE if place == asking.place else Whose.OTHER
    return Ownership(
        whose=whose,
        project=project or Path(place).name,
        place=place,
        branch=asking.branch_of(place) if whose is Whose.OTHER else "",
        gone=gone,
        evidence=(said,),
    )


def _branch(place: str) -> str:
    """The branch that is checked out there (gitrepository-layout(5)); "" where nobody may know.

    Whoever made `.git` says where the rest is: it is read by that user's rights.
    """
    git = f"{place}/.git"
    try:
        found = os.lstat(git)
        if stat.S_ISREG(found.st_mode):  # a worktree's: a line `gitdir: PATH`
            git = trust.read_named(git, found.st_uid).decode().removeprefix("gitdir:").strip()
        head = trust.read_named(f"{git}/HEAD", found.st_uid).decode().strip()
    except (OSError, UnicodeError, ValueError):
        return ""
    return head.removeprefix(_HEAD) if head.startswith(_HEAD) else head[:12]
