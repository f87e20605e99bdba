"""How the managers' answers and files are read; what they do is tested against the real ones."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from resolver.classify import supervisord, systemd
from resolver.errors import CommandFailedError
from resolver.managed import ask, asked_once
from resolver.model import (
    Binding,
    Classification,
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
from resolver.unit_facts import service_in
from tests.lab.answers import Answers, always

if TYPE_CHECKING:
    from pathlib import Path


BINDING = Binding(Transport.TCP, "0.0.0.0", PortNumber(8085))
INIT = Process(ProcessIdentity(Pid(1), 0), "systemd", cgroups=("/init.scope",))
NAMELESS = 54321  # a user id that nobody has
# A program that is root's alone, as are the directories above it
PROGRAM = os.path.realpath("/usr/bin/env")


def process(pid: int, parent: Process = INIT, **facts: object) -> Process:
    values: dict[str, object] = {"name": "python3", "cgroups": ("/system.slice/web.service",)}
    return Process(
        ProcessIdentity(Pid(pid), 7),
        ancestors=(parent.identity, *parent.ancestors),
        **{**values, **facts},  # type: ignore[arg-type]
    )


def holder(*family: Process) -> Holder:
    return Holder(BINDING, SocketState.LISTENING, processes=family, masters=(family[0].identity,))


def answer(stdout: str, status: int = 0, stderr: str = "") -> Completed:
    return Completed(status, stdout, stderr)


def judge(found: Holder, said: Completed | CommandFailedError, *others: Process) -> Classification:
    systemctl = always(said)
    snapshot = Snapshot(processes=(INIT, *found.processes, *others))
    classification = systemd.classify(found, snapshot, systemctl)
    assert classification is not None
    assert set(systemctl.accounts) == {None}, "the system's own manager is asked as the caller"
    return classification


@pytest.mark.parametrize(
    ("restart", "respawn"),
    [("always", Respawn.YES), ("on-failure", Respawn.YES), ("no", Respawn.NO)],
)
def test_the_restart_policy_decides(restart: str, respawn: Respawn) -> None:
    said = answer(f"Restart={restart}\nNRestarts=2\nMainPID=42\nId=web.service\nTriggeredBy=\n")
    found = judge(holder(process(42)), said)
    assert (found.kind, found.respawn, found.confidence) == (
        Kind.SERVICE,
        respawn,
        Confidence.CONFIRMED,
    )
    assert found.manager is not None
    assert found.manager.stop == (("systemctl", "stop", "web.service"),)
    assert "it was restarted 2 times" in found.evidence


LEFT = "Restart=always\nSubState=auto-restart\nMainPID=0\nControlGroup={}\n"


@pytest.mark.parametrize(
    ("unit", "path", "control", "is_left_over"),
    [
        ("web", "/system.slice/web.service", "/system.slice/web.service", True),
        ("web", "/system.slice/web.service/workers", "/system.slice/web.service", True),
        # named like a unit by who was given a part of the tree
        ("web", "/system.slice/jobs.service/web.service", "/system.slice/web.service", False),
        (
            "web",
            "/system.slice/jobs.service/system.slice/web.service",
            "/system.slice/web.service",
            False,
        ),
        ("web", "/system.slice/jobs.service/web.service", "", False),
        # a way in, and what hosts other people's work
        ("ssh", "/system.slice/ssh.service", "/system.slice/ssh.service", False),
        ("docker", "/system.slice/docker.service", "/system.slice/docker.service", False),
        ("cron", "/system.slice/cron.service", "/system.slice/cron.service", False),
    ],
)
def test_what_is_left_over_of_a_unit(
    unit: str, path: str, control: str, *, is_left_over: bool
) -> None:
    found = holder(process(42, cgroups=(path,)))
    systemctl = always(answer(LEFT.format(control)))
    judged = systemd.classify(found, Snapshot(processes=(INIT, *found.processes)), systemctl)
    assert (judged is not None) is is_left_over
    assert f"{unit}.service" in systemctl.asked[0]


@pytest.mark.parametrize("unit", ["ssh", "docker", "NetworkManager"])
def test_a_way_in_is_not_stopped_where_systemd_cannot_be_asked(unit: str) -> None:
    found = holder(process(42, cgroups=(f"/system.slice/{unit}.service",)))
    judged = judge(found, CommandFailedError("no bus"))
    assert judged.kind is Kind.PROTECTED
    assert judged.manager is None


def test_a_socket_brings_back_even_what_has_no_restart_policy() -> None:
    said = answer("Restart=no\nMainPID=42\nTriggeredBy=web.socket\n")
    found = judge(holder(process(42)), said)
    assert found.respawn is Respawn.YES
    assert found.manager is not None
    assert found.manager.stop == (("systemctl", "stop", "web.socket", "web.service"),)


def user_unit(uid: int, uids: tuple[int, int, int] | None) -> Holder:
    path = f"/user.slice/user-{uid}.slice/user@{uid}.service/app.slice/web.service"
    return holder(process(42, cgroups=(path,), uid=uid, uids=uids))


RUNS = answer("Restart=always\nMainPID=42\n")


def test_ones_own_user_unit_is_asked_of_ones_own_manager() -> None:
    uid = os.geteuid()
    systemctl = always(RUNS)
    found = systemd.classify(user_unit(uid, (uid, uid, uid)), Snapshot(), systemctl)
    assert found is not None
    assert found.confidence is Confidence.CONFIRMED
    assert found.manager is not None
    assert found.manager.stop == (("systemctl", "--user", "stop", "web.service"),)
    assert (found.manager.prefix, found.manager.account) == ((), None)
    assert systemctl.accounts == [None]


def user_of_daemon() -> pwd.struct_passwd:
    return next(entry for entry in pwd.getpwall() if entry.pw_uid not in {0, os.geteuid()})


@pytest.mark.root
def test_root_asks_another_users_manager_as_that_user() -> None:
    user = user_of_daemon()
    systemctl = always(RUNS)
    unit = user_unit(user.pw_uid, (user.pw_uid,) * 3)
    found = systemd.classify(unit, Snapshot(), systemctl)
    assert found is not None
    assert (found.confidence, found.respawn) == (Confidence.CONFIRMED, Respawn.YES)
    assert found.manager is not None
    assert found.manager.stop == (("systemctl", "--user", "stop", "web.service"),)
    (account,) = systemctl.accounts
    assert account is not None
    assert account == found.manager.account
    assert (account.uid, account.gid) == (user.pw_uid, user.pw_gid)
    assert (account.name, account.home) == (user.pw_name, user.pw_dir)
    assert account.environment == (("XDG_RUNTIME_DIR", f"/run/user/{user.pw_uid}"),)
    runtime = f"XDG_RUNTIME_DIR=/run/user/{user.pw_uid}"
    assert account.prefix == ("sudo", "-u", user.pw_name, "env", runtime)


@pytest.mark.parametrize("whose", ["root's", "several users'", "hidden", "a nameless user's"])
def test_a_users_manager_is_not_asked_about_what_is_not_that_users(whose: str) -> None:
    user = user_of_daemon().pw_uid if whose != "a nameless user's" else NAMELESS
    uids = {"root's": (0, 0, 0), "several users'": (user, 0, 0), "hidden": None}
    systemctl = always(RUNS)
    unit = user_unit(user, uids.get(whose, (user, user, user)))
    found = systemd.classify(unit, Snapshot(), systemctl)
    assert found is not None
    assert (found.confidence, found.respawn) == (Confidence.SUSPECTED, Respawn.UNKNOWN)
    assert systemctl.asked == []
    assert found.manager is not None
    assert found.manager.account is not None, "whom the printed command is for"
    assert found.manager.account.uid == user


@pytest.mark.parametrize(
    "said",
    [
        CommandFailedError("systemctl: No such file or directory"),
        answer("", 1, "System has not been booted with systemd as init system (PID 1)."),
        answer(""),
    ],
)
def test_what_cannot_be_confirmed_is_suspected(said: Completed | CommandFailedError) -> None:
    found = judge(holder(process(42)), said)
    assert (found.confidence, found.respawn) == (Confidence.SUSPECTED, Respawn.UNKNOWN)
    assert "could not be asked" in found.reason


def test_membership_is_not_ownership() -> None:
    said = always(answer("Restart=always\nMainPID=30\n"))
    cron = process(30, name="cron")
    for family, others in (
        ((process(42),), ()),  # in the cgroup, but not below the main process
        ((process(42, cron),), (cron,)),  # below a program that runs other people's work
    ):
        snapshot = Snapshot(processes=(INIT, *family, *others))
        assert systemd.classify(holder(*family), snapshot, said) is None


@pytest.mark.parametrize(
    "path",
    [
        "/user.slice/user-0.slice/session-3.scope",
        "/system.slice/docker-0123.scope",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-1.scope",
        "/",
    ],
)
def test_a_scope_is_not_a_service(path: str) -> None:
    said = always(answer("Restart=always\nMainPID=42\n"))
    found = holder(process(42, cgroups=(path,)))
    assert systemd.classify(found, Snapshot(processes=found.processes), said) is None
    assert not said.asked


def test_the_callers_own_unit_is_never_stopped() -> None:
    own = process(50, name="ultra-ports")
    said = always(answer("Restart=always\nMainPID=42\n"))
    snapshot = Snapshot(processes=(INIT, own, process(42)), own=(own.identity,))

    found = systemd.classify(holder(process(42)), snapshot, said)

    assert found is not None
    assert (found.kind, found.manager) == (Kind.ANCESTOR, None)
    beside = systemd.classify(holder(process(43)), snapshot, said)
    assert beside is None, "what its main process did not start is no more than a neighbour"


SOCKETS = """Id=dbus.socket
Triggers=dbus.service
Listen=/run/dbus/system_bus_socket (Stream)

