"""Files of the kernel (proc(5), sysfs(5), cgroups(7)), and listings: what is hidden is not there.

What else somebody names is read by `trust.read_named`, or `text_named`.
"""

from __future__ import annotations

import os

_KERNELS = ("/proc/", "/sys/")


def files_in(path: str) -> list[str]:
    """The sorted entries of a folder, the path itself where it is none; empty where hidden."""
    try:
        return [f"{path}/{name}" for name in sorted(os.listdir(path))]
    except NotADirectoryError:
        return [path]
    except OSError:
        return []


def folders_in(path: str) -> list[tuple[str, int]]:
    """The name and the inode number of each folder in a folder; empty where hidden."""
    try:
        with os.scandir(path) as entries:
            return [
                (entry.name, entry.inode())
                for entry in entries
                if entry.is_dir(follow_symlinks=False)
            ]
    except OSError:  # removed meanwhile, or not for this user
        return []


def read(path: str) -> bytes:
    """The whole of a file of the kernel's.

    Raises:
        OSError: as open(2) and read(2) do.
        ValueError: it is another kind of file, which could be a stranger's.
    """
    if not path.startswith(_KERNELS):
        raise ValueError(f"{path} is no file of the kernel's")
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        blocks = [os.read(handle, 1 << 16)]
        while blocks[-1]:
            blocks.append(os.read(handle, 1 << 16))
    finally:
        os.close(handle)
    return b"".join(blocks)


def memory_of(pid: int, address: int, size: int) -> bytes | None:
    """A few bytes of a process's memory (proc_pid_mem(5)); None where they are hidden."""
    try:
        handle = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.pread(handle, size, address)
    except (OSError, OverflowError):  # an address that is none
        return None
    finally:
        os.close(handle)
    return data if len(data) == size else None


def is_shared(mode: int) -> bool:
    """Whether others than the owner may write to a directory of this mode (inode(7))."""
    return bool(mode & 0o022)


def text_of(path: str) -> str:
    """The whole text of a file; empty where there is none, or not for this user."""
    try:
        return read(path).decode(errors="replace")
    except OSError:
        return ""


def link_of(path: str) -> str:
    """Where a link leads; empty where there is none, or not for this user."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def namespace_of(pid: int | str, kind: str) -> str:
    """A process's namespace, such as `net:[4026531840]` (namespaces(7)); empty where hidden."""
    return link_of(f"/proc/{pid}/ns/{kind}")


def status_words(pid: int | str, name: str) -> list[str]:
    """The words of a field of /proc/PID/status (proc_pid_status(5)); empty where it is hidden."""
    return field_words(f"/proc/{pid}/status", name)


def field_words(path: str, name: str) -> list[str]:
    """The words behind `NAME:` in a file of the kernel's; empty where there are none."""
    lines = text_of(path).splitlines()
    return next((line.split()[1:] for line in lines if line.startswith(f"{name}:")), [])


def stat_field(pid: int, number: int) -> str:
    """A field of /proc/PID/stat as proc_pid_stat(5) counts them, the third or a later one.

    The name that precedes these may hold anything. Empty where it is hidden.
    """
    fields = text_of(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[number - 3] if len(fields) > number - 3 else ""
