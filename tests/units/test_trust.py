"""Whose programs, folders and links are relied upon: real ones that belong to real users."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from resolver.errors import CommandFailedError, UntrustedError
from resolver.host import trust
from resolver.host.runner import run_command
from tests.lab.processes import ROOT
from tests.units.owned import (
    ENV,
    NAMELESS,
    STRANGER,
    as_user,
    chain,
    descriptors,
    directory,
    empty_group,
    full_group,
    give,
    link,
    made,
    tool,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("strangers")]

KERNELS_LIMIT = 40  # links on the way to a file: path_resolution(7)


CHANGES: dict[str, Callable[[Path], object]] = {
    "{} belongs to nobody": give,
    "{} belongs to #54321": lambda entry: give(entry, NAMELESS),
    "everybody may write to {}": lambda entry: entry.chmod(0o777),
    "{}: No such file or directory": lambda entry: entry.rename(f"{entry}2"),
}


@pytest.mark.parametrize("reason", CHANGES)
@pytest.mark.parametrize("which", ["file", "folder"])
def test_what_others_could_change_is_weak(folder: Path, which: str, reason: str) -> None:
    inner = directory(folder / "inner")
    file = made(inner / "file")
    assert trust.weakness(str(file)) == ""
    trust.check_file(str(file))
    entry = file if which == "file" else inner
    CHANGES[reason](entry)
    missing = reason.endswith("directory")
    assert trust.weakness(str(file)) == reason.format(file if missing else entry)
    with pytest.raises(UntrustedError, match=str(entry)):
        trust.check_file(str(file))


@pytest.mark.parametrize("which", ["folder", "file"])
def test_a_group_may_write_only_where_nobody_else_is_in_it(folder: Path, which: str) -> None:
    inner = directory(folder / "inner")
    file = made(inner / "file")
    entry = inner if which == "folder" else file
    entry.chmod(0o775)
    for gid in (0, empty_group()):
        os.chown(entry, 0, gid)
        assert trust.weakness(str(file)) == ""
    os.chown(entry, 0, full_group())
    assert trust.weakness(str(file)) == f"group {full_group()} may write to {entry}"
    entry.chmod(0o755)
    assert trust.weakness(str(file)) == ""


@pytest.mark.parametrize("mode", [0o1777, 0o1775])
def test_in_a_sticky_folder_nobody_can_replace_what_is_not_his(folder: Path, mode: int) -> None:
    shared = directory(folder / "shared")
    os.chown(shared, 0, full_group())
    file = made(shared / "file")
    shared.chmod(mode & 0o777)
    assert "may write to" in trust.weakness(str(file))
    shared.chmod(mode)
    assert trust.weakness(str(file)) == ""
    give(file)
    assert trust.weakness(str(file)) == f"{file} belongs to nobody"


def test_a_sticky_folder_of_a_stranger_is_the_strangers(folder: Path) -> None:
    shared = directory(folder / "shared", 0o1777, uid=STRANGER)
    assert trust.weakness(str(made(shared / "file"))) == f"{shared} belongs to nobody"


def test_each_link_on_the_way_counts(folder: Path) -> None:
    file = made(directory(folder / "real") / "file")
    inner = link(folder / "inner", "real")
    name = link(folder / "real" / "name", file)
    assert trust.weakness(str(inner / "name")) == ""
    give(name)
    assert trust.weakness(str(inner / "name")) == f"{name} belongs to nobody"
    give(name, 0)
    give(inner)
    assert trust.weakness(str(inner / "name")) == f"{inner} belongs to nobody"


def test_where_a_link_leads_counts(folder: Path) -> None:
    theirs = directory(folder / "theirs", uid=STRANGER)
    file = made(theirs / "file")
    assert trust.weakness(str(link(folder / "link", file))) == f"{theirs} belongs to nobody"
    dangling = link(folder / "dangling", folder / "nothing")
    assert trust.weakness(str(dangling)) == f"{dangling}: No such file or directory"


def test_the_folder_above_a_link_is_that_of_its_target(folder: Path) -> None:
    made(folder / "file")
    elsewhere = directory(folder / "elsewhere")
    directory(elsewhere / "deep")
    theirs = made(elsewhere / "file", uid=STRANGER)
    link(folder / "link", "elsewhere/deep")
    assert trust.weakness(f"{folder}/elsewhere/../file") == ""
    assert trust.weakness(f"{folder}/link/../file") == f"{theirs} belongs to nobody"
    assert trust.weakness(f"{folder}/link/../../file") == ""
    assert trust.weakness(f"{folder}/./link//..///.././file") == ""


def test_a_strangers_folder_counts_though_the_path_leaves_it(folder: Path) -> None:
    theirs = directory(folder / "theirs", uid=STRANGER)
    made(folder / "file")
    assert trust.weakness(f"{theirs}/../file") == f"{theirs} belongs to nobody"


@pytest.mark.parametrize("links", [1, KERNELS_LIMIT, KERNELS_LIMIT + 1, KERNELS_LIMIT + 9])
def test_as_many_links_are_followed_as_the_kernel_follows(folder: Path, links: int) -> None:
    path = chain(folder, links)
    kernel = ""
    try:
        path.stat()
    except OSError as error:
        assert error.errno == errno.ELOOP
        kernel = f"{path}: Too many levels of symbolic links"
    assert bool(kernel) == (links > KERNELS_LIMIT)
    assert trust.weakness(str(path)) == kernel


@pytest.mark.parametrize("target", ["loop", "other", "loop/file"])
def test_a_loop_of_links_leads_nowhere(folder: Path, target: str) -> None:
    loop = link(folder / "loop", target)
    link(folder / "other", "loop")
    looping = f"{loop}: Too many levels of symbolic links"
    assert trust.weakness(str(loop)) == looping


def test_ones_own_is_trusted_by_oneself_alone(folder: Path) -> None:
    mine = made(directory(folder / "mine", uid=STRANGER) / "file", uid=STRANGER)
    roots = made(folder / "roots")
    others = made(folder / "others", uid=NAMELESS)
    assert trust.weakness(str(mine)) == f"{folder / 'mine'} belongs to nobody"
    with as_user(STRANGER):
        assert trust.trusted_users() == {0, STRANGER}
        assert trust.weakness(str(mine)) == ""
        assert trust.weakness(str(roots)) == ""
        assert trust.weakness(str(others)) == f"{others} belongs to #54321"
    assert trust.trusted_users() == {0}


def test_a_group_of_ones_own_is_trusted_by_oneself_alone(folder: Path) -> None:
    groups = [entry.pw_gid for entry in pwd.getpwall()]
    alone = next(
        entry
        for entry in pwd.getpwall()
        if entry.pw_uid not in {0, STRANGER}
        and groups.count(entry.pw_gid) == 1
        and not set(grp.getgrgid(entry.pw_gid).gr_mem) - {entry.pw_name}
    )
    file = made(folder / "file", mode=0o664)
    os.chown(file, 0, alone.pw_gid)
    assert trust.weakness(str(file)) == f"group {alone.pw_gid} may write to {file}"
    with as_user(alone.pw_uid):
        assert trust.weakness(str(file)) == ""


IN_ANOTHER_ROOT = """
import os, sys
from resolver.host import trust

