"""Files, links and folders that belong to somebody, for the tests of whom this command believes."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

STRANGER, NAMELESS = 65534, 54321  # the user nobody, and a user id that nobody has
ENV = os.path.realpath("/usr/bin/env")  # root's program, as are the folders above it


@contextlib.contextmanager
def as_user(uid: int) -> Iterator[None]:
    """The caller is somebody else for a while, and the kernel judges him as such."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def give(path: Path, uid: int = STRANGER) -> Path:
    """The very entry becomes a stranger's, be it a link."""
    os.chown(path, uid, -1, follow_symlinks=False)
    return path


def made(path: Path, text: str = "x", mode: int = 0o644, uid: int = 0) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return give(path, uid)


def tool(folder: Path, uid: int = 0, mode: int = 0o755) -> Path:
    """A program that says that it ran."""
    return made(folder / "tool", f'#!/bin/sh\necho ran >>"{folder}/ran"\n', mode, uid)


def directory(path: Path, mode: int = 0o755, uid: int = 0) -> Path:
    path.mkdir()
    path.chmod(mode)
    return give(path, uid)


def link(path: Path, target: str | Path, uid: int = 0) -> Path:
    path.symlink_to(target)
    return give(path, uid)


def chain(folder: Path, links: int) -> Path:
    """A file behind so many links of root's."""
    found = made(folder / "file")
    for number in range(links):
        found = link(folder / f"link{number}", found)
    return found


def full_group() -> int:
    """A group whose members are neither root nor the caller."""
    gid = pwd.getpwuid(STRANGER).pw_gid
    assert gid != 0
    return gid


def empty_group() -> int:
    """A group that has no members at all."""
    primary = {entry.pw_gid for entry in pwd.getpwall()}
    return next(
        each.gr_gid
        for each in grp.getgrall()
        if each.gr_gid and not each.gr_mem and each.gr_gid not in primary
    )


def descriptors() -> list[str]:
    """The numbers of this process's open files."""
    return sorted(each.name for each in Path("/proc/self/fd").iterdir())
