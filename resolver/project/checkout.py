"""Checkouts: which one a directory is in, and a name for each that no other one has."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.errors import UsageError
from resolver.project.location import exists, folders
from resolver.project.nearest_file import OWN_NAME
from resolver.project.reading import read

if TYPE_CHECKING:
    from resolver.project.model import Project

COMPOSE_VARIABLE = "COMPOSE_PROJECT_NAME"
_LONGEST = 30  # of each part: containers, networks and volumes begin with the whole
_DIGITS = 6


def checkout(folder: str) -> str:
    """The top of the git worktree that a directory is in, else that of its project; else "".

    What is not there is in none: what was deleted below a checkout was perhaps another one.
    """
    if not folder.startswith("/") or not exists(Path(folder)):
        return ""
    project = ""
    for each in (Path(folder), *Path(folder).parents):
        if exists(each / ".git"):
            return str(each)
        if not project and exists(each / OWN_NAME):
            project = str(each)
    return project


def checkout_name(project: Project) -> str:
    """`shop-agent-3fa1c2`: the project, its directory, and what tells equal ones apart.

    Of a-z, 0-9, _ and -, as compose takes it (compose-spec: the name of a project).
    """
    parts = dict.fromkeys(map(_slug, (project.name, project.root.name)))
    return "-".join(
        [*filter(None, parts), sha256(str(project.root).encode()).hexdigest()[:_DIGITS]]
    )


def is_linked_worktree(place: Path) -> bool:
    """Whether it is in a worktree that `git worktree add` made (gitrepository-layout(5))."""
    git = next((each / ".git" for each in folders(place) if exists(each / ".git")), None)
    if git is None or git.is_dir():
        return False
    try:
        return "/worktrees/" in read(git, "surrogateescape")  # a submodule's says /modules/
    except UsageError:
        return False


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:_LONGEST].strip("-")