os.chroot(sys.argv[1])
print(trust.weakness("/file"))
"""


def test_the_root_directory_counts_too(folder: Path) -> None:
    made(folder / "file")
    asking = [sys.executable, "-c", IN_ANOTHER_ROOT, str(folder)]
    assert subprocess.check_output(asking, text=True, cwd=ROOT) == "\n"
    give(folder, NAMELESS)
    assert subprocess.check_output(asking, text=True, cwd=ROOT) == "/ belongs to #54321\n"


def test_no_descriptor_stays_open(folder: Path) -> None:
    made(directory(folder / "inner") / "file")
    link(folder / "loop", "loop")
    made(folder / "theirs", uid=STRANGER)
    before = descriptors()
    for path in ("inner/file", "inner/../inner", "inner/no", "no/no", "loop", "theirs", "."):
        trust.weakness(f"{folder}/{path}")
    assert descriptors() == before


# --- program: which file a command's first word stands for ----------------------------------------


@pytest.fixture
def search_path(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets PATH to the given folders."""
    return lambda *folders: monkeypatch.setenv("PATH", ":".join(map(str, folders)))


def test_a_relative_folder_of_path_has_no_programs(
    folder: Path, search_path: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tool(directory(folder / "bin"))
    monkeypatch.chdir(folder)
    for relative in ("bin", ".", "", "./bin"):
        tool(folder)
        search_path(relative)
        with pytest.raises(CommandFailedError, match="No such file") as refused:
            trust.program("tool")
        assert not isinstance(refused.value, UntrustedError)
        assert not trust.is_installed("tool")
    search_path("bin", "", found.parent)
    assert trust.program("tool") == str(found)
    assert trust.is_installed("tool")


def replaced_by_a_link(found: Path) -> None:
    found.unlink()
    link(found, ENV, STRANGER)


WEAKENED: dict[str, Callable[[Path], object]] = {
    "a stranger's folder": lambda found: give(found.parent),
    "a stranger's file": give,
    "an open folder": lambda found: found.parent.chmod(0o777),
    "an open file": lambda found: found.chmod(0o777),
    "a stranger's link": replaced_by_a_link,
}


@pytest.mark.parametrize("how", WEAKENED)
def test_what_others_could_change_is_passed_over(
    folder: Path, search_path: Callable[..., None], how: str
) -> None:
    first, second = tool(directory(folder / "a")), tool(directory(folder / "b"))
    search_path(first.parent, second.parent)
    assert trust.program("tool") == str(first)
    WEAKENED[how](first)
    assert trust.program("tool") == str(second)
    assert run_command(["tool"], timeout_seconds=5).status == 0
    assert (second.parent / "ran").exists()
    search_path(first.parent)
    with pytest.raises(UntrustedError, match=r"tool is not run: .*/a"):
        trust.program("tool")
    assert not trust.is_installed("tool")
    with pytest.raises(UntrustedError, match="tool is not run"):
        run_command(["tool"], timeout_seconds=5)
    assert not (first.parent / "ran").exists()


def test_what_is_trusted_is_run(folder: Path, search_path: Callable[..., None]) -> None:
    """The other tests' proof that nothing ran would be seen."""
    found = tool(folder)
    search_path(folder)
    assert run_command(["tool"], timeout_seconds=5).status == 0
    assert (found.parent / "ran").read_text(encoding="utf-8") == "ran\n"


def test_roots_link_to_a_trusted_program_is_fine(
    folder: Path, search_path: Callable[..., None]
) -> None:
    search_path(folder)
    name = link(folder / "tool", ENV)
    assert trust.program("tool") == str(name)
    name.unlink()
    link(name, tool(directory(folder / "theirs"), uid=STRANGER))
    with pytest.raises(UntrustedError, match="belongs to nobody"):
        trust.program("tool")


def test_an_absolute_path_is_judged_alike(folder: Path) -> None:
    found = tool(folder)
    assert trust.program(str(found)) == str(found)
    assert trust.program(ENV) == ENV
    give(found)
    with pytest.raises(UntrustedError, match=f"{found} is not run: {found} belongs to nobody"):
        trust.program(str(found))
    with pytest.raises(CommandFailedError, match="No such file") as missing:
        trust.program(str(folder / "nothing"))
    assert not isinstance(missing.value, UntrustedError)


def test_only_what_can_be_executed_is_a_program(
    folder: Path, search_path: Callable[..., None]
) -> None:
    tool(directory(folder / "a"), mode=0o644)
    directory(directory(folder / "b") / "tool")
    search_path(folder / "a", folder / "b", folder / "missing")
    for name in ("tool", "", ".", ".."):
        with pytest.raises(CommandFailedError, match="No such file"):
            trust.program(name)
    found = tool(directory(folder / "c"))
    search_path(folder / "a", folder / "b", found.parent)
    assert trust.program("tool") == str(found)
