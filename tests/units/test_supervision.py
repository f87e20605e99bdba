"""How the answers of runit, s6, daemontools, monit and circus are read, and whose process it is.

What the real programs do is tested in the scenarios; the answers here were recorded from Debian's
runit 2.1.2, s6 2.11.3, daemontools 0.76 and monit 5.33, and from circus 0.19.
"""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING, Any

import pytest

from resolver.ancestry import own_line, service_directory, supervised
from resolver.classify import circus, monit, supervise
from resolver.errors import CommandFailedError
from resolver.managed import Daemon
from resolver.model import (
    Binding,
    Completed,
    Confidence,
    Holder,
    Kind,
    Pid,
    PortNumber,
    Process,
    ProcessIdentity,
    Respawn,
    Snapshot,
    SocketState,
    Transport,
)
from resolver.programs import options
from resolver.shell import shell_line
from tests.lab.answers import Answers, always

if TYPE_CHECKING:
    from pathlib import Path


BINDING = Binding(Transport.TCP, "0.0.0.0", PortNumber(8085))
INIT = Process(ProcessIdentity(Pid(1), 0), "init")
# A program that is root's alone, as are the directories above it
PROGRAM = os.path.realpath("/usr/bin/env")


def process(pid: int, name: str, parent: Process = INIT, **facts: object) -> Process:
    return Process(
        ProcessIdentity(Pid(pid), 7),
        name,
        ancestors=(parent.identity, *parent.ancestors),
        **facts,  # type: ignore[arg-type]
    )


def supervisor_of(pid: int, name: str, parent: Process = INIT, **facts: object) -> Process:
    """A supervisor that may be asked: it is the caller's own, and its program is root's."""
    owned = {"executable": PROGRAM, **owned_by(os.geteuid())}
    return process(pid, name, parent, **{**owned, **facts})


def owned_by(uid: int) -> dict[str, Any]:
    """The facts that say whose a process is."""
    return {"uid": uid, "uids": (uid, uid, uid)}


def holder(*family: Process) -> Holder:
    return Holder(BINDING, SocketState.LISTENING, processes=family, masters=(family[0].identity,))


RUNIT, S6, DAEMONTOOLS = supervise.FAMILIES


def says(stdout: str, status: int = 0, stderr: str = "") -> Answers:
    return always(Completed(status, stdout, stderr))


@pytest.mark.parametrize(
    ("said", "want_up", "words"),
    [
        ("run: /sv/web: (pid 42) 1s\n", True, ""),
        ("run: /sv/web: (pid 42) 1s, normally down\n", True, "normally down"),
        ("run: /sv/web: (pid 42) 1s, want down; run: log: (pid 41) 9s\n", False, "want down"),
        ("run: /sv/web: (pid 42) 1s; run: log: (pid 41) 9s, want down\n", True, ""),
        (
            "run: /sv/web: (pid 42) 1s, normally down, want down, got TERM\n",
            False,
            "normally down, want down, got TERM",
        ),
    ],
)
def test_runits_answers(said: str, want_up: bool, words: str) -> None:  # noqa: FBT001
    first = RUNIT.states(said, "/sv/web")[0]
    assert first == supervise.ServiceState("/sv/web", 42, want_up, words)


def test_runits_log_has_a_directory_of_its_own() -> None:
    said = "down: /sv/web: 0s, normally up; run: log: (pid 41) 9s\n"
    (log,) = RUNIT.states(said, "/sv/web")
    assert (log.folder, log.pid) == ("/sv/web/log", 41)


@pytest.mark.parametrize(
    "said", ["", "down: /sv/web: 5s, normally up\n", "fail: web: unable to change to service dir\n"]
)
def test_what_does_not_run_has_no_state(said: str) -> None:
    assert RUNIT.states(said, "/sv/web") == ()
    assert S6.states(said, "/sv/web") == ()
    assert DAEMONTOOLS.states(said, "/sv/web") == ()


@pytest.mark.parametrize(
    ("said", "want_up"),
    [
        ("up (pid 42) 1 seconds\n", True),
        ("up (pid 42 pgid 42) 1 seconds, ready 1 seconds\n", True),
        ("up (pid 42) 1 second, normally down\n", True),
        ("up (pid 42) 1 seconds, want down\n", False),
    ],
)
def test_s6s_answers(said: str, want_up: bool) -> None:  # noqa: FBT001
    (state,) = S6.states(said, "/sv/web")
    assert (state.folder, state.pid, state.want_up) == ("/sv/web", 42, want_up)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("/sv/web: up (pid 42) 1 seconds\n", "up (pid 42) 1 seconds"),
        ("/sv/web: up (pid 42) 9 seconds, normally down\n", "up (pid 42) 9 seconds, normally down"),
    ],
)
def test_daemontools_answers_without_the_wanted_state(said: str, words: str) -> None:
    (state,) = DAEMONTOOLS.states(said, "/sv/web")
    assert state == supervise.ServiceState("/sv/web", 42, None, words)


