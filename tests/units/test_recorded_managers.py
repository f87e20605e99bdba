"""Managers and products that cannot run in CI: what they show was recorded, and is said where.

These tests hold what we make of the recorded facts; they cannot show that the facts still hold.
"""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING, NamedTuple

import pytest
from msgspec import convert
from msgspec.structs import replace

from resolver.classify import desktop, launchd, pm2, procfile, protected, remote_forward, tunnel
from resolver.model import (
    AdviseStep,
    Binding,
    Classification,
    Confidence,
    EngineState,
    Holder,
    KillStep,
    Kind,
    Pid,
    Policy,
    PortNumber,
    Process,
    ProcessIdentity,
    Respawn,
    Snapshot,
    SocketState,
    StopServiceStep,
    Transport,
    Verdict,
)
from resolver.shell import shell_line
from resolver.strategies.choose import choose
from tests.lab.answers import Answers, recorded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from resolver.model import Command, Step

INIT = Process(ProcessIdentity(Pid(1), 0), "systemd")
# A program that is root's alone, as are the directories above it
PROGRAM = os.path.realpath("/usr/bin/env")
LAUNCHD = Process(ProcessIdentity(Pid(1), 0), "launchd", ("/sbin/launchd",))


def process(pid: int, parent: Process, name: str, *command: str, **facts: object) -> Process:
    return Process(
        ProcessIdentity(Pid(pid), 7),
        name,
        command,
        ancestors=(parent.identity, *parent.ancestors),
        **facts,  # type: ignore[arg-type]
    )


def holder(found: Process, port: int = 8085) -> Holder:
    binding = Binding(Transport.TCP, "127.0.0.1", PortNumber(port))
    masters = (found.identity,)
    return Holder(binding, SocketState.LISTENING, (found,), masters, inodes=frozenset({1}))


NOTHING = recorded({})


def lines(commands: Sequence[Command]) -> list[str]:
    """The commands as they are printed."""
    return [shell_line(each) for each in commands]


def step_for(judged: Classification, *, stop_services: bool = False) -> Step:
    plan = choose([judged], Policy(stop_services=stop_services, euid=501), ())
    return plan.steps[0]


# --- launchd --------------------------------------------------------------------------------------
# `launchctl list` has a line PID STATUS LABEL for each job (launchctl(1)); `launchctl print` as in
# captures of macOS 14 to 26 that other projects keep among their tests.

LIST = """PID\tStatus\tLabel
-\t0\tcom.apple.SafariHistoryServiceAgent
812\t0\thomebrew.mxcl.redis
640\t0\tapplication.com.googlecode.iterm2.38413.38419
"""
PRINT = """gui/501/homebrew.mxcl.redis = {
\tactive count = 1
\tpath = /Users/ann/Library/LaunchAgents/homebrew.mxcl.redis.plist
\ttype = LaunchAgent
\tstate = running

\tprogram = /opt/homebrew/opt/redis/bin/redis-server
\tdomain = gui/501 [100023]
\truns = 1
\tpid = 812

\tresource coalition = {
\t\tID = 2814
\t\tstate = active
\t}

\tspawn type = daemon (3)
\tproperties = %s
}
"""
LISTING = ("launchctl", "list")
PRINTING = ("launchctl", "print", "gui/501/homebrew.mxcl.redis")
REDIS = process(812, LAUNCHD, "redis-server", "redis-server *:6379", user="ann", uid=501)


