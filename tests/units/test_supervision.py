"""How the answers of runit, s6, daemontools, monit and circus are read, and whose process it is.

What the real programs do is tested in the scenarios; the answers here were recorded from Debian's
runit 2.1.2, s6 2.11.3, daemontools 0.76 and monit 5.33, and from circus 0.19.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resolver.ancestry import own_line, service_directory, supervised
from resolver.classify import circus, daemontools, monit, runit, s6
from resolver.errors import CommandFailedError
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

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BINDING = Binding(Transport.TCP, "0.0.0.0", PortNumber(8085))
INIT = Process(ProcessIdentity(Pid(1), 0), "init")


def process(pid: int, name: str, parent: Process = INIT, **facts: object) -> Process:
    return Process(
        ProcessIdentity(Pid(pid), 7),
        name,
        ancestors=(parent.identity, *parent.ancestors),
        **facts,  # type: ignore[arg-type]
    )


def holder(*family: Process) -> Holder:
    return Holder(BINDING, SocketState.LISTENING, processes=family, masters=(family[0].identity,))


class Says:
    """A runner whose every command says the same."""

    def __init__(self, said: Completed | CommandFailedError) -> None:
        self.said = said
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, argv: Sequence[str], *, timeout_seconds: float) -> Completed:
        assert timeout_seconds > 0
        self.asked.append(tuple(argv))
        if isinstance(self.said, CommandFailedError):
            raise self.said
        return self.said


def says(stdout: str, status: int = 0, stderr: str = "") -> Says:
    return Says(Completed(status, stdout, stderr))


@pytest.mark.parametrize(
    ("said", "want_up"),
    [
        ("run: /sv/web: (pid 42) 1s\n", True),
        ("run: /sv/web: (pid 42) 1s, normally down\n", True),
        ("run: /sv/web: (pid 42) 1s, want down; run: log: (pid 41) 9s\n", False),
        ("run: /sv/web: (pid 42) 1s; run: log: (pid 41) 9s, want down\n", True),
        ("run: /sv/web: (pid 42) 1s, normally down, want down, got TERM\n", False),
    ],
)
def test_runits_answers(said: str, want_up: bool) -> None:  # noqa: FBT001
    first = runit.status(said, "/sv/web")[0]
    assert (first.folder, first.pid, first.want_up) == ("/sv/web", 42, want_up)


def test_runits_log_has_a_directory_of_its_own() -> None:
    said = "down: /sv/web: 0s, normally up; run: log: (pid 41) 9s\n"
    (log,) = runit.status(said, "/sv/web")
    assert (log.folder, log.pid) == ("/sv/web/log", 41)


@pytest.mark.parametrize(
    "said", ["", "down: /sv/web: 5s, normally up\n", "fail: web: unable to change to service dir\n"]
)
def test_what_does_not_run_has_no_state(said: str) -> None:
    assert runit.status(said, "/sv/web") == ()
    assert s6.status(said) is None
    assert daemontools.pid(said) is None


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
    state = s6.status(said)
    assert state is not None
    assert (state.pid, state.want_up) == (42, want_up)


@pytest.mark.parametrize(
    ("byte", "respawn"),
    [(b"u", Respawn.YES), (b"d", Respawn.NO), (b"\0", Respawn.NO), (b"", Respawn.UNKNOWN)],
)
def test_daemontools_wanted_state(tmp_path: Path, byte: bytes, respawn: Respawn) -> None:
    (tmp_path / "supervise").mkdir()
    (tmp_path / "supervise" / "status").write_bytes(bytes(17) + byte)
    supervisor = process(30, "supervise", cwd=str(tmp_path))
    found = holder(process(42, "web", supervisor))
    said = says(f"{tmp_path}: up (pid 42) 9 seconds\n")
    judged = daemontools.classify(found, Snapshot(processes=(supervisor, *found.processes)), said)
    assert judged is not None
    assert judged.respawn is respawn
    assert judged.confidence is (
        Confidence.SUSPECTED if respawn is Respawn.UNKNOWN else Confidence.CONFIRMED
    )


FAMILIES = [(runit, "runsv"), (s6, "s6-supervise"), (daemontools, "supervise")]


@pytest.mark.parametrize(("classifier", "name"), FAMILIES)
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
    classifier: object, name: str, said: Completed | CommandFailedError
) -> None:
    supervisor = process(30, name, cwd="/sv/web", uid=0)
    found = holder(process(42, "web", supervisor))
    snapshot = Snapshot(processes=(supervisor, *found.processes))
    judged = classifier.classify(found, snapshot, Says(said))  # type: ignore[attr-defined]
    assert (judged.confidence, judged.respawn) == (Confidence.SUSPECTED, Respawn.UNKNOWN)
    assert judged.manager.prefix == ("sudo",)
    assert "/sv/web" in judged.manager.stop[0]


@pytest.mark.parametrize(("classifier", "name"), FAMILIES)
def test_a_hidden_directory_gives_no_command(classifier: object, name: str) -> None:
    supervisor = process(30, name)
    found = holder(process(42, "web", supervisor))
    snapshot = Snapshot(processes=(supervisor, *found.processes))
    asked = says("")
    judged = classifier.classify(found, snapshot, asked)  # type: ignore[attr-defined]
    assert judged.respawn is Respawn.UNKNOWN
    assert judged.manager is None
    assert not asked.asked


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
    assert runit.classify(found, snapshot, silent) is None
    assert not silent.asked


def test_what_others_host_is_not_the_services() -> None:
    supervisor = process(20, "runsv", cwd="/sv/ssh")
    sshd = process(30, "sshd", supervisor)
    shell = process(31, "bash", sshd)
    found = holder(process(42, "web", shell))
    snapshot = Snapshot(processes=(supervisor, sshd, shell, *found.processes))
    assert [each.pid for each in own_line(found, snapshot)] == [42, 31]
    assert runit.classify(found, snapshot, says("run: /sv/ssh: (pid 30) 1s\n")) is None


def test_the_callers_own_service_is_never_stopped() -> None:
    supervisor = process(20, "runsv", cwd="/sv/agent")
    agent = process(30, "agent", supervisor)
    own = process(50, "ultra-ports", agent)
    found = holder(process(42, "web", agent))
    processes = (supervisor, agent, own, *found.processes)
    snapshot = Snapshot(processes=processes, own=(own.identity, *own.ancestors))
    assert runit.classify(found, snapshot, says("run: /sv/agent: (pid 30) 1s\n")) is None


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
    daemon = monit._Daemon(9, ("monit",), root=True)  # noqa: SLF001
    settings = {} if said is None else {"Existence": said}
    assert monit._Check("web", daemon, {}, settings, "").action == action  # noqa: SLF001


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["monit", "-I", "-c", "m.rc"], "m.rc"),
        (["/usr/bin/monit", "-c/etc/m.rc"], "/etc/m.rc"),
        (["monit", "-I"], None),
    ],
)
def test_monits_control_file(words: list[str], path: str | None) -> None:
    assert monit.control_file(words) == path


def test_the_mark_alone_is_a_suspicion_only_where_monit_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marked = holder(process(42, "web", environment=(("MONIT_SERVICE", "web"),)))
    monkeypatch.setattr(monit, "_daemons", lambda: [monit._Daemon(9, ("monit",), root=True)])  # noqa: SLF001
    judged = monit.classify(marked, Snapshot(), Says(CommandFailedError("monit: not found")))
    assert judged is not None
    assert (judged.confidence, judged.respawn) == (Confidence.SUSPECTED, Respawn.UNKNOWN)
    monkeypatch.setattr(monit, "_daemons", list)
    assert monit.classify(marked, Snapshot(), says("")) is None


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
    assert circus.endpoint(process(30, "circusd", command=words, cwd=str(tmp_path))) == expected


def test_circus_stats() -> None:
    stats: dict[str, object] = {"infos": {"web": {"42": {"pid": 42}}, "idle": {}}}
    assert circus.watcher_of(42, stats) == "web"
    assert circus.watcher_of(43, stats) is None
    assert circus.watcher_of(42, {"infos": None}) is None


@pytest.mark.parametrize("said", ["", "[]", '{"status": "error", "reason": "no"}', "Timed out."])
def test_a_circusd_that_makes_no_sense_is_suspected(said: str) -> None:
    daemon = process(30, "circusd", command=("python3", "/usr/bin/circusd"))
    found = holder(process(42, "web", daemon))
    judged = circus.classify(found, Snapshot(processes=(daemon, *found.processes)), says(said))
    assert judged is not None
    assert (judged.kind, judged.confidence) == (Kind.SERVICE, Confidence.SUSPECTED)
    assert judged.respawn is Respawn.UNKNOWN
    assert judged.manager is None
