"""Files that this tool makes for itself: where its state is, its locks, its counts.

Everything is done relative to a directory that was opened once, and no link is followed in it. What
is not a regular file with one name, of root's, of one's own or, for root, of the directory's owner,
is left alone. In another user's directory root has that user's rights and no more (`acting`), as
with a `sudo` that leaves HOME alone: what is made there is the user's, and nothing is given away.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shlex
import stat
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

from resolver.host import paths
from resolver.host.files import is_shared
from resolver.host.paths import ForeignFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_POLL_SECONDS = 0.005
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Folder:
    """A directory of ours, held open.

    Args:
        path: of the directory; links are followed as `paths` does.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        with paths.reach(path) as place:
            try:
                self.descriptor = os.open(place.name, paths.FOLDER, dir_fd=place.folder)
            except NotADirectoryError as error:
                said = f"{place.text} is no directory"
                raise NotADirectoryError(errno.ENOTDIR, said) from error
        self.status = os.fstat(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the directory."""
        os.close(self.descriptor)

    @property
    def shared(self) -> bool:
        """Whether other users may make files here."""
        return is_shared(self.status.st_mode)

    @property
    def mode(self) -> int:
        """Of the files: those who may write to the directory may use them all."""
        return 0o600 | self.status.st_mode & 0o066 if self.shared else 0o600

    @contextmanager
    def acting(self) -> Iterator[None]:
        """What root does with files in here it does with the rights of the directory's owner."""
        with acting(self.status.st_uid, self.status.st_gid):
            yield

    def open(self, name: str, *, make: bool = True) -> int:
        """Opens a file to read and write, and makes it where it is missing.

        Raises:
            ForeignFileError: there is something else than a file of ours.
            OSError: as open(2) does.
        """
        with self.acting():
            self.check(name)
            opened = self._opened(name) if make else os.open(name, _FLAGS, dir_fd=self.descriptor)
            try:
                self._judge(name, os.fstat(opened))
            except BaseException:
                os.close(opened)
                raise
        return opened

    def check(self, *names: str) -> None:
        """Makes sure that each of these is missing, or a file of ours.

        Raises:
            ForeignFileError: one is something else.
        """
        for name in names:
            found = paths.status(self.descriptor, name)
            if found is not None:
                self._judge(name, found)

    def check_private(self) -> None:
        """Makes sure that nobody but root and oneself can put anything here.

        For root that may be the directory's owner: see `acting`.

        Raises:
            ForeignFileError: somebody can.
        """
        if self.shared:
            raise ForeignFileError(f"others may write to {self.path}")
        if self.status.st_uid not in self._owners():
            raise ForeignFileError(f"{self.path} is uid {self.status.st_uid}'s")

    def _opened(self, name: str) -> int:
        """In one step: there is no moment at which other users find it and may not open it."""
        before = os.umask(0)
        try:
            return paths.open_or_make(self.descriptor, name, _FLAGS, self.mode)[0]
        finally:
            os.umask(before)

    def _judge(self, name: str, found: os.stat_result) -> None:
        ours = self.shared or found.st_uid in self._owners()
        if not (ours and stat.S_ISREG(found.st_mode) and found.st_nlink <= 1):
            raise ForeignFileError(f"{name} is {_what(found)}: it is left alone")

    def _owners(self) -> set[int]:
        root = os.geteuid() == 0
        return {0, os.geteuid(), *([self.status.st_uid] if root else [])}


def folder(path: str | os.PathLike[str], *, make: bool = False) -> Folder:
    """Opens a directory for files of ours.

    Args:
        path: of the directory.
        make: also makes it, for this user alone, and those above it.

    Raises:
        ForeignFileError: others may remove what is in it, or it is reached by a stranger's link.
        OSError: it cannot be opened or made.
    """
    found = _made(path) if make else Folder(path)
    if found.shared and not found.status.st_mode & stat.S_ISVTX:
        found.close()
        quoted = shlex.quote(found.path)
        raise ForeignFileError(
            "others may remove files from it "
            f"(`chmod +t {quoted}` if they shall use it too, `chmod go-w {quoted}` if not)"
        )
    return found


def lock(descriptor: int, patience_seconds: float) -> bool:
    """Has an exclusive lock (flock(2)) for as long as the file is open; False: others kept it.

    Raises:
        OSError: the file system has no locks.
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)


def _made(path: str | os.PathLike[str]) -> Folder:
    try:
        return Folder(path)
    except FileNotFoundError:
        above, name = os.path.split(os.path.normpath(path))
    with _made(above or ".") as there, there.acting(), suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=there.descriptor)
    return Folder(path)


def _what(found: os.stat_result) -> str:
    kinds = {stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFDIR: "a directory"}
    kind = kinds.get(stat.S_IFMT(found.st_mode), "a file")
    names = f", with {found.st_nlink} names" if kind == "a file" and found.st_nlink > 1 else ""
    return f"{kind} of uid {found.st_uid}'s{names}"


@contextmanager
def acting(uid: int, gid: int) -> Iterator[None]:
    """Within this, root has no more rights on files than this user; nothing changes for others.

    SQLite, above all, opens files by path, and what it finds there may have it delete others: a
    journal that names one (sqlite.org/fileformat2.html, "the super-journal"). On Linux it is about
    this thread alone (setfsuid(2)), and threads that it starts meanwhile, which is to be avoided;
    elsewhere the process's effective user changes meanwhile. Root's groups stay.

    Raises:
        PermissionError: this root may not become that user, as in some containers.
    """
    if os.geteuid() != 0 or uid == 0:
        yield
        return
    become = _filesystem_user() if sys.platform == "linux" else _effective_user
    before = become(uid, gid)
    try:
        yield
    finally:
        become(*before)


def _filesystem_user() -> Callable[[int, int], tuple[int, int]]:
    """What changes the user and group of this thread's file accesses, and returns the former."""
    library = ctypes.CDLL(None)
    for function in (library.setfsuid, library.setfsgid):
        function.argtypes, function.restype = [ctypes.c_uint32], ctypes.c_uint32

    def become(uid: int, gid: int) -> tuple[int, int]:
        before_gid = library.setfsgid(gid)
        before_uid = library.setfsuid(uid)
        if library.setfsuid(0xFFFFFFFF) != uid:  # changes nothing, and tells
            library.setfsgid(before_gid)
            raise PermissionError(errno.EPERM, f"this root may not act as uid {uid}")
        return before_uid, before_gid

    return become


def _effective_user(uid: int, gid: int) -> tuple[int, int]:
    before = os.geteuid(), os.getegid()
    if uid == 0:
        os.seteuid(uid)
        os.setegid(gid)
    else:
        os.setegid(gid)
        os.seteuid(uid)
    return before