@pytest.fixture
def ann(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller is user 501."""
    monkeypatch.setattr(os, "geteuid", lambda: 501)


def on_a_mac(found: Process, answers: Mapping[tuple[str, ...], str]) -> Classification | None:
    snapshot = Snapshot(processes=(LAUNCHD, found))
    return launchd.classify(holder(found), snapshot, recorded(answers))


@pytest.mark.usefixtures("ann")
def test_an_agent_that_launchd_keeps_alive() -> None:
    answers = {LISTING: LIST, PRINTING: PRINT % "keepalive | runatload | inferred program"}
    judged = on_a_mac(REDIS, answers)
    assert judged is not None
    assert (judged.kind, judged.respawn) == (Kind.SERVICE, Respawn.YES)
    assert "Homebrew's own way: brew services stop redis" in judged.evidence
    step = step_for(judged)
    assert isinstance(step, AdviseStep)
    assert lines(step.commands) == ["launchctl bootout gui/501/homebrew.mxcl.redis"]
    plist = "/Users/ann/Library/LaunchAgents/homebrew.mxcl.redis.plist"
    assert lines(step.undo) == [f"launchctl bootstrap gui/501 {plist}"]


@pytest.mark.usefixtures("ann")
def test_an_agent_without_keep_alive_is_ended() -> None:
    judged = on_a_mac(REDIS, {LISTING: LIST, PRINTING: PRINT % "runatload | inferred program"})
    assert judged is not None
    step = step_for(judged)
    assert isinstance(step, KillStep)
    assert lines(step.undo) == ["launchctl kickstart gui/501/homebrew.mxcl.redis"]


@pytest.mark.usefixtures("ann")
def test_a_conditional_keep_alive_counts() -> None:
    text = (PRINT % "runatload").replace(
        "\tspawn type", "\tsemaphores = {\n\t\tsuccessful exit => 0\n\t}\n\tspawn type"
    )
    judged = on_a_mac(REDIS, {LISTING: LIST, PRINTING: text})
    assert judged is not None
    assert judged.respawn is Respawn.YES


@pytest.mark.usefixtures("ann")
@pytest.mark.parametrize("answers", [{LISTING: LIST}, {}])
def test_what_launchctl_does_not_say_is_unknown(answers: dict[tuple[str, ...], str]) -> None:
    judged = on_a_mac(REDIS, answers)
    assert judged is not None
    assert judged.respawn is Respawn.UNKNOWN
    assert isinstance(step_for(judged), AdviseStep)


@pytest.mark.usefixtures("ann")
def test_an_opened_application_is_no_service() -> None:
    opened = process(640, LAUNCHD, "iTerm2", uid=501)
    assert on_a_mac(opened, {LISTING: LIST}) is None


def test_root_asks_for_the_session_of_the_holders_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    asking = ("launchctl", "asuser", "501", *LISTING)
    judged = on_a_mac(REDIS, {asking: LIST, PRINTING: PRINT % "keepalive"})
    assert judged is not None
    assert judged.manager is not None
    assert judged.manager.stop == (("launchctl", "bootout", "gui/501/homebrew.mxcl.redis"),)


def test_the_airplay_receiver_is_switched_off_in_the_settings() -> None:
    """It listens on 5000 and 7000 since macOS 12 (Apple's developer forums, thread 682332)."""
    receiver = process(500, LAUNCHD, "ControlCenter", uid=501)
    snapshot = Snapshot(processes=(LAUNCHD, receiver))
    judged = launchd.classify(holder(receiver, 5000), snapshot, NOTHING)
    assert judged is not None
    step = step_for(judged, stop_services=True)
    assert isinstance(step, AdviseStep)
    assert "AirPlay Receiver" in step.why
    assert not NOTHING.asked


def test_elsewhere_launchd_is_not_asked() -> None:
    commands = recorded({})
    web = process(812, INIT, "python3")
    assert launchd.classify(holder(web), Snapshot(processes=(INIT, web)), commands) is None
    assert commands.asked == []


# --- forwarders of products (sources: resolver/classify/desktop.py) -------------------------------


class Forwarder(NamedTuple):
    """A process name as the product shows it, its product, and a command that is printed."""

    name: str
    product: str
    command: str


PODMAN = (
    "sudo -u '#501' podman ps --filter publish=8085/tcp"
    "   # podman is not in PATH here, or was not to be asked"
)
FORWARDERS = [
    Forwarder(
        "com.docker.backend",
        "Docker Desktop",
        "docker --context desktop-linux ps --filter publish=8085/tcp",
    ),
    Forwarder(
        "vpnkit", "Docker Desktop", "docker --context desktop-linux ps --filter publish=8085/tcp"
    ),
    Forwarder(
        "OrbStack Helper", "OrbStack", "docker --context orbstack ps --filter publish=8085/tcp"
    ),
    Forwarder(
        "wslrelay.exe",
        "WSL",
        "wsl --exec sudo ss -ltnp 'sport = :8085'   # in each of: wsl --list --running",
    ),
    Forwarder(
        "rootlesskit",
        "rootless Docker",
        "docker --host unix:///run/user/501/docker.sock ps --filter publish=8085/tcp",
    ),
    Forwarder("rootlessport", "rootless podman", PODMAN),
    Forwarder("pasta.avx2", "a rootless engine", PODMAN),
    Forwarder("conmon", "podman", PODMAN),
    Forwarder("gvproxy", "podman machine", PODMAN),
    Forwarder(
        "limactl",
        "Lima (Colima, Rancher Desktop)",
        "docker context ls   # then: docker --context CONTEXT ps --filter publish=8085",
    ),
]


@pytest.mark.parametrize("shown", FORWARDERS, ids=lambda shown: shown.name)
def test_a_products_forwarder_is_named_and_never_signalled(shown: Forwarder) -> None:
    forwarder = process(700, INIT, shown.name, shown.name, uid=501)
    judged = desktop.classify(holder(forwarder), Snapshot(processes=(INIT, forwarder)), NOTHING)
    assert judged is not None
    assert judged.kind is Kind.FORWARDER
    assert shown.product in judged.chain
    step = step_for(judged, stop_services=True)
    assert isinstance(step, AdviseStep)
    assert step.verdict is Verdict.REFUSED
    assert shown.command in lines(step.commands)


def test_an_engine_that_does_not_answer_leaves_it_undecided() -> None:
    forwarder = process(700, INIT, "rootlesskit", uid=501)
    silent = EngineState("unix:///run/docker.sock", error="it did not answer in 2 s")
    snapshot = Snapshot(processes=(INIT, forwarder), engines=(silent,))
    judged = desktop.classify(holder(forwarder), snapshot, NOTHING)
    assert judged is not None
    assert judged.kind is Kind.UNKNOWN
    assert "did not answer in 2 s" in judged.reason


def test_docker_proxy_is_left_to_those_who_know_its_engine() -> None:
    proxy = process(700, INIT, "docker-proxy")
    assert desktop.classify(holder(proxy), Snapshot(processes=(INIT, proxy)), NOTHING) is None


# --- Procfile runners: what they show of themselves -----------------------------------------------
# honcho 2 and foreman 0.88 run in the scenarios; nf (node-foreman 3, lib/proc.js) and
# process-compose 1 (src/app/process.go, and the "cli" pages of its manual) are in no package here.

FAR = 1 << 22  # no process has a number above it (proc_sys_kernel(5), pid_max)
RUNNERS = [
    (("python3", "/usr/bin/honcho", "start"), "HONCHO_PROCESS_NAME", "honcho"),
    (("ruby", "/usr/bin/foreman", "start"), "PS", "foreman"),
    (("foreman: master",), "PS", "foreman"),
    (("node", "/usr/bin/nf", "start"), "FOREMAN_WORKER_NAME", "nf"),
]


def run_by(*words: str, variable: str, **facts: object) -> tuple[Process, Process]:
    """A runner and the one process that it runs, in the folder `/srv/shop`."""
    runner = process(FAR + 50, INIT, "runner", *words, cwd="/srv/shop", **facts)
    return runner, process(
        FAR + 51, runner, "python3", "python3", environment=((variable, "web.1"),), **facts
    )


def judged_by_procfile(*line: Process, commands: Answers = NOTHING) -> Classification:
    snapshot = Snapshot(processes=(INIT, *line))
    judged = procfile.classify(holder(line[-1]), snapshot, commands)
    assert judged is not None
    return judged


@pytest.mark.parametrize(("words", "variable", "kind"), RUNNERS)
def test_a_runner_that_has_no_command_for_one(
    words: tuple[str, ...], variable: str, kind: str
) -> None:
    runner, server = run_by(*words, variable=variable)
    judged = judged_by_procfile(runner, server)
    assert NOTHING.asked == []
    assert judged.manager is not None
    assert (judged.manager.kind, judged.manager.name) == (kind, "web.1")
    assert judged.manager.stop == ()
    start = ("foreman", "start") if kind == "foreman" else words
    assert judged.manager.start == (("env", "-C", "/srv/shop", *start),)
    assert judged.runner == runner
    assert (judged.respawn, judged.harm) == (Respawn.NO, "")
    assert lines(judged.commands) == [f"kill -INT {runner.pid}"]


@pytest.mark.parametrize(("words", "variable", "kind"), RUNNERS)
@pytest.mark.parametrize("stop_services", [True, False])
def test_what_a_runner_runs_alone_is_ended_alone(
    words: tuple[str, ...],
    variable: str,
    kind: str,
    stop_services: bool,  # noqa: FBT001
) -> None:
    runner, server = run_by(*words, variable=variable)
    step = step_for(judged_by_procfile(runner, server), stop_services=stop_services)
    assert isinstance(step, KillStep)
    assert (step.masters, step.members) == ((server,), (server,))
    start = " ".join(("foreman", "start") if kind == "foreman" else words)
    assert lines(step.undo) == [f"env -C /srv/shop {start}"]


@pytest.mark.parametrize(("words", "variable", "kind"), RUNNERS)
def test_a_runner_that_ends_others_too_is_ended_only_where_that_was_asked_for(
    words: tuple[str, ...], variable: str, kind: str
) -> None:
    runner, server = run_by(*words, variable=variable)
    judged = replace(judged_by_procfile(runner, server), harm=f"{kind} ends 7 too")
    advice = step_for(judged)
    assert isinstance(advice, AdviseStep)
    assert lines(advice.commands) == [f"kill -INT {runner.pid}"]
    step = step_for(judged, stop_services=True)
    assert isinstance(step, KillStep)
    assert (step.masters, step.members) == ((runner,), (runner, server))
    assert step.respawners == frozenset({runner.identity})
    assert step.patience_seconds > 5, "the runner gives what it runs 5 s"
    assert lines(step.commands) == [f"kill {runner.pid}"]
    unreachable = replace(judged, runner=replace(runner, signalable=False))
    step = step_for(unreachable, stop_services=True)
    assert isinstance(step, AdviseStep)
    assert step.verdict is Verdict.HIDDEN


@pytest.mark.parametrize(
    "words",
    [
        ("python3", "/usr/bin/honcho", "run", "web"),
        ("ruby", "/usr/bin/foreman", "check"),
        ("node", "/usr/bin/nf", "export"),
        ("goreman", "start"),
        ("hivemind",),
        ("tmux", "-C", "-L", "overmind-shop-Vk3yO_7c", "new", "-n", "web"),
    ],
)
def test_other_commands_are_no_runners(words: tuple[str, ...]) -> None:
    control, server = run_by(*words, variable="PS")
    snapshot = Snapshot(processes=(INIT, control, server))
    assert procfile.classify(holder(server), snapshot, NOTHING) is None
    assert NOTHING.asked == []


QUESTION = ("process-compose", "-p", "9999", "process", "list", "-o", "json")


def composed(uids: tuple[int, int, int] | None, about: int) -> tuple[Process, Process]:
    """A process-compose of `uids`, and what it runs as user `about`."""
    words = ("process-compose", "-p", "9999", "up")
    uid = uids[0] if uids else None
    facts: dict[str, object] = {"executable": PROGRAM, "uid": uid, "uids": uids}
    runner = process(50, INIT, "process-compose", *words, **facts)
    facts = {"uid": about, "uids": (about, about, about)}
    environment = (("PC_PROC_NAME", "web"), ("PC_REPLICA_NUM", "0"))
    return runner, process(51, runner, "python3", "python3", environment=environment, **facts)


def listing() -> Answers:
    return recorded({QUESTION: '[{"name": "web", "status": "Running", "pid": 51, "restarts": 0}]'})


def test_process_compose_stops_the_one_at_the_port_where_it_was_started() -> None:
    uid, commands = os.geteuid(), listing()
    judged = judged_by_procfile(*composed((uid, uid, uid), uid), commands=commands)
    assert (commands.asked, commands.accounts) == ([QUESTION], [None])
    assert (judged.confidence, judged.respawn) == (Confidence.CONFIRMED, Respawn.UNKNOWN)
    step = step_for(judged, stop_services=True)
    assert isinstance(step, StopServiceStep)
    assert lines(step.commands) == ["process-compose -p 9999 process stop web"]
    assert lines(step.undo) == ["process-compose -p 9999 process start web"]


def test_a_process_compose_that_may_be_anybodys_is_not_asked() -> None:
    commands = listing()
    judged = judged_by_procfile(*composed(None, os.geteuid()), commands=commands)
    assert commands.asked == []
    assert judged.confidence is Confidence.SUSPECTED
    assert isinstance(step_for(judged, stop_services=True), AdviseStep)


@pytest.mark.root
def test_root_asks_another_users_process_compose_as_that_user() -> None:
    user = next(entry for entry in pwd.getpwall() if entry.pw_uid != 0)
    uid, commands = user.pw_uid, listing()
    judged = judged_by_procfile(*composed((uid, uid, uid), uid), commands=commands)
    assert judged.confidence is Confidence.CONFIRMED
    (account,) = commands.accounts
    assert account is not None
    assert (account.uid, account.gid, account.name) == (uid, user.pw_gid, user.pw_name)
    step = step_for(judged, stop_services=True)
    assert isinstance(step, StopServiceStep)
    assert step.manager.account == account
    assert lines(step.commands) == [
        f"sudo -u {user.pw_name} process-compose -p 9999 process stop web"
    ]
    commands = listing()
    judged = judged_by_procfile(*composed((uid, uid, uid), 0), commands=commands)
    assert (judged.confidence, commands.asked) == (Confidence.SUSPECTED, [])
    assert isinstance(step_for(judged, stop_services=True), AdviseStep)


def test_a_runner_that_also_runs_the_caller_is_not_stopped() -> None:
    runner = process(50, INIT, "honcho", "python3", "/usr/bin/honcho", "start")
    fork = process(51, runner, "honcho", "python3", "/usr/bin/honcho", "start")
    environment = (("HONCHO_PROCESS_NAME", "web.1"),)
    server = process(52, fork, "python3", "python3", environment=environment)
    processes = (INIT, runner, fork, server)
    snapshot = Snapshot(processes=processes, own=(runner.identity, INIT.identity))
    judged = procfile.classify(holder(server), snapshot, NOTHING)
    assert judged is not None
    assert judged.manager is None
    assert "which also runs this command" in judged.reason


# --- tunnels: command lines -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("ssh -N -L 8085:db:5432 ann@jump", "tunnel to db:5432 through ann@jump"),
        ("ssh -fNL8085:db:5432 jump", "tunnel to db:5432 through jump"),
        ("ssh jump -N -L 127.0.0.1:8085:db:5432", "tunnel to db:5432 through jump"),
        ("ssh -L [::1]:8085:[fe80::1]:5432 jump", "tunnel to fe80::1:5432 through jump"),
        ("ssh -N -o LocalForward=8085 -p 22 jump", "tunnel through jump"),
        ("ssh -N -oLocalForward=8085:db:5432 jump", "tunnel to db:5432 through jump"),
        ("ssh -N -L 1:a:2 -L 8085:b:3 -i key jump", "tunnel to b:3 through jump"),
        ("ssh -N -L 8085:/run/db.sock jump", "tunnel to /run/db.sock through jump"),
        ("ssh -N -D 8085 jump", "SOCKS proxy (-D) through jump"),
        ("ssh -N -D *:8085 jump", "SOCKS proxy (-D) through jump"),
        ("ssh -N jump", "tunnel through jump"),
        ("ssh -N -L 80850:db:5432 jump", "tunnel through jump"),
    ],
)
def test_what_an_ssh_forwards_is_read_from_its_command_line(words: str, name: str) -> None:
    client = process(60, INIT, "ssh", *words.split())
    judged = tunnel.classify(holder(client), Snapshot(processes=(INIT, client)), NOTHING)
    assert judged is not None
    assert judged.chain[-1] == name
    assert isinstance(step_for(judged), KillStep)
    session = any("it is also a session" in fact for fact in judged.evidence)
    assert session == ("N" not in words)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("kubectl port-forward svc/web 8085:80", "kubectl port-forward to svc/web port 80"),
        (
            "kubectl --context prod -n shop port-forward --address 0.0.0.0 deploy/web 8085",
            "kubectl port-forward to deploy/web port 8085 in namespace shop of context prod",
        ),
        ("kubectl port-forward pod/web :80", "kubectl port-forward to pod/web"),
        (
            "kubectl port-forward --namespace=shop pod/web 1:2 8085:80",
            "kubectl port-forward to pod/web port 80 in namespace shop",
        ),
    ],
)
def test_what_kubectl_forwards_is_read_from_its_command_line(words: str, name: str) -> None:
    client = process(60, INIT, "kubectl", *words.split())
    judged = tunnel.classify(holder(client), Snapshot(processes=(INIT, client)), NOTHING)
    assert judged is not None
    assert judged.chain[-1] == name