Id=web.socket
Triggers=web.service
Listen=[::]:8084 (Stream)
Listen={} (Stream)
"""


@pytest.mark.parametrize("listen", ["[::]:8085", "0.0.0.0:8085"])
def test_the_socket_unit_for_which_pid_1_listens(listen: str) -> None:
    found = judge(holder(INIT), answer(SOCKETS.format(listen)))
    assert found.manager is not None
    assert found.manager.stop == (("systemctl", "stop", "web.socket", "web.service"),)
    assert found.respawn is Respawn.YES


def test_a_socket_that_no_unit_explains_is_left_to_others() -> None:
    said = always(answer(SOCKETS.format("127.0.0.1:8085")))
    found = holder(INIT)
    assert systemd.classify(found, Snapshot(processes=(INIT,)), said) is None
    broken = always(CommandFailedError("no"))
    assert systemd.classify(found, Snapshot(processes=(INIT,)), broken) is None


def supervised(tmp_path: Path, words: tuple[str, ...], program: str) -> tuple[Holder, Snapshot]:
    daemon = process(
        30,
        name="supervisord",
        command=("/usr/bin/python3", "/usr/bin/supervisord", *words),
        cwd=str(tmp_path),
        executable=PROGRAM,
        uid=os.geteuid(),
        uids=(os.geteuid(),) * 3,
    )
    environment = (("SUPERVISOR_GROUP_NAME", "shop"), ("SUPERVISOR_PROCESS_NAME", program))
    child = process(42, daemon, environment=environment)
    return holder(child), Snapshot(processes=(INIT, daemon, child))


CONFIGURATION = """[supervisord]
[supervisorctl]
[program:web]
autorestart = {}   ; a comment
[group:shop]
programs=web
"""


@pytest.mark.parametrize(
    ("value", "policy", "respawn"),
    [
        ("true", "autorestart=true", Respawn.YES),
        ("Unexpected", "autorestart=unexpected", Respawn.YES),
        ("no", "autorestart=false", Respawn.NO),
    ],
)
@pytest.mark.parametrize(
    "words", [("-c", "s.conf"), ("-cs.conf",), ("--configuration=s.conf",), ("-n", "-c", "s.conf")]
)
def test_supervisords_own_policy_is_read(
    tmp_path: Path, words: tuple[str, ...], value: str, policy: str, respawn: Respawn
) -> None:
    (tmp_path / "s.conf").write_text(CONFIGURATION.format(value))
    found, snapshot = supervised(tmp_path, words, "web")
    supervisorctl = always(answer("42\n"))
    judged = supervisord.classify(found, snapshot, supervisorctl)
    assert judged is not None
    assert judged.manager is not None
    assert (judged.manager.policy, judged.respawn) == (policy, respawn)
    conf = str(tmp_path / "s.conf")
    assert judged.manager.stop[0][1:] == ("-c", conf, "stop", "shop:web")
    assert [words[1:] for words in supervisorctl.asked] == [("-c", conf, "pid", "shop:web")]
    assert (supervisorctl.accounts, judged.manager.account) == ([None], None)


def test_included_files_and_numbered_programs_are_read(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "w.conf").write_text("[program:web]\nautorestart=false\nnumprocs=2\n")
    (tmp_path / "supervisord.conf").write_text(
        "[supervisorctl]\n[include]\nfiles = conf.d/*.conf\n"
    )
    found, snapshot = supervised(tmp_path, (), "web_01")
    judged = supervisord.classify(found, snapshot, always(answer("42\n")))
    assert judged is not None
    assert judged.respawn is Respawn.NO


@pytest.mark.parametrize(
    "text", [None, "no section", "[program:other]\n", "[supervisorctl]\n[program:other]\n"]
)
def test_an_unreadable_policy_is_unknown_not_no(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "s.conf").write_text(text)
    found, snapshot = supervised(tmp_path, ("-c", "s.conf"), "web")
    judged = supervisord.classify(found, snapshot, always(answer("42\n")))
    assert judged is not None
    assert judged.respawn is Respawn.UNKNOWN


@pytest.mark.parametrize(
    "said", [CommandFailedError("supervisorctl: not found"), answer("unix:///s.sock refused")]
)
def test_a_silent_supervisord_is_suspected(
    tmp_path: Path, said: Completed | CommandFailedError
) -> None:
    (tmp_path / "s.conf").write_text(CONFIGURATION.format("false"))
    found, snapshot = supervised(tmp_path, ("-c", "s.conf"), "web")
    supervisorctl = always(said)
    judged = supervisord.classify(found, snapshot, supervisorctl)
    assert judged is not None
    assert supervisorctl.asked
    assert judged.confidence is Confidence.SUSPECTED
    assert judged.respawn is not Respawn.NO


def test_the_program_that_the_caller_runs_in_is_never_stopped(tmp_path: Path) -> None:
    (tmp_path / "s.conf").write_text(CONFIGURATION.format("true"))
    found, snapshot = supervised(tmp_path, ("-c", "s.conf"), "web")
    within = replace(snapshot, own=(ProcessIdentity(Pid(42), 7),))
    assert supervisord.classify(found, within, always(answer("42\n"))) is None


def test_an_inherited_environment_is_not_supervision(tmp_path: Path) -> None:
    (tmp_path / "s.conf").write_text("[supervisorctl]\n")
    found, snapshot = supervised(tmp_path, ("-c", "s.conf"), "web")
    other = supervisord.classify(found, snapshot, always(answer("77\n")))
    assert other is not None, "its supervisord is there: another instance may have answered"
    assert (other.confidence, other.respawn) == (Confidence.SUSPECTED, Respawn.UNKNOWN)
    assert other.evidence[0] == "supervisorctl says that shop:web is process 77"
    orphan = Snapshot(processes=found.processes)
    assert supervisord.classify(found, orphan, always(answer("42\n"))) is None


def test_a_file_that_supervisorctl_cannot_use_is_not_given_to_it(tmp_path: Path) -> None:
    (tmp_path / "s.conf").write_text("[program:web]\nautorestart = false\n")
    found, snapshot = supervised(tmp_path, ("-c", "s.conf"), "web")
    supervisorctl = always(answer("42\n"))
    judged = supervisord.classify(found, snapshot, supervisorctl)
    assert judged is not None
    assert judged.confidence is Confidence.SUSPECTED
    assert supervisorctl.asked == []


@pytest.mark.root
@pytest.mark.parametrize("whose", ["daemon", "file", "program"])
def test_roots_supervisord_is_asked_only_where_all_of_it_is_roots(
    tmp_path: Path, whose: str
) -> None:
    (tmp_path / "s.conf").write_text(CONFIGURATION.format("true"))
    found, snapshot = supervised(tmp_path, ("-c", "s.conf"), "web")
    daemon = snapshot.processes[1]
    if whose == "file":
        os.chown(tmp_path / "s.conf", NAMELESS, -1)
    elif whose == "program":
        (tmp_path / "bin").mkdir()
        os.chown(tmp_path / "bin", NAMELESS, -1)
        daemon = replace(daemon, executable=str(tmp_path / "bin" / "python3"))
    else:
        daemon = replace(daemon, uids=(0, NAMELESS, 0))
    supervisorctl = always(answer("42\n"))
    snapshot = replace(snapshot, processes=(INIT, daemon, *found.processes))
    judged = supervisord.classify(found, snapshot, supervisorctl)
    assert judged is not None
    assert judged.confidence is Confidence.SUSPECTED
    assert supervisorctl.asked == []


@pytest.mark.root
@pytest.mark.parametrize("about", ["that user's", "root's"])
def test_another_users_supervisord_speaks_for_that_users_processes(
    tmp_path: Path, about: str
) -> None:
    (tmp_path / "s.conf").write_text(CONFIGURATION.format("true"))
    user = user_of_daemon()
    found, snapshot = supervised(tmp_path, ("-c", "s.conf"), "web")
    uid = user.pw_uid if about == "that user's" else 0
    child = replace(found.processes[0], uid=uid, uids=(uid, uid, uid))
    daemon = replace(snapshot.processes[1], uid=user.pw_uid, uids=(user.pw_uid,) * 3)
    supervisorctl = always(answer("42\n"))
    snapshot = replace(snapshot, processes=(INIT, daemon, child))
    judged = supervisord.classify(holder(child), snapshot, supervisorctl)
    assert judged is not None
    assert judged.manager is not None
    account = judged.manager.account
    assert account is not None
    assert (account.uid, account.gid, account.home) == (user.pw_uid, user.pw_gid, user.pw_dir)
    assert supervisorctl.accounts == ([account] if uid else [])
    assert judged.confidence is (Confidence.CONFIRMED if uid else Confidence.SUSPECTED)
    assert judged.manager.stop[0][0] == "supervisorctl", "never one from beside its program"


def test_a_silent_manager_is_waited_for_once_and_asked_in_no_folder_of_the_callers() -> None:
    silent = Answers(lambda argv: CommandFailedError(f"{argv[0]} did not answer"), folder="/")
    run = asked_once(silent)
    for _ in range(2):
        with pytest.raises(CommandFailedError, match="did not answer"):
            ask(run, ("monit", "status"))
    assert silent.asked == [("monit", "status")]


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/system.slice/web.service", "web.service"),
        ("/system.slice/web.service/payload/main", "web.service"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service", "web.service"),
        ("/user.slice/user-1000.slice/session-3.scope", None),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope/x", None),
        ("/system.slice/web.service/-H.service", "web.service"),
    ],
)
def test_the_service_of_a_cgroup(path: str, unit: str | None) -> None:
    assert service_in(["/", path]) == (unit and (unit, path))
