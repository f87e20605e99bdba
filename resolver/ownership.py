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
from resolver.leases.belonging import Belongs, belonging, home
from resolver.leases.model import collide
from resolver.leases.owner import here
from resolver.model import Kind, Ownership, PortRequest, Whose
from resolver.model.compose_labels import PROJECT
from resolver.project.checkout import checkout
from resolver.project.location import working_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resolver.leases.model import Lease
    from resolver.leases.owner import Here
    from resolver.model import Classification, Holder

_HEAD = "ref: refs/heads/"
_ENGINES = {Kind.FORWARDER, Kind.ORPHAN}  # work wherever their engine was started


class Viewpoint(Struct, frozen=True):
    """Who asks: the checkout that this command runs in, and the living leases of the machine.

    `place` is the working directory where that is in no checkout; `around` is the same, but ""
    where what works below it may be anybody's. `place_of` is `checkout`, and `branch_of` is
    `_branch`; both remember what they were asked. `error` says why the leases are not known.
    """

    place: str
    around: str
    where: Here
    leases: tuple[Lease, ...]
    place_of: Callable[[str], str]
    branch_of: Callable[[str], str]
    error: str = ""


def viewpoint(environ: Mapping[str, str]) -> Viewpoint:
    """This command. What cannot be read counts as not reserved here: reports say so."""
    folder = working_directory()
    leases: tuple[Lease, ...] = ()
    error = ""
    try:
        leases = notes.living(environ)
    except UltraPortsError as unread:
        error = f"what is reserved cannot be told: {unread}"
    place = checkout(folder)
    around = place or ("" if _is_anybodys(folder) else folder)
    return Viewpoint(
        place or folder, around, here(environ), leases, cache(checkout), cache(_branch), error
    )


def _is_anybodys(folder: str) -> bool:
    """Whether servers below a directory that is no checkout need not be whose who stands in it.

    In `/` daemons live; in a home directory, every project of its user; where others may write, as
    in `/tmp`, everybody.
    """
    try:
        mode = Path(folder).stat().st_mode
        return folder in {"", "/", str(Path.home())} or bool(mode & stat.S_IWOTH)
    except (OSError, RuntimeError):  # it is gone, or nobody knows a home
        return True


def with_ownership(
    found: tuple[Classification, ...], environ: Mapping[str, str]
) -> tuple[Classification, ...]:
    """The same, with whose each holder is."""
    if not found:
        return ()
    asking = viewpoint(environ)
    return tuple(
        each if each.kind in _ENGINES else replace(each, ownership=ownership(each.holder, asking))
        for each in found
    )


def ownership(holder: Holder, asking: Viewpoint) -> Ownership:
    """Whose the holder is, seen from the caller's checkout."""
    return _by_lease(holder, asking) or _by_home(holder, asking) or Ownership()


def _by_lease(holder: Holder, asking: Viewpoint) -> Ownership | None:
    binding = holder.binding
    held = PortRequest(binding.port, binding.transport, binding.address)
    for lease in asking.leases:
        mine = collide(held, lease.request)
        if mine and belonging(holder, lease, asking.where) is Belongs.OWN:
            said = f"it runs under the living lease of {lease.service} of {lease.project}"
            place = asking.place_of(lease.place) or lease.place
            found = _of_place(place, asking, said, project=lease.project)
            return replace(found, leased=lease.service)
    return None


def _by_home(holder: Holder, asking: Viewpoint) -> Ownership | None:
    found = home(holder, asking.around, asking.place_of)
    if found is None:
        return None
    project = holder.container.label(PROJECT) if holder.container else ""
    evidence, gone = found.evidence, found.gone
    return _of_place(found.place, asking, evidence, project=project or "", gone=gone)


def _of_place(
    place: str, asking: Viewpoint, said: str, *, project: str = "", gone: bool = False
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
