"""Commands that are run as another user, and such as print too much or do not end."""

from __future__ import annotations

import json
import os
import pwd
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from resolver.errors import CommandFailedError
from resolver.host import runner
from resolver.host.runner import run_command
from resolver.model import Account
from tests.lab.processes import alive, wait_until
from tests.units.owned import STRANGER, as_user, descriptors, made

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.processes import Lab

ENTRY = pwd.getpwuid(STRANGER)
NOBODY = Account(
    STRANGER, ENTRY.pw_gid, ENTRY.pw_name, "/nonexistent", (("PM2_HOME", "/srv/pm 2"),)
)

# A caller that has much to lose: a terminal, groups, a secret variable, an open file that children
# inherit, and a folder of its own. It runs each of the commands twice, as itself and as nobody.
CALLER = """
import json, os, sys
from resolver.host.runner import run_command
from tests.units.test_runner_account import COMMANDS, NOBODY

main, terminal = os.openpty()
os.close(os.open(os.ttyname(terminal), os.O_RDWR))  # of a session without one: it becomes its own
os.dup2(terminal, 0)
os.dup2(os.open(sys.argv[1], os.O_RDONLY), 77, inheritable=True)
os.setgroups([4, 27])
os.environ["SECRET"] = "hunter2"
os.umask(0o022)
os.chdir(os.path.dirname(sys.argv[1]))
told = [
    {
        name: run_command(argv, timeout_seconds=20, account=account, folder=folder).stdout
        for name, argv in COMMANDS.items()
    }
    for account, folder in ((None, None), (NOBODY, "/"))
]
with open(sys.argv[2], "w") as answer:
    json.dump([os.getsid(0), *told], answer)
"""
COMMANDS = {
    "user": ("id", "-u"),
    "groups": ("id", "-G"),
    "status": ("grep", "-E", "^(Uid|Gid|Groups|CapPrm|CapEff):", "/proc/self/status"),
    "environment": ("env", "--null"),
    "session": ("sh", "-c", "ps -o sid=,tty= -p $$; echo $$"),
    "terminal": ("sh", "-c", "exec 2>/dev/null; : </dev/tty && echo reached"),
    "descriptors": ("ls", "/proc/self/fd"),
    "input": ("readlink", "/proc/self/fd/0"),
    "folder": ("readlink", "/proc/self/cwd"),
    "mask": ("sh", "-c", "umask"),
}


@pytest.fixture
def told(lab: Lab, tmp_path: Path, strangers: None) -> list[Any]:  # noqa: ARG001 - needs root
    """The caller's session, and what each command said, run as the caller and as nobody."""
    secret, answer = made(tmp_path / "secret", mode=0o600), tmp_path / "answer"
    caller = lab.command(sys.executable, "-c", CALLER, str(secret), str(answer))
    caller.wait(timeout=60)
    said = (tmp_path / "command0.out").read_text(encoding="utf-8")
    assert caller.returncode == 0, said
    found: list[Any] = json.loads(answer.read_text(encoding="utf-8"))
    return found


def variables(said: str) -> dict[str, str]:
    pairs = (each.split("=", 1) for each in said.split("\0") if each)
    return {name: text for name, text in pairs}  # noqa: C416 - pairs of unknown length


