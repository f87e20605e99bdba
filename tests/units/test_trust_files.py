"""Files that a process names: what is read for its user, and what is not even opened."""

from __future__ import annotations

import errno
import os
import pwd
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from resolver.host import trust
from tests.lab.processes import alive, stays, wait_until
from tests.units.owned import (
    NAMELESS,
    STRANGER,
    as_user,
    chain,
    descriptors,
    directory,
    give,
    link,
    made,
)

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("strangers")]

KERNELS_LIMIT = 40  # links on the way to a file: path_resolution(7)


# --- read_named: files that a process names -------------------------------------------------------


def refusal(path: str | Path, uid: int | None) -> int:
    """The errno with which a file is refused."""
    with pytest.raises(OSError) as refused:  # noqa: PT011 - its number is what is asked for
        trust.read_named(str(path), uid)
    assert refused.value.errno is not None
    return refused.value.errno


@pytest.mark.parametrize("size", [0, 1, trust.LONGEST_FILE - 1, trust.LONGEST_FILE])
def test_a_file_is_read_whole(folder: Path, size: int) -> None:
    assert trust.LONGEST_FILE == 64 * 1024
    file = folder / "file"
    file.write_bytes(os.urandom(size))
    assert trust.read_named(str(file), STRANGER) == file.read_bytes()


@pytest.mark.parametrize("size", [trust.LONGEST_FILE + 1, 1 << 40])
def test_a_file_that_is_too_long_is_not_read_in_part(folder: Path, size: int) -> None:
    file = made(folder / "file")
    os.truncate(file, size)
    assert refusal(file, 0) == errno.EFBIG


def test_a_file_whose_size_the_kernel_does_not_tell_is_read() -> None:
    assert os.stat("/proc/sys/kernel/pid_max").st_size == 0  # noqa: PTH116 - next to os.open
    assert trust.read_named("/proc/sys/kernel/pid_max", STRANGER).strip().isdigit()


@pytest.mark.timeout(20)
def test_a_pipe_is_neither_waited_for_nor_opened(folder: Path) -> None:
    pipe, opened = folder / "pm2.pid", folder / "opened"
    os.mkfifo(pipe, 0o644)
    writing = ["sh", "-c", 'exec >"$0" && touch "$1"', str(pipe), str(opened)]
    with subprocess.Popen(writing) as writer:  # waits until somebody reads
        try:
            for uid in (0, STRANGER, None):
                assert refusal(pipe, uid) == errno.EPERM
                assert refusal(link(folder / f"link{uid}", pipe), uid) == errno.EPERM
            assert stays(lambda: alive(writer.pid) and not opened.exists(), 0.5)
        finally:
            with pipe.open("rb"):
                wait_until(opened.exists, "the writer was only waiting for a reader")
            writer.wait(timeout=10)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("uid", [0, STRANGER, None])
def test_a_device_is_not_read(folder: Path, uid: int | None) -> None:
    assert refusal("/dev/zero", uid) == errno.EPERM
    assert refusal(link(folder / "roots", "/dev/zero"), uid) == errno.EPERM
    assert refusal(link(folder / "theirs", "/dev/zero", STRANGER), uid) == errno.ELOOP
    device = folder / "device"
    os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    assert refusal(device, uid) == errno.EPERM


