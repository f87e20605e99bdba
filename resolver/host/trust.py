"""Whom this command believes: the one rule for programs, files and managers that others name.

Everything here answers one question: whose is it? Root runs, opens and believes only what is
root's; an ordinary user only what is root's or his own. Another user's manager is asked by root as
that user, and its word counts for that user's processes. Classifiers and gatherers run commands
only through a `CommandRunner`, which finds programs by `program`, and open what a process names
only through `read_named`, `text_named` and `named_files`.
"""

from __future__ import annotations

import errno
import fnmatch
import grp
import os
import pwd
import stat
from typing import TYPE_CHECKING

from resolver.errors import CommandFailedError, UntrustedError
from resolver.host.paths import Walk, status
from resolver.model import Account, Process

if TYPE_CHECKING:
    from collections.abc import Iterable


LONGEST_FILE = 64 << 10  # bytes of a file that a process names
_MOST_FILES = 1000
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def trusted_users() -> frozenset[int]:
    """The user ids whose programs and files may be relied upon: root's, and the caller's own."""
    return frozenset({0, os.geteuid()})


def user_name(uid: int) -> str:
    """The name of a user, or `#UID`, which sudo(8) takes in its place."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


# --- managers -------------------------------------------------------------------------------------


def account_for(manager: Process, about: Process | None) -> Account | None:
    """As whom a manager is to be asked about a process; None means as the caller himself.

    Args:
        manager: the process that is said to manage others.
        about: whom its word is about; None where that is hidden.

    Raises:
        UntrustedError: it may not be asked from here; the message says why.
    """
    uid = _only_user(manager)
    if uid == 0:
        if os.geteuid() == 0 and (reason := _weak_program(manager)):
            raise UntrustedError(f"{manager} is not root's alone: {reason}")
        return None
    if uid == os.geteuid():
        return None
    return _of_another(uid, manager, about)


def account_of_user(uid: int, about: Process | None) -> Account | None:
    """As whom a user's own systemd manager or engine is to be asked; None: as the caller himself.

    Raises:
        UntrustedError: it may not be asked from here.
    """
    if uid == os.geteuid():
        return None
    return _of_another(uid, f"what user {user_name(uid)} runs", about)


def _of_another(uid: int, who: object, about: Process | None) -> Account:
    """The account of another user, whom only root may become.

    Raises:
        UntrustedError: the caller is not root, nobody has that id, or `about` is not that user's.
    """
    if os.geteuid() != 0:
        raise UntrustedError(f"{who} belongs to {user_name(uid)}")
    if about is not None and set(about.uids or ()) != {uid}:
        raise UntrustedError(f"{who} belongs to {user_name(uid)}, and {about} does not")
    return account(uid)


def account(uid: int) -> Account:
    """The user with this id.

    Raises:
        UntrustedError: there is none of that id: it is somebody else, whoever it may be.
    """
    try:
        found = pwd.getpwuid(uid)
    except KeyError:
        raise UntrustedError(f"user id {uid} has no name here") from None
    return Account(uid, found.pw_gid, found.pw_name, found.pw_dir)


def owner_account(uid: int | None) -> Account | None:
    """The user whose manager it is, for a command line that others shall type.

    None for the caller's own and for root's, where `sudo` alone is enough.
    """
    if uid is None or uid in trusted_users():
        return None
    try:
        return account(uid)
    except UntrustedError:
        return Account(uid, uid, user_name(uid), "/")


def _only_user(process: Process) -> int:
    """The one user that a process belongs to.

    Raises:
        UntrustedError: it has several (a set-user-ID program), or they are hidden.
    """
    users = set(process.uids or ())
    if not users:
        raise UntrustedError(f"it is hidden whose process {process} is")
    if len(users) > 1:
        raise UntrustedError(f"{process} runs with the rights of several users")
    return users.pop()


def _weak_program(process: Process) -> str:
    """Why others could have put a program in place of the one that root's process runs."""
    path = process.executable
    if not path:
        return "its program is hidden"
    return weakness(path if os.path.lexists(path) else os.path.dirname(path))


