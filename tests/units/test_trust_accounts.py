"""As whom a manager is asked, and about whose processes."""

from __future__ import annotations

import pwd
from typing import TYPE_CHECKING

import pytest

from resolver.errors import UntrustedError
from resolver.host import trust
from resolver.model import Account, Pid, Process, ProcessIdentity
from tests.units.owned import ENV, NAMELESS, STRANGER, as_user, directory, give, tool

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = [pytest.mark.root, pytest.mark.usefixtures("strangers")]

# --- accounts: as whom a manager is asked ---------------------------------------------------------


def process(pid: int, *uids: int, program: str | Path | None = ENV) -> Process:
    """A process with these user ids: one for all, or the real, the effective and the saved one."""
    whole = uids if len(uids) == 3 else uids * 3
    return Process(
        ProcessIdentity(Pid(pid), 7),
        "manager",
        executable=None if program is None else str(program),
        uid=whole[0] if whole else None,
        uids=(whole[0], whole[1], whole[2]) if whole else None,
    )


def refused(manager: Process, about: Process | None) -> str:
    with pytest.raises(UntrustedError) as error:
        trust.account_for(manager, about)
    return str(error.value)


NOBODY = Account(STRANGER, pwd.getpwnam("nobody").pw_gid, "nobody", pwd.getpwnam("nobody").pw_dir)


@pytest.mark.parametrize(
    "uids", [(0, STRANGER, 0), (0, 0, STRANGER), (STRANGER, 0, 0), (STRANGER, STRANGER, 0)]
)
def test_who_has_the_rights_of_several_users_is_not_asked(uids: tuple[int, ...]) -> None:
    several = process(9, *uids)
    for about in (several, process(42, STRANGER), process(42, 0), None):
        assert refused(several, about) == "manager 9 runs with the rights of several users"


def test_whose_user_is_hidden_is_not_asked() -> None:
    for about in (process(42), process(42, 0), None):
        assert refused(process(9), about) == "it is hidden whose process manager 9 is"


def test_root_asks_roots_manager_as_root() -> None:
    for about in (process(42, 0), process(42, STRANGER), process(42), None):
        assert trust.account_for(process(9, 0), about) is None


def test_roots_manager_with_a_program_that_others_could_change_is_not_asked(folder: Path) -> None:
    about = process(42, 0)
    program = tool(directory(folder / "bin"))
    assert trust.account_for(process(9, 0, program=program), about) is None
    give(program)
    reason = f"manager 9 is not root's alone: {program} belongs to nobody"
    assert refused(process(9, 0, program=program), about) == reason
    assert refused(process(9, 0, program=None), about) == (
        "manager 9 is not root's alone: its program is hidden"
    )


def test_where_the_program_was_deleted_its_folder_counts(folder: Path) -> None:
    about, inner = process(42, 0), directory(folder / "bin")
    gone = process(9, 0, program=f"{inner}/tool (deleted)")
    assert trust.account_for(gone, about) is None
    give(inner)
    assert refused(gone, about) == f"manager 9 is not root's alone: {inner} belongs to nobody"


def test_root_asks_another_users_manager_as_that_user_about_his_processes_alone() -> None:
    manager = process(9, STRANGER)
    assert trust.account_for(manager, process(42, STRANGER)) == NOBODY
    assert trust.account_for(process(9, STRANGER, program=None), manager) == NOBODY
    for about in (
        process(42, 0),
        process(42, NAMELESS),
        process(42),
        process(42, STRANGER, 0, 0),
        process(42, 0, STRANGER, STRANGER),
    ):
        message = "manager 9 belongs to nobody, and manager 42 does not"
        assert refused(manager, about) == message


def test_a_user_id_without_a_name_is_not_asked() -> None:
    nameless = process(9, NAMELESS)
    assert refused(nameless, process(42, NAMELESS)) == "user id 54321 has no name here"
    assert (
        refused(nameless, process(42, 0)) == "manager 9 belongs to #54321, and manager 42 does not"
    )
    with pytest.raises(UntrustedError, match="54321 has no name"):
        trust.account_of_user(NAMELESS, process(42, NAMELESS))
    with pytest.raises(UntrustedError, match="54321 has no name"):
        trust.account(NAMELESS)


def test_a_user_asks_his_own_and_roots_managers_as_himself() -> None:
    with as_user(STRANGER):
        for program in (ENV, "/nonexistent/tool", None):  # he runs nothing with others' rights
            for uid in (STRANGER, 0):
                for about in (process(42, STRANGER), process(42, 0), process(42), None):
                    assert trust.account_for(process(9, uid, program=program), about) is None
        assert refused(process(9, 1), process(42, 1)).startswith("manager 9 belongs to ")
        assert refused(process(9, NAMELESS), process(42, NAMELESS)).endswith("belongs to #54321")
        assert refused(process(9, STRANGER, STRANGER, 0), process(42, STRANGER)).endswith(
            "runs with the rights of several users"
        )
        assert refused(process(9), process(42, STRANGER)).startswith("it is hidden")


def test_a_users_own_engine_or_systemd_is_asked_as_that_user() -> None:
    assert trust.account_of_user(0, process(42, STRANGER)) is None
    assert trust.account_of_user(STRANGER, process(42, STRANGER)) == NOBODY
    with pytest.raises(UntrustedError, match="user nobody runs belongs to nobody, and manager 42"):
        trust.account_of_user(STRANGER, process(42, 0))
    with as_user(STRANGER):
        assert trust.account_of_user(STRANGER, process(42, 0)) is None
        for uid in (0, 1, NAMELESS):
            with pytest.raises(UntrustedError, match="belongs to"):
                trust.account_of_user(uid, process(42, uid))


def test_whose_commands_others_would_type() -> None:
    assert trust.owner_account(None) is None
    assert trust.owner_account(0) is None
    assert trust.owner_account(STRANGER) == NOBODY
    nameless = trust.owner_account(NAMELESS)
    assert nameless is not None
    assert nameless.prefix == ("sudo", "-u", "#54321")
    with as_user(STRANGER):
        assert trust.owner_account(STRANGER) is None
        assert trust.owner_account(0) is None
        assert trust.owner_account(NAMELESS) == nameless