def test_neither_a_socket_nor_a_folder_is_a_file(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        server.listen()
        server.settimeout(0.1)
        assert refusal(folder / "socket", 0) == errno.EPERM
        with pytest.raises(TimeoutError):
            server.accept()
    assert refusal(folder, 0) == errno.EPERM
    assert refusal(f"{folder}/..", 0) == errno.EPERM
    assert refusal(link(folder / "root", "/"), 0) == errno.EPERM


@pytest.mark.parametrize("uid", [0, STRANGER])
def test_a_strangers_link_is_not_followed(folder: Path, uid: int) -> None:
    file = made(directory(folder / "real") / "file", "ours")
    name, inner = link(folder / "name", file), link(folder / "inner", "real")
    for path in (name, inner / "file"):
        assert trust.read_named(str(path), uid) == b"ours"
    give(name)
    give(inner)
    for path in (name, inner / "file"):
        assert refusal(path, uid) == errno.ELOOP
    with as_user(STRANGER):
        assert trust.read_named(str(name), STRANGER) == b"ours", "it is the caller's own"


@pytest.mark.parametrize("links", [1, KERNELS_LIMIT, KERNELS_LIMIT + 1])
def test_links_of_roots_are_followed_as_far_as_the_kernel_does(folder: Path, links: int) -> None:
    path = str(chain(folder, links))
    if links <= KERNELS_LIMIT:
        assert trust.read_named(path, STRANGER) == b"x"
    else:
        assert refusal(path, STRANGER) == errno.ELOOP
    assert refusal(link(folder / "loop", "loop"), STRANGER) == errno.ELOOP


def test_the_folder_above_a_link_is_the_kernels(folder: Path) -> None:
    made(folder / "file", "outer")
    elsewhere = directory(folder / "elsewhere")
    directory(elsewhere / "deep")
    made(elsewhere / "file", "inner")
    link(folder / "link", "elsewhere/deep")
    for path in ("link/../file", "elsewhere/../file", "link/../../file", "./link/..//file"):
        whole = f"{folder}/{path}"
        assert trust.read_named(whole, STRANGER) == Path(whole).read_bytes()


@pytest.mark.parametrize(
    ("owner", "mode", "readers"),
    [
        (0, 0o600, {0}),
        (0, 0o644, {0, STRANGER, NAMELESS, None}),
        (0, 0o640, {0}),  # groups do not count
        (0, 0o604, {0, STRANGER, NAMELESS, None}),
        (STRANGER, 0o600, {0, STRANGER}),
        (STRANGER, 0o400, {0, STRANGER}),
        (STRANGER, 0o200, {0}),
        (STRANGER, 0o044, {0, NAMELESS, None}),  # the owner's rights are the owner's alone
    ],
)
@pytest.mark.parametrize("above", [False, True])
def test_what_the_user_may_not_read_is_not_read_for_him(
    folder: Path,
    owner: int,
    mode: int,
    readers: set[int | None],
    above: bool,  # noqa: FBT001
) -> None:
    inner = directory(folder / "inner")
    file = made(inner / "file", "secret")
    os.chown(file, 0, pwd.getpwuid(STRANGER).pw_gid)
    changed = inner if above else file
    os.chown(changed, owner, pwd.getpwuid(STRANGER).pw_gid)
    changed.chmod((mode & 0o444) >> 2 if above else mode)  # to pass through a folder: x for r
    for uid in (0, STRANGER, NAMELESS, None):
        if uid in readers:
            assert trust.read_named(str(file), uid) == b"secret"
        else:
            assert refusal(file, uid) == errno.EACCES


def test_a_link_of_roots_opens_no_closed_folder(folder: Path) -> None:
    inner = directory(folder / "inner", 0o700)
    name = link(folder / "name", made(inner / "file", "secret"))
    assert trust.read_named(str(name), 0) == b"secret"
    assert refusal(name, STRANGER) == errno.EACCES


def test_only_absolute_paths_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(folder / "file")
    monkeypatch.chdir(folder)
    for path in ("file", "etc/passwd", "", "/", ".", "//", str(folder / "nothing")):
        assert refusal(path, 0) == (errno.EPERM if path in {"/", "//"} else errno.ENOENT)
    assert refusal(folder / "file" / "inner", 0) == errno.ENOTDIR


def test_no_descriptor_stays_open(folder: Path) -> None:
    made(directory(folder / "inner") / "file")
    made(folder / "secret", mode=0o600)
    made(directory(folder / "closed", 0o700) / "file")
    os.mkfifo(folder / "pipe")
    link(folder / "loop", "loop")
    link(folder / "theirs", "inner", STRANGER)
    os.truncate(made(folder / "long"), trust.LONGEST_FILE + 1)
    before = descriptors()
    trust.read_named(f"{folder}/inner/../inner/file", STRANGER)
    for path in ("secret", "closed/file", "pipe", "loop", "theirs/file", "long", "inner", "no/no"):
        refusal(folder / path, STRANGER)
    assert descriptors() == before


# --- named_files: patterns ------------------------------------------------------------------------


def test_the_files_of_a_pattern_are_sorted_and_not_hidden(folder: Path) -> None:
    for name in ("b.conf", "a.conf", "c.txt", ".d.conf", "[x].conf", "conf"):
        made(folder / name)
    whole = [str(folder / name) for name in ("[x].conf", "a.conf", "b.conf")]
    assert trust.named_files(f"{folder}/*.conf", STRANGER) == whole
    assert trust.named_files(f"{folder}/?.conf", STRANGER) == whole[1:]
    assert trust.named_files(f"{folder}/[a].conf", STRANGER) == whole[1:2]
    assert trust.named_files(f"{folder}/a.conf", STRANGER) == whole[1:2]
    assert trust.named_files(f"{folder}/no.conf", STRANGER) == []
    assert trust.named_files(f"{folder}/no/*.conf", STRANGER) == []


def test_a_wildcard_counts_in_the_last_part_alone(folder: Path) -> None:
    file = made(directory(folder / "conf.d") / "a.conf")
    for pattern in ("*/a.conf", "*/*.conf", "conf?d/*.conf", "**/*.conf", "[c]onf.d/*"):
        assert trust.named_files(f"{folder}/{pattern}", 0) == []
    odd = made(directory(folder / "*") / "b.conf")
    assert trust.named_files(f"{folder}/*/*.conf", 0) == [str(odd)]
    assert trust.named_files(f"{folder}/conf.d/*.conf", 0) == [str(file)]


@pytest.mark.parametrize("number", [999, 1000, 1001, 1500])
def test_at_most_a_thousand_files_are_named(folder: Path, number: int) -> None:
    for each in range(number):
        (folder / f"{each:05}.conf").touch()
    found = trust.named_files(f"{folder}/*.conf", STRANGER)
    assert found == [f"{folder}/{each:05}.conf" for each in range(min(number, 1000))]


@pytest.mark.parametrize(
    ("owner", "mode", "readers"),
    [
        (0, 0o755, {0, STRANGER, NAMELESS, None}),
        (0, 0o700, {0}),
        (0, 0o711, {0}),  # others may pass, and not look round
        (0, 0o744, {0}),  # others may see names, and not reach what has them
        (0, 0o750, {0}),
        (STRANGER, 0o700, {0, STRANGER}),
        (STRANGER, 0o055, {0, NAMELESS, None}),
    ],
)
def test_what_the_user_may_not_list_is_not_listed_for_him(
    folder: Path, owner: int, mode: int, readers: set[int | None]
) -> None:
    inner = directory(folder / "inner")
    file = made(inner / "a.conf")
    os.chown(inner, owner, pwd.getpwuid(STRANGER).pw_gid)
    inner.chmod(mode)
    for uid in (0, STRANGER, NAMELESS, None):
        expected = [str(file)] if uid in readers else []
        assert trust.named_files(f"{inner}/*.conf", uid) == expected