@pytest.mark.parametrize("words", ["kubectl proxy --port=8085", "sshfs jump: /mnt", "python3 ssh"])
def test_other_programs_are_no_tunnels(words: str) -> None:
    client = process(60, INIT, words.partition(" ")[0], *words.split())
    assert tunnel.classify(holder(client), Snapshot(processes=(INIT, client)), NOTHING) is None


@pytest.mark.parametrize(
    ("name", "title", "session"),
    [
        ("sshd", "sshd: ann@pts/0", "session of ann on pts/0"),
        ("sshd-session", "sshd-session: ann@notty", "session of ann on notty"),  # OpenSSH 9.8
        ("sshd", "sshd: root", "session of root"),
    ],
)
def test_the_titles_of_ssh_sessions(name: str, title: str, session: str) -> None:
    daemon = process(70, INIT, name, title)
    judged = remote_forward.classify(holder(daemon), Snapshot(processes=(INIT, daemon)), NOTHING)
    assert judged is not None
    assert (judged.kind, judged.chain[1]) == (Kind.PROTECTED, session)


def test_the_listener_of_sshd_is_no_session() -> None:
    title = "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"
    daemon = process(70, INIT, "sshd", title)
    snapshot = Snapshot(processes=(INIT, daemon))
    assert remote_forward.classify(holder(daemon), snapshot, NOTHING) is None


@pytest.mark.parametrize("place", ["", "not-booted"])
def test_only_systemd_is_asked_for_the_unit_of_what_is_part_of_the_system(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protected, "SD_BOOTED", str(tmp_path / place))
    daemon = process(70, INIT, "sshd", "/usr/sbin/sshd")
    judged = protected.classify(holder(daemon), Snapshot(processes=(INIT, daemon)), NOTHING)
    assert judged is not None
    assert "never ended from here: the way into this machine" in judged.reason
    status = "systemctl status 70   # names its unit, if it has one"
    assert lines(judged.commands) == ([] if place else [status])


# --- pm2: names that `pm2 stop` would take for something else -------------------------------------


@pytest.mark.parametrize("name", ["all", "7", "/web/", "app.json", "shop", "-f"])
def test_pm2_is_given_a_number_where_a_name_would_reach_others(name: str) -> None:
    entry = {"pm_id": 3, "name": name, "pid": 42, "pm2_env": {"namespace": "shop"}}
    mine = convert(entry, pm2.Application)
    assert pm2.target(mine, [mine]) == ("3",)