# --- programs -------------------------------------------------------------------------------------


def program(name: str) -> str:
    """The file that a command's first word stands for: a path, or a name that PATH has.

    A program counts only where it, the folders above it and every link on the way belong to root or
    to the caller, and nobody else may write to them.

    Raises:
        CommandFailedError: there is none.
        UntrustedError: others could change it.
    """
    if "\0" in name or ("/" in name and not name.startswith("/")):
        raise UntrustedError(f"{name!a} is not run: it is neither a name nor an absolute path")
    reason = ""
    for path in [name] if "/" in name else _in_search_path(name):
        if os.access(path, os.X_OK) and os.path.isfile(path):
            reason = weakness(path)
            if not reason:
                return path
    if reason:
        raise UntrustedError(f"{name} is not run: {reason}")
    raise CommandFailedError(f"{name}: {os.strerror(errno.ENOENT)}")


def is_installed(name: str) -> bool:
    """Whether PATH has a program of this name that may be run from here."""
    try:
        program(name)
    except CommandFailedError:
        return False
    return True


def _in_search_path(name: str) -> Iterable[str]:
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return [f"{folder}/{name}" for folder in folders if folder.startswith("/")]


def weakness(path: str) -> str:
    """Why somebody else could change what an absolute path leads to; empty where nobody could.

    Each directory, each link on the way and the file itself have to belong to root or to the
    caller. Others may write only to directories where they cannot replace what is not theirs: such
    as have the sticky bit (inode(7)).
    """
    if not path.startswith("/") or "\0" in path:
        return f"{path!a} is no absolute path"
    walk = _Undisputed(path)
    try:
        walk.check_folder("/", os.fstat(walk.here))
        name = walk.last_name()
        found = status(walk.here, name)
        if found is None:
            return f"{path}: {os.strerror(errno.ENOENT)}"
        if stat.S_ISLNK(found.st_mode):  # one of the kernel's, which leads wherever its maker likes
            return f"{path} is a link"
        return _open_to_others(os.path.join(walk.text, name), found, last=True)
    except UntrustedError as error:
        return str(error)
    except OSError as error:
        return f"{path}: {os.strerror(error.errno or errno.EIO)}"
    finally:
        os.close(walk.here)


class _Undisputed(Walk):
    """A walk that stops at what is in other hands."""

    def check_link(self, text: str, link: os.stat_result) -> None:
        self.check_folder(text, link)

    def check_folder(self, text: str, folder: os.stat_result) -> None:
        if reason := _open_to_others(text, folder):
            raise UntrustedError(reason)


def check_file(path: str) -> None:
    """Raises UntrustedError where somebody else could change a configuration file or folder."""
    if reason := weakness(path):
        raise UntrustedError(reason)


def _open_to_others(path: str, found: os.stat_result, *, last: bool = False) -> str:
    """Why an entry is in other hands than root's or the caller's; empty where it is not.

    `last`: the end of a path. A sticky bit keeps others from what is already in a directory; what
    they put beside it would count there.
    """
    if found.st_uid not in trusted_users():
        return f"{path} belongs to {user_name(found.st_uid)}"
    mode = found.st_mode
    if stat.S_ISLNK(mode) or (stat.S_ISDIR(mode) and mode & stat.S_ISVTX and not last):
        return ""
    if mode & stat.S_IWOTH:
        return f"everybody may write to {path}"
    if mode & stat.S_IWGRP and not _nobody_else_in(found.st_gid):
        return f"group {found.st_gid} may write to {path}"
    return ""