@pytest.mark.parametrize(
    ("byte", "respawn"),
    [(b"u", Respawn.YES), (b"d", Respawn.NO), (b"\0", Respawn.NO), (b"", Respawn.UNKNOWN)],
)
def test_daemontools_wanted_state(tmp_path: Path, byte: bytes, respawn: Respawn) -> None:
    (tmp_path / "supervise").mkdir()
    (tmp_path / "supervise" / "status").write_bytes(bytes(17) + byte)
    supervisor = supervisor_of(30, "supervise", cwd=str(tmp_path))
    found = holder(process(42, "web", supervisor))
    said = says(f"{tmp_path}: up (pid 42) 9 seconds\n")
    judged = supervise.classify(found, Snapshot(processes=(supervisor, *found.processes)), said)
    assert judged is not None
    assert (said.asked, said.accounts) == ([("svstat", str(tmp_path))], [None])
    assert judged.respawn is respawn
    assert judged.confidence is (
        Confidence.SUSPECTED if respawn is Respawn.UNKNOWN else Confidence.CONFIRMED
    )


FAMILIES = ["runsv", "s6-supervise", "supervise"]
# What each of them says of process 42, which it started
RUNS = {
    "runsv": "run: {}: (pid 42) 1s\n",
    "s6-supervise": "up (pid 42) 1 seconds\n",
    "supervise": "{}: up (pid 42) 1 seconds\n",
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    "said",
    [
        CommandFailedError("sv: No such file or directory"),
        Completed(1, "", "s6-svstat: fatal: unable to check /sv/web: Permission denied"),
        Completed(0, "/sv/web: unable to open supervise/ok: access denied\n", ""),
        Completed(0, "run: /sv/web: (pid 77) 1s\n", ""),
        Completed(0, "up (pid 77) 1 seconds\n", ""),
    ],
)
def test_what_cannot_be_confirmed_is_suspected(
    tmp_path: Path, name: str, said: Completed | CommandFailedError
) -> None:
    supervisor = supervisor_of(30, name, cwd=str(tmp_path))
    found = holder(process(42, "web", supervisor))
    snapshot = Snapshot(processes=(supervisor, *found.processes))
    runner = always(said)
    judged = supervise.classify(found, snapshot, runner)
    assert judged is not None
    assert len(runner.asked) == 1
    assert (judged.confidence, judged.respawn) == (Confidence.SUSPECTED, Respawn.UNKNOWN)
    assert judged.manager is not None
    assert judged.manager.prefix == (("sudo",) if os.geteuid() == 0 else ())
    assert judged.manager.account is None
    assert str(tmp_path) in judged.manager.stop[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_hidden_directory_gives_no_command(name: str) -> None:
    supervisor = supervisor_of(30, name)
    found = holder(process(42, "web", supervisor))
    snapshot = Snapshot(processes=(supervisor, *found.processes))
    asked = says("")
    judged = supervise.classify(found, snapshot, asked)
    assert judged is not None
    assert judged.respawn is Respawn.UNKNOWN
    assert judged.manager is None
    assert not asked.asked


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("whose", ["hidden", "several users'", "a hidden program"])
def test_a_supervisor_that_may_be_anybodys_is_not_asked(
    tmp_path: Path, name: str, whose: str
) -> None:
    facts: dict[str, dict[str, Any]] = {
        "hidden": {"uids": None},
        "several users'": {"uids": (0, 65534, 0)},
        "a hidden program": {"uids": (0, 0, 0), "executable": None},
    }
    if whose == "a hidden program" and os.geteuid() != 0:
        pytest.skip("only root asks with rights that others lack")
    supervisor = supervisor_of(30, name, cwd=str(tmp_path), **facts[whose])
    found = holder(process(42, "web", supervisor))
    snapshot = Snapshot(processes=(supervisor, *found.processes))
    asked = says(RUNS[name].format(tmp_path))
    judged = supervise.classify(found, snapshot, asked)
    assert judged is not None
    assert asked.asked == []
    assert (judged.confidence, judged.respawn) == (Confidence.SUSPECTED, Respawn.UNKNOWN)


def another_user() -> pwd.struct_passwd:
    return next(entry for entry in pwd.getpwall() if entry.pw_uid not in {0, os.geteuid()})


@pytest.mark.root
@pytest.mark.parametrize("name", FAMILIES)
def test_root_asks_another_users_supervisor_as_that_user(tmp_path: Path, name: str) -> None:
    user = another_user()
    theirs = owned_by(user.pw_uid)
    supervisor = supervisor_of(30, name, cwd=str(tmp_path), **theirs)
    found = holder(process(42, "web", supervisor, **theirs))
    snapshot = Snapshot(processes=(supervisor, *found.processes))
    asked = says(RUNS[name].format(tmp_path))
    judged = supervise.classify(found, snapshot, asked)
    assert judged is not None
    assert judged.manager is not None
    (account,) = asked.accounts
    assert account is not None
    assert account == judged.manager.account
    assert (account.uid, account.gid, account.name) == (user.pw_uid, user.pw_gid, user.pw_name)


@pytest.mark.root
@pytest.mark.parametrize("name", FAMILIES)
def test_another_users_supervisor_is_not_asked_about_roots_process(
    tmp_path: Path, name: str
) -> None:
    user = another_user()
    theirs = owned_by(user.pw_uid)
    supervisor = supervisor_of(30, name, cwd=str(tmp_path), **theirs)
    found = holder(process(42, "web", supervisor, **owned_by(0)))
    snapshot = Snapshot(processes=(supervisor, *found.processes))
    asked = says(RUNS[name].format(tmp_path))
    judged = supervise.classify(found, snapshot, asked)
    assert judged is not None
    assert asked.asked == []
    assert judged.confidence is Confidence.SUSPECTED


@pytest.mark.root
@pytest.mark.parametrize("name", FAMILIES)
def test_a_service_directory_of_a_stranger_is_not_given_to_roots_tools(
    tmp_path: Path, name: str
) -> None:
    os.chown(tmp_path, another_user().pw_uid, -1)
    supervisor = supervisor_of(30, name, cwd=str(tmp_path))
    found = holder(process(42, "web", supervisor))
    snapshot = Snapshot(processes=(supervisor, *found.processes))
    asked = says(RUNS[name].format(tmp_path))
    judged = supervise.classify(found, snapshot, asked)
    assert judged is not None
    assert asked.asked == []
    assert judged.confidence is Confidence.SUSPECTED


@pytest.mark.parametrize(
    ("command", "parents", "expected"),
    [
        (("runsv", "web"), ("runsvdir", "-P", "/etc/service", "log: ..."), "/etc/service/web"),
        (("runsv", "/srv/web"), ("runsvdir", "-P", "/etc/service"), "/srv/web"),
        (("runsv", "web"), ("sh", "start.sh"), None),
        (("runsv",), ("runsvdir", "/etc/service"), None),
    ],
)
def test_the_service_directory_without_a_working_directory(
    command: tuple[str, ...], parents: tuple[str, ...], expected: str | None
) -> None:
    scanner = process(20, "runsvdir", command=parents)
    supervisor = process(30, "runsv", scanner, command=command)
    found = holder(process(42, "web", supervisor))
    snapshot = Snapshot(processes=(scanner, supervisor, *found.processes))
    below = supervised(found, snapshot, frozenset({"runsv"}))
    assert below is not None
    assert service_directory(below, snapshot) == expected


def test_only_the_nearest_supervisor_is_asked() -> None:
    outer = process(20, "runsv", cwd="/sv/all")
    inner = process(30, "python3", outer, command=("python3", "/usr/bin/supervisord", "-n"))
    found = holder(process(42, "web", inner))
    snapshot = Snapshot(processes=(outer, inner, *found.processes))
    silent = says("")
    assert supervise.classify(found, snapshot, silent) is None
    assert not silent.asked


def test_what_others_host_is_not_the_services() -> None:
    supervisor = process(20, "runsv", cwd="/sv/ssh")
    sshd = process(30, "sshd", supervisor)
    shell = process(31, "bash", sshd)
    found = holder(process(42, "web", shell))
    snapshot = Snapshot(processes=(supervisor, sshd, shell, *found.processes))
    assert [each.pid for each in own_line(found, snapshot)] == [42, 31]
    assert supervise.classify(found, snapshot, says("run: /sv/ssh: (pid 30) 1s\n")) is None


def test_the_callers_own_service_is_never_stopped() -> None:
    supervisor = process(20, "runsv", cwd="/sv/agent")
    agent = process(30, "agent", supervisor)
    own = process(50, "ultra-ports", agent)
    found = holder(process(42, "web", agent))
    processes = (supervisor, agent, own, *found.processes)
    snapshot = Snapshot(processes=processes, own=(own.identity, *own.ancestors))
    assert supervise.classify(found, snapshot, says("run: /sv/agent: (pid 30) 1s\n")) is None


SOME = Snapshot()
STATUS = """Monit 5.33.0 uptime: 0m

Process 'my web'
  status                       OK
  monitoring status            Monitored
  monitoring mode              active
  on reboot                    start
  pid                          42

File 'f'
  status                       OK
  uid                          0
  pid                          43
"""
SETTINGS = """Runtime constants:
 Control file       = /etc/monit/monitrc
 Pid file           = /run/monit.pid

The service list contains the following entries:

Process Name          = my web
 Pid file             = /run/my web.pid
 Monitoring mode      = active
 Start program        = '/bin/true' as uid 65534 timeout 30 s
 Existence            = if does not exist then restart

File Name             = f
 Path                 = /etc/passwd
-------------------------------------------------------------------------------
Control file syntax OK
"""


def test_monits_answers() -> None:
    assert monit.blocks(STATUS) == {
        "my web": {
            "status": "OK",
            "monitoring status": "Monitored",
            "monitoring mode": "active",
            "on reboot": "start",
            "pid": "42",
        }
    }
    assert monit.blocks(SETTINGS) == {
        "my web": {
            "Pid file": "/run/my web.pid",
            "Monitoring mode": "active",
            "Start program": "'/bin/true' as uid 65534 timeout 30 s",
            "Existence": "if does not exist then restart",
        }
    }


@pytest.mark.parametrize(
    ("said", "action"),
    [
        (None, "restart"),
        ("if does not exist then restart", "restart"),
        ("if does not exist for 3 cycles then restart else if succeeded then alert", "restart"),
        ("if does not exist then alert", "alert"),
    ],
)
def test_monits_action(said: str | None, action: str) -> None:
    settings = {} if said is None else {"Existence": said}
    assert monit._Check("web", {}, settings, "").action == action  # noqa: SLF001


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["monit", "-I", "-c", "m.rc"], "m.rc"),
        (["/usr/bin/monit", "-c/etc/m.rc"], "/etc/m.rc"),
        (["monit", "-I"], None),
        (["monit"], None),
        ([], None),
    ],
)
def test_monits_control_file(words: list[str], path: str | None) -> None:
    assert next(options(words, "-c"), None) == path


