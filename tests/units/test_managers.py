"""How the managers' answers and files are read; what they do is tested against the real ones."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from resolver.classify import supervisord, systemd
from resolver.errors import CommandFailedError
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
from resolver.values import replace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BINDING = Binding(Transport.TCP, "0.0.0.0", PortNumber(8085))
INIT = Process(ProcessIdentity(Pid(1), 0), "systemd", cgroups=("/init.scope",))


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


class Systemctl:
    """A systemctl that says what it was told to; recorded from systemd 252."""

    def __init__(self, said: Completed | CommandFailedError) -> None:
        self.said = said
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, argv: Sequence[str], *, timeout_seconds: float) -> Completed:
        assert timeout_seconds > 0
        self.asked.append(tuple(argv))
        if isinstance(self.said, CommandFailedError):
            raise self.said
        return self.said


def judge(found: Holder, said: Completed | CommandFailedError, *others: Process) -> Classification:
    systemctl = Systemctl(said)
    snapshot = Snapshot(processes=(INIT, *found.processes, *others))
    classification = systemd.classify(found, snapshot, systemctl)
    assert classification is not None
    assert systemctl.asked
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


def test_a_socket_brings_back_even_what_has_no_restart_policy() -> None:
    said = answer("Restart=no\nMainPID=42\nTriggeredBy=web.socket\n")
    found = judge(holder(process(42)), said)
    assert found.respawn is Respawn.YES
    assert found.manager is not None
    assert found.manager.stop == (("systemctl", "stop", "web.socket", "web.service"),)


def test_a_user_unit_is_asked_of_the_users_manager() -> None:
    for uid, machine, prefix in (
        (os.geteuid(), (), ()),
        (4242, ("--machine=4242@.host",), ("sudo",)),
    ):
        path = f"/user.slice/user-{uid}.slice/user@{uid}.service/app.slice/web.service"
        found = judge(holder(process(42, cgroups=(path,))), answer("Restart=always\nMainPID=42\n"))
        assert found.manager is not None
        assert found.manager.stop == (("systemctl", "--user", *machine, "stop", "web.service"),)
        assert found.manager.prefix == prefix


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
    said = Systemctl(answer("Restart=always\nMainPID=30\n"))
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
    said = Systemctl(answer("Restart=always\nMainPID=42\n"))
    found = holder(process(42, cgroups=(path,)))
    assert systemd.classify(found, Snapshot(processes=found.processes), said) is None
    assert not said.asked


def test_the_callers_own_unit_is_never_stopped() -> None:
    own = process(50, name="ultra-ports")
    said = Systemctl(answer("Restart=always\nMainPID=42\n"))
    snapshot = Snapshot(processes=(INIT, own, process(42)), own=(own.identity,))
    assert systemd.classify(holder(process(42)), snapshot, said) is None


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
    said = Systemctl(answer(SOCKETS.format("127.0.0.1:8085")))
    found = holder(INIT)
    assert systemd.classify(found, Snapshot(processes=(INIT,)), said) is None
    broken = Systemctl(CommandFailedError("no"))
    assert systemd.classify(found, Snapshot(processes=(INIT,)), broken) is None


def supervised(tmp_path: Path, words: tuple[str, ...], program: str) -> tuple[Holder, Snapshot]:
    daemon = process(
        30,
        name="supervisord",
        command=("/usr/bin/python3", "/usr/bin/supervisord", *words),
        cwd=str(tmp_path),
    )
    environment = (("SUPERVISOR_GROUP_NAME", "shop"), ("SUPERVISOR_PROCESS_NAME", program))
    child = process(42, daemon, environment=environment)
    return holder(child), Snapshot(processes=(INIT, daemon, child))


CONFIGURATION = """[supervisord]
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
    judged = supervisord.classify(found, snapshot, Systemctl(answer("42\n")))
    assert judged is not None
    assert judged.manager is not None
    assert (judged.manager.policy, judged.respawn) == (policy, respawn)
    conf = str(tmp_path / "s.conf")
    assert judged.manager.stop[0][1:] == ("-c", conf, "stop", "shop:web")


def test_included_files_and_numbered_programs_are_read(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "w.conf").write_text("[program:web]\nautorestart=false\nnumprocs=2\n")
    (tmp_path / "supervisord.conf").write_text("[include]\nfiles = conf.d/*.conf\n")
    found, snapshot = supervised(tmp_path, (), "web_01")
    judged = supervisord.classify(found, snapshot, Systemctl(answer("42\n")))
    assert judged is not None
    assert judged.respawn is Respawn.NO


@pytest.mark.parametrize("text", [None, "no section", "[program:other]\n"])
def test_an_unreadable_policy_is_unknown_not_no(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "s.conf").write_text(text)
    found, snapshot = supervised(tmp_path, ("-c", "s.conf"), "web")
    judged = supervisord.classify(found, snapshot, Systemctl(answer("42\n")))
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
    judged = supervisord.classify(found, snapshot, Systemctl(said))
    assert judged is not None
    assert judged.confidence is Confidence.SUSPECTED
    assert judged.respawn is not Respawn.NO


def test_the_program_that_the_caller_runs_in_is_never_stopped(tmp_path: Path) -> None:
    found, snapshot = supervised(tmp_path, ("-c", "s.conf"), "web")
    within = replace(snapshot, own=(ProcessIdentity(Pid(42), 7),))
    assert supervisord.classify(found, within, Systemctl(answer("42\n"))) is None


def test_an_inherited_environment_is_not_supervision(tmp_path: Path) -> None:
    found, snapshot = supervised(tmp_path, ("-c", "s.conf"), "web")
    other = supervisord.classify(found, snapshot, Systemctl(answer("77\n")))
    assert other is not None, "its supervisord is there: another instance may have answered"
    assert (other.confidence, other.respawn) == (Confidence.SUSPECTED, Respawn.UNKNOWN)
    orphan = Snapshot(processes=found.processes)
    assert supervisord.classify(found, orphan, Systemctl(answer("42\n"))) is None
