"""Files of the kernel, which every run reads, and of other users: what is hidden is not there."""

from __future__ import annotations

import os


def files_in(path: str) -> list[str]:
    """The sorted entries of a folder, the path itself where it is none; empty where hidden."""
    try:
        return [f"{path}/{name}" for name in sorted(os.listdir(path))]
    except NotADirectoryError:
        return [path]
    except OSError:
        return []


def read(path: str) -> bytes:
    """The whole of a file; for what is read at every start, where pathlib is not loaded.

    Raises:
        OSError: as open(2) and read(2) do.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        blocks = [os.read(handle, 1 << 16)]
        while blocks[-1]:
            blocks.append(os.read(handle, 1 << 16))
    finally:
        os.close(handle)
    return b"".join(blocks)


def is_shared(mode: int) -> bool:
    """Whether others than the owner may write to a directory of this mode (inode(7))."""
    return bool(mode & 0o022)


def text_of(path: str) -> str:
    """The whole text of a file; empty where there is none, or not for this user."""
    try:
        return read(path).decode(errors="replace")
    except OSError:
        return ""


def is_installed(program: str) -> bool:
    """Whether PATH has the program, as far as this user can see.

    `shutil.which` says so too, and loads three compressors for it.
    """
    path = os.environ.get("PATH", os.defpath)
    places = (os.path.join(folder, program) for folder in path.split(os.pathsep) if path)
    return any(os.access(place, os.X_OK) and os.path.isfile(place) for place in places)