MARKED = (("MONIT_SERVICE", "web"),)


def monit_of(uid: int) -> Daemon:
    return Daemon.of("monit", supervisor_of(9, "monit", **owned_by(uid)), "monit")


def monits(monkeypatch: pytest.MonkeyPatch, *daemons: Daemon) -> None:
    monkeypatch.setattr(monit, "_daemons", lambda: list(daemons))


def test_the_mark_alone_is_a_suspicion_only_where_monit_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marked = holder(process(42, "web", environment=MARKED))
    monits(monkeypatch, monit_of(os.geteuid()))
    silent = always(CommandFailedError("monit: not found"))
    judged = monit.classify(marked, Snapshot(), silent)
    assert judged is not None
    assert (judged.confidence, judged.respawn) == (Confidence.SUSPECTED, Respawn.UNKNOWN)
    assert (silent.asked, silent.accounts) == ([("monit", "-B", "status")], [None])
    monits(monkeypatch)
    assert monit.classify(marked, Snapshot(), says("")) is None


@pytest.mark.root
def test_a_monit_of_another_user_is_asked_as_that_user_about_that_users_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user = another_user()
    theirs = owned_by(user.pw_uid)
    monits(monkeypatch, monit_of(user.pw_uid))
    asked = always(CommandFailedError("monit: not found"))
    judged = monit.classify(holder(process(42, "web", environment=MARKED, **theirs)), SOME, asked)
    assert judged is not None
    assert [account and account.uid for account in asked.accounts] == [user.pw_uid]
    asked = always(CommandFailedError("monit: not found"))
    roots = process(42, "web", environment=MARKED, **owned_by(0))
    judged = monit.classify(holder(roots), SOME, asked)
    assert judged is not None
    assert (judged.confidence, asked.asked) == (Confidence.SUSPECTED, [])