def _nobody_else_in(gid: int) -> bool:
    """Whether a group has no members but root and the caller, such as Debian's `staff`."""
    if gid == 0:
        return True
    names = {user_name(uid) for uid in trusted_users()}
    try:
        members = set(grp.getgrgid(gid).gr_mem)
    except KeyError:
        members = set()
    members |= {entry.pw_name for entry in pwd.getpwall() if entry.pw_gid == gid}
    return members <= names


# --- files that a process names -------------------------------------------------------------------


def read_named(path: str, uid: int | None) -> bytes:
    """The whole of a regular file that a process of user `uid` names; at most 64 KiB.

    Links count only where root or the caller made them, and what that user may not read is not
    read for him; `uid` None is a stranger's.

    Raises:
        OSError: it cannot be read, or is not to be.
    """
    handle = _open_named(path, uid)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise PermissionError(errno.EPERM, "it is no regular file", path)
        if not _may(uid, found, stat.S_IRUSR):
            raise PermissionError(errno.EACCES, "its user may not read it", path)
        text = b""
        while len(text) <= LONGEST_FILE and (block := os.read(handle, LONGEST_FILE + 1)):
            text += block
    finally:
        os.close(handle)
    if len(text) > LONGEST_FILE:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
    return text


def text_named(path: str, uid: int | None) -> str:
    """The same as text; empty where it cannot be read, or is not to be."""
    try:
        return read_named(path, uid).decode(errors="replace")
    except (OSError, ValueError):
        return ""


def named_files(path: str, uid: int | None) -> list[str]:
    """The sorted files that a pattern names, such as `/etc/app/conf.d/*.conf`.

    Wildcards count in the last part alone: others would make us search the whole disk.
    """
    folder, name = os.path.split(path)
    try:
        names = _listed(folder, uid)
    except (OSError, ValueError):
        return []
    found = fnmatch.filter(sorted(names), name)[:_MOST_FILES]
    return [os.path.join(folder, each) for each in found if not each.startswith(".")]


def _listed(folder: str, uid: int | None) -> list[str]:
    """What is in a folder that a process of a user names.

    Raises:
        OSError: there is none, or it is not for that user.
    """
    if not folder.startswith("/"):
        return []
    walk = _Named(folder, uid)
    try:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(walk.last_name(), flags, dir_fd=walk.here)
    finally:
        os.close(walk.here)
    try:
        readable = _may(uid, os.fstat(handle), stat.S_IRUSR | stat.S_IXUSR)
        return os.listdir(handle) if readable else []
    finally:
        os.close(handle)


def _may(uid: int | None, status: os.stat_result, wanted: int) -> bool:
    """Whether a user has these rights as the owner, or everybody has; groups do not count."""
    if uid in trusted_users():
        return True
    shift = 0 if status.st_uid == uid else 6
    return status.st_mode & (wanted >> shift) == wanted >> shift


class _Named(Walk):
    """The way to a file that a process of a user names."""

    def __init__(self, path: str, uid: int | None) -> None:
        super().__init__(path)
        self.uid = uid

    def check_link(self, text: str, link: os.stat_result) -> None:
        if link.st_uid not in trusted_users():
            raise OSError(errno.ELOOP, f"it is a link of {user_name(link.st_uid)}", text)

    def check_folder(self, text: str, folder: os.stat_result) -> None:
        if not _may(self.uid, folder, stat.S_IXUSR):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), text)


def _open_named(path: str, uid: int | None) -> int:
    """A descriptor of the file; it is looked at first, since to open a device sets things off.

    Raises:
        OSError: there is none, it is no regular file, or a link on the way is a stranger's.
    """
    if not path.startswith("/") or "\0" in path:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    walk = _Named(path, uid)
    try:
        name = walk.last_name()
        if not stat.S_ISREG(os.stat(name, dir_fd=walk.here, follow_symlinks=False).st_mode):
            raise PermissionError(errno.EPERM, "it is no regular file", path)
        return os.open(name, _FILE, dir_fd=walk.here)
    except UnicodeEncodeError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
    finally:
        os.close(walk.here)