@pytest.mark.root
def test_nothing_of_the_callers_gets_to_another_user(told: list[Any]) -> None:
    _, _, theirs = told
    assert theirs["user"].split() == [str(STRANGER)]
    assert theirs["groups"].split() == [str(ENTRY.pw_gid)]
    rows = [line.split() for line in theirs["status"].splitlines()]
    status = {name: tuple(numbers) for name, *numbers in rows}
    assert status["Uid:"] == (str(STRANGER),) * 4
    assert status["Gid:"] == (str(ENTRY.pw_gid),) * 4
    assert status["Groups:"] == ()
    assert {int(status[name][0], 16) for name in ("CapPrm:", "CapEff:")} == {0}
    assert variables(theirs["environment"]) == {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "USER": "nobody",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "SYSTEMD_PAGER": "",
        "SYSTEMD_COLORS": "0",
        "PAGER": "cat",
        "PM2_HOME": "/srv/pm 2",
    }
    session, terminal, pid = theirs["session"].split()
    assert (session, terminal) == (pid, "?")
    assert theirs["terminal"] == ""
    assert theirs["descriptors"].split() == ["0", "1", "2", "3"], "3 is the folder that ls reads"
    assert theirs["input"].strip() == "/dev/null"
    assert theirs["folder"].strip() == "/"
    assert int(theirs["mask"], 8) == 0o077


@pytest.mark.root
def test_the_callers_own_commands_are_the_callers(told: list[Any], tmp_path: Path) -> None:
    """The caller of the test above has what it must not pass on."""
    session, ours, _ = told
    assert ours["user"].split() == ["0"]
    assert set(ours["groups"].split()) == {"0", "4", "27"}
    environment = variables(ours["environment"])
    assert environment["SECRET"] == "hunter2"  # noqa: S105 - made up
    assert {"LC_ALL": "C.UTF-8", "PAGER": "cat"}.items() <= environment.items()
    found, terminal, pid = ours["session"].split()
    assert (int(found), terminal.startswith("pts/")) == (session, True)
    assert found != pid
    assert ours["terminal"] == "reached\n"
    assert ours["descriptors"].split() == ["0", "1", "2", "3"]
    assert ours["input"].strip() == "/dev/null"
    assert ours["folder"].strip() == str(tmp_path)
    assert int(ours["mask"], 8) == 0o022


@pytest.mark.root
@pytest.mark.usefixtures("strangers")
def test_what_the_user_may_not_run_is_not_run(tmp_path: Path) -> None:
    program = made(tmp_path / "tool", "#!/bin/sh\nid -u\n", 0o755)
    assert run_command([str(program)], timeout_seconds=10).stdout == "0\n"
    with pytest.raises(CommandFailedError, match="Permission denied"):
        run_command([str(program)], timeout_seconds=10, account=NOBODY)


@pytest.mark.root
@pytest.mark.usefixtures("strangers")
def test_only_root_becomes_somebody_else() -> None:
    with (
        as_user(STRANGER),
        pytest.raises(CommandFailedError, match="true: Operation not permitted"),
    ):
        run_command(["true"], timeout_seconds=10, account=Account(1, 1, "daemon", "/"))


# --- commands that print too much -----------------------------------------------------------------

# `$0` is where it leaves the numbers of its processes, one of which keeps the pipes open
FAMILY = 'sleep 600 & echo $$ $! >"$0"; '
ACCOUNTS = pytest.mark.parametrize("account", [None, NOBODY], ids=["caller", "nobody"])


@pytest.fixture
def pids(folder: Path) -> Path:
    """A file that anybody may write, for the numbers of a command's processes."""
    return made(folder / "pids", "", 0o666)


def ended(pids: Path) -> bool:
    """Whether all the processes of a command have ended; it did start some."""
    numbers = [int(each) for each in pids.read_text(encoding="utf-8").split()]
    assert len(numbers) >= 2
    return not any(map(alive, numbers))


@ACCOUNTS
@pytest.mark.parametrize("stream", ["", ">&2", "2>&1 | tee /dev/stderr"])
@pytest.mark.root
def test_what_prints_without_end_is_ended(pids: Path, stream: str, account: Account | None) -> None:
    flood = ["sh", "-c", f"{FAMILY} yes {stream}", str(pids)]
    begun = time.monotonic()
    with pytest.raises(CommandFailedError, match="sh printed more than 67108864 bytes"):
        run_command(flood, timeout_seconds=60, account=account)
    assert time.monotonic() - begun < 50
    wait_until(lambda: ended(pids), "the command and its child have ended")