@pytest.mark.root
def test_a_control_file_of_a_stranger_is_not_given_to_roots_monit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "monitrc"
    file.touch()
    found = supervisor_of(9, "monit")
    monits(monkeypatch, Daemon.of("monit", found, "monit", "-c", str(file), file=str(file)))
    marked = holder(process(42, "web", environment=MARKED))
    asked = always(CommandFailedError("monit: not found"))
    assert monit.classify(marked, SOME, asked) is not None
    assert asked.asked == [("monit", "-c", str(file), "-B", "status")]
    os.chown(file, another_user().pw_uid, -1)
    asked = always(CommandFailedError("monit: not found"))
    judged = monit.classify(marked, SOME, asked)
    assert judged is not None
    assert (judged.confidence, asked.asked) == (Confidence.SUSPECTED, [])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("python3", "/usr/bin/circusd", "c.ini"), "ipc:///run/c.sock"),
        (("python3", "-m", "circus.circusd", "--log-level", "debug", "c.ini"), "ipc:///run/c.sock"),
        (("python3", "/usr/bin/circusd", "--pidfile", "c.ini"), "tcp://127.0.0.1:5555"),
        (("python3", "/usr/bin/circusd", "other.ini"), "tcp://127.0.0.1:5555"),
        (("python3", "/usr/bin/circusd", "bad.ini"), "tcp://127.0.0.1:5555"),
    ],
)
def test_circus_endpoint(tmp_path: Path, words: tuple[str, ...], expected: str) -> None:
    (tmp_path / "c.ini").write_text("[circus]\nendpoint = ipc:///run/c.sock\n", encoding="utf-8")
    (tmp_path / "bad.ini").write_text("endpoint\n", encoding="utf-8")
    daemon = supervisor_of(30, "circusd", command=words, cwd=str(tmp_path))
    assert circus.endpoint(daemon) == expected


