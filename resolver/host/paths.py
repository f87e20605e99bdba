"""Where a path that somebody named leads to, link by link, and whether a stranger has a hand in it.

In a directory that everybody may write to, such as /tmp, a name may be a stranger's: a link to
somebody else's file, a pipe, a file that is read along. The kernel refuses some of it where it is
told to (fs.protected_symlinks and the like, proc_sys_fs(5)); here all of it is refused everywhere:

- there, what belongs to neither root nor the effective user is not followed, opened or written;
- root follows another user's link only to what belongs to that same user, wherever it stands.

What was found is used relative to the directory that was opened, so nobody can put another one in
its place.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # as the kernel's own limit, path_resolution(7)
_ATTEMPTS = 10


class ForeignFileError(PermissionError):
    """A file, a link or a directory is another user's, and is left alone; `strerror` says which."""

    def __init__(self, said: str) -> None:
        super().__init__(errno.EPERM, said)


class Place:
    """A name in an open directory. It need not exist.

    It is no link, but for those by which the kernel shows a descriptor (proc_pid_fd(5)).

    Args:
        folder: the directory, by a descriptor that is closed with this.
        name: in the directory; `.` is the directory itself.
        text: the whole path.
        leaders: whose links led here, root's and one's own left out; empty for ordinary users.
    """

    def __init__(self, folder: int, name: str, text: str, leaders: frozenset[int]) -> None:
        self.folder = folder
        self.name = name
        self.text = text
        self._leaders = leaders

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.folder)

    def status(self) -> os.stat_result | None:
        """Of the file, by lstat(2); None where there is none."""
        return status(self.folder, self.name)

    def open(self, flags: int) -> int:
        """Opens the file as it is; a pipe that nobody writes to or reads from keeps nobody waiting.

        Raises:
            ForeignFileError: it is a stranger's.
            OSError: as open(2) does.
        """
        return self._judged(os.open(self.name, self._flags(flags), dir_fd=self.folder))

    def open_or_make(self, flags: int) -> int:
        """Opens the file as `open` does, and makes it where it is missing."""
        opened, made = open_or_make(self.folder, self.name, self._flags(flags), 0o666)
        return opened if made else self._judged(opened)

    def replace(
        self, content: bytes, mode: int = 0o666, ready: Callable[[int], bool] = lambda _: True
    ) -> bool:
        """Puts a new file in this one's place in one step, or leaves everything as it was.

        Args:
            content: all of it.
            mode: less what the umask takes away.
            ready: called with the new file's descriptor; False: it shall not take the place.

        Raises:
            OSError: nothing can be written here.
        """
        beside = f".{self.name[:200]}.{os.urandom(6).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(beside, flags, mode, dir_fd=self.folder), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                if not ready(file.fileno()):
                    return False
            os.replace(beside, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=self.folder)
        return True

    def judge(self, found: os.stat_result) -> None:
        """Looks whose the file is, or where there is none its directory.

        Raises:
            ForeignFileError: it is a stranger's, see the top of this module.
        """
        public = os.fstat(self.folder).st_mode & stat.S_IWOTH
        if public and not stat.S_ISDIR(found.st_mode) and found.st_uid not in _ours():
            raise _in_public(self.text, found)
        for leader in self._leaders - {found.st_uid}:
            raise ForeignFileError(
                f"a link of uid {leader} leads to {self.text}, which is uid {found.st_uid}'s"
            )

    def _judged(self, opened: int) -> int:
        try:
            if not _is_the_kernels(self.folder):
                self.judge(os.fstat(opened))
        except BaseException:
            os.close(opened)
            raise
        return opened

    def _flags(self, flags: int) -> int:
        follow = 0 if _is_the_kernels(self.folder) else os.O_NOFOLLOW
        return flags | follow | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def reach(path: str | os.PathLike[str]) -> Place:
    """Follows a path to its last name, which need not exist.

    Raises:
        ForeignFileError: it leads through a stranger's link, or to what is a stranger's.
        OSError: there is no such directory, or it may not be searched; too many links.
        ValueError: there is a NUL in it.
    """
    walk = _Cautious(os.fspath(path))
    try:
        name = walk.last_name()
        place = Place(walk.here, name, os.path.join(walk.text, name), frozenset(walk.leaders))
        if not _is_the_kernels(place.folder):
            place.judge(place.status() or os.fstat(place.folder))
    except BaseException:
        os.close(walk.here)
        raise
    return place