@pytest.mark.parametrize(("out", "err"), [(1000, 0), (0, 1000), (400, 600), (1001, 0), (500, 501)])
def test_the_bound_is_of_both_streams_together(
    monkeypatch: pytest.MonkeyPatch, out: int, err: int
) -> None:
    monkeypatch.setattr(runner, "LONGEST_OUTPUT", 1000)
    script = 'head -c "$0" /dev/zero; head -c "$1" /dev/zero >&2'
    words = ["sh", "-c", script, str(out), str(err)]
    if out + err <= 1000:
        done = run_command(words, timeout_seconds=20)
        assert (done.status, len(done.stdout), len(done.stderr)) == (0, out, err)
    else:
        with pytest.raises(CommandFailedError, match="sh printed more than 1000 bytes"):
            run_command(words, timeout_seconds=20)


def test_both_streams_are_read_at_once() -> None:
    million = 1 << 20
    script = f"head -c {million} /dev/zero >&2; head -c {million} /dev/zero; exit 4"
    done = run_command(["sh", "-c", script], timeout_seconds=30)
    assert (done.status, len(done.stdout), len(done.stderr)) == (4, million, million)


def test_what_is_no_text_is_read_all_the_same() -> None:
    done = run_command(["printf", "a\\377b"], timeout_seconds=10)
    assert done.stdout == "a\N{REPLACEMENT CHARACTER}b"


# --- commands that do not end ---------------------------------------------------------------------


@ACCOUNTS
@pytest.mark.parametrize(
    "script",
    [
        "exit 0",  # its child keeps the pipes open
        "kill $!; exec >&- 2>&-; exec sleep 600",  # nobody has them open any more
        "trap '' TERM INT HUP; wait",
        "while :; do echo x; sleep 0.1; done",
        "kill -STOP $$",
    ],
)
@pytest.mark.root
def test_the_deadline_holds_and_nobody_is_left(
    pids: Path, script: str, account: Account | None
) -> None:
    begun = time.monotonic()
    with pytest.raises(CommandFailedError, match="sh did not answer in 1 s"):
        run_command(["sh", "-c", FAMILY + script, str(pids)], timeout_seconds=1, account=account)
    assert 0.9 < time.monotonic() - begun < 10
    wait_until(lambda: ended(pids), "the command and its child have ended")


@ACCOUNTS
@pytest.mark.root
def test_the_deadline_holds_though_a_child_has_left_for_another_session(
    pids: Path, account: Account | None
) -> None:
    """That one cannot be found by its group; it may live, and nobody waits for it."""
    script = 'setsid sh -c \'echo $$ >"$0"; exec sleep 600\' "$0" & wait'
    begun = time.monotonic()
    with pytest.raises(CommandFailedError, match="sh did not answer in 1 s"):
        run_command(["sh", "-c", script, str(pids)], timeout_seconds=1, account=account)
    assert 0.9 < time.monotonic() - begun < 10
    os.kill(int(pids.read_text(encoding="utf-8")), signal.SIGKILL)


def test_what_ends_in_time_may_leave_somebody(pids: Path) -> None:
    """`pm2` starts its daemon so: one that has closed the pipes is not waited for."""
    script = 'sleep 600 >/dev/null 2>&1 & echo $! >"$0"'
    assert run_command(["sh", "-c", script, str(pids)], timeout_seconds=20).status == 0
    daemon = int(pids.read_text(encoding="utf-8"))
    assert alive(daemon)
    os.kill(daemon, signal.SIGKILL)


def test_no_descriptor_stays_open(pids: Path) -> None:
    before = descriptors()
    run_command(["true"], timeout_seconds=10)
    for words in (["sh", "-c", FAMILY + "wait", str(pids)], ["/nonexistent"]):
        with pytest.raises(CommandFailedError):
            run_command(words, timeout_seconds=0.3)
    assert descriptors() == before