def test_circus_stats() -> None:
    infos: dict[str, object] = {"web": {"42": {"pid": 42}}, "idle": {}, "odd": None}
    assert circus.watcher_of(42, infos) == "web"
    assert circus.watcher_of(43, infos) is None


@pytest.mark.parametrize("said", ["", "[]", '{"status": "error", "reason": "no"}', "Timed out."])
def test_a_circusd_that_makes_no_sense_is_suspected(said: str) -> None:
    daemon = supervisor_of(30, "circusd", command=("python3", "/usr/bin/circusd"))
    found = holder(process(42, "web", daemon))
    asked = says(said)
    judged = circus.classify(found, Snapshot(processes=(daemon, *found.processes)), asked)
    assert judged is not None
    assert (judged.kind, judged.confidence) == (Kind.SERVICE, Confidence.SUSPECTED)
    assert judged.respawn is Respawn.UNKNOWN
    assert judged.manager is None
    assert len(asked.asked) == 1
    assert asked.accounts == [None]
    (command,) = judged.commands
    assert shell_line(command) == (
        "circusctl --endpoint tcp://127.0.0.1:5555 status   # names them"
    )


@pytest.mark.root
def test_another_users_circusd_is_asked_as_that_user_about_that_users_processes() -> None:
    user = another_user()
    theirs = owned_by(user.pw_uid)
    daemon = supervisor_of(30, "circusd", command=("python3", "/usr/bin/circusd"), **theirs)
    for facts, accounts in ((theirs, [user.pw_uid]), (owned_by(0), [])):
        found = holder(process(42, "web", daemon, **facts))
        asked = says("")
        judged = circus.classify(found, Snapshot(processes=(daemon, *found.processes)), asked)
        assert judged is not None
        assert [account and account.uid for account in asked.accounts] == accounts
        (command,) = judged.commands
        assert command.argv[:3] == ("sudo", "-u", user.pw_name)


@pytest.mark.root
def test_a_circus_file_of_a_stranger_sends_root_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "c.ini"
    file.write_text("[circus]\nendpoint = ipc:///run/c.sock\n", encoding="utf-8")
    daemon = supervisor_of(30, "circusd", command=("python3", "circusd", str(file)))
    found = holder(process(42, "web", daemon))
    snapshot = Snapshot(processes=(daemon, *found.processes))
    asked = says("")
    assert circus.classify(found, snapshot, asked) is not None
    assert len(asked.asked) == 1
    os.chown(file, another_user().pw_uid, -1)
    asked = says("")
    judged = circus.classify(found, snapshot, asked)
    assert judged is not None
    assert (judged.confidence, asked.asked) == (Confidence.SUSPECTED, [])