def status(folder: int, name: str) -> os.stat_result | None:
    """What lstat(2) says of a name in an open directory; None where there is no such."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def open_or_make(folder: int, name: str, flags: int, mode: int) -> tuple[int, bool]:
    """Opens a file in an open directory; makes it where it is missing, and says whether it did.

    Raises:
        OSError: as open(2) does.
    """
    for _ in range(_ATTEMPTS):  # others make and remove it, too
        with suppress(FileNotFoundError):
            return os.open(name, flags, dir_fd=folder), False
        with suppress(FileExistsError):
            return os.open(name, flags | os.O_CREAT | os.O_EXCL, mode, dir_fd=folder), True
    raise FileExistsError(errno.EEXIST, f"{name} comes and goes")


class Walk:
    """One resolution of a path: the directory so far, and the words that are left.

    `here` is the directory's descriptor, for whoever asked to close, and `text` its path.
    """

    def __init__(self, path: str) -> None:
        self.text = "/" if path.startswith("/") else os.getcwd()
        self.here = os.open(self.text if path.startswith("/") else ".", FOLDER)
        self._todo = _words(path)
        self._links = 0

    def last_name(self) -> str:
        """Goes to the directory of the last word, and returns that word."""
        while self._todo:
            word = self._todo.pop()
            found = status(self.here, word)
            if found is not None and stat.S_ISLNK(found.st_mode):
                if not self._todo and _is_the_kernels(self.here):
                    return word
                self._follow(word, found)
            elif self._todo or word == "..":
                self._enter(word)
            else:
                return word
        return "."

    def check_link(self, text: str, link: os.stat_result) -> None:
        """Called before a link is followed; raises OSError where it is not to be."""

    def check_folder(self, text: str, folder: os.stat_result) -> None:
        """Called when a directory was entered; raises OSError where it is not to be."""

    def _follow(self, word: str, link: os.stat_result) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        self.check_link(os.path.join(self.text, word), link)
        target = os.readlink(word, dir_fd=self.here)
        self._todo += _words(target)
        if target.startswith("/"):
            self._move(os.open("/", FOLDER), "/")

    def _enter(self, word: str) -> None:
        text = os.path.dirname(self.text) if word == ".." else os.path.join(self.text, word)
        try:
            self._move(os.open(word, FOLDER, dir_fd=self.here), text)
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, f"there is no directory {text}") from error
        except NotADirectoryError as error:
            raise NotADirectoryError(errno.ENOTDIR, f"{text} is no directory") from error

    def _move(self, there: int, text: str) -> None:
        os.close(self.here)
        self.here, self.text = there, text
        self.check_folder(text, os.fstat(there))


class _Cautious(Walk):
    """A walk that notes whose links it follows, and follows no stranger's in a public place."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.leaders: set[int] = set()

    def check_link(self, text: str, link: os.stat_result) -> None:
        if link.st_uid in _ours():
            return
        if os.fstat(self.here).st_mode & stat.S_IWOTH:
            raise _in_public(text, link)
        if os.geteuid() == 0:
            self.leaders.add(link.st_uid)


def _words(path: str) -> list[str]:
    """The words of a path, the last one first."""
    return [word for word in reversed(path.split("/")) if word not in {"", "."}]


def _is_the_kernels(folder: int) -> bool:
    """Whether it is one of /proc, where nobody else makes links; `/dev/fd` leads there."""
    try:
        return os.fstat(folder).st_dev == os.stat("/proc/self").st_dev
    except OSError:
        return False


def _ours() -> set[int]:
    return {0, os.geteuid()}


def _in_public(text: str, found: os.stat_result) -> ForeignFileError:
    what = "link" if stat.S_ISLNK(found.st_mode) else "file"
    return ForeignFileError(
        f"{text} is a {what} of uid {found.st_uid}'s, where everybody may write: it is left alone"
    )
