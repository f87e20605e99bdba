"""Managers and products that cannot run in CI: what they show was recorded, and is said where.

These tests hold what we make of the recorded facts; they cannot show that the facts still hold.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import pytest

from resolver.classify import desktop, launchd, pm2, procfile, remote_forward, tunnel
from resolver.errors import CommandFailedError
from resolver.model import (
    AdviseStep,
    Binding,
    Classification,
    Completed,
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
from resolver.strategies.choose import choose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from resolver.model import Step

INIT = Process(ProcessIdentity(Pid(1), 0), "systemd")
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


class Commands:
    """Answers what was recorded, and fails where nothing was."""

    def __init__(self, answers: Mapping[tuple[str, ...], str]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, argv: Sequence[str], *, timeout_seconds: float) -> Completed:
        assert timeout_seconds > 0
        self.asked.append(tuple(argv))
        if tuple(argv) not in self.answers:
            raise CommandFailedError(f"{argv[0]}: No such file or directory")
        return Completed(0, self.answers[tuple(argv)], "")


NOTHING = Commands({})


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
    return launchd.classify(holder(found), snapshot, Commands(answers))


@pytest.mark.usefixtures("ann")
def test_an_agent_that_launchd_keeps_alive() -> None:
    answers = {LISTING: LIST, PRINTING: PRINT % "keepalive | runatload | inferred program"}
    judged = on_a_mac(REDIS, answers)
    assert judged is not None
    assert (judged.kind, judged.respawn) == (Kind.SERVICE, Respawn.YES)
    assert "Homebrew's own way: brew services stop redis" in judged.evidence
    step = step_for(judged)
    assert isinstance(step, AdviseStep)
    assert step.commands == ("launchctl bootout gui/501/homebrew.mxcl.redis",)
    plist = "/Users/ann/Library/LaunchAgents/homebrew.mxcl.redis.plist"
    assert step.undo == (f"launchctl bootstrap gui/501 {plist}",)


@pytest.mark.usefixtures("ann")
def test_an_agent_without_keep_alive_is_ended() -> None:
    judged = on_a_mac(REDIS, {LISTING: LIST, PRINTING: PRINT % "runatload | inferred program"})
    assert judged is not None
    step = step_for(judged)
    assert isinstance(step, KillStep)
    assert step.undo == ("launchctl kickstart gui/501/homebrew.mxcl.redis",)


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
    commands = Commands({})
    web = process(812, INIT, "python3")
    assert launchd.classify(holder(web), Snapshot(processes=(INIT, web)), commands) is None
    assert commands.asked == []


# --- forwarders of products (sources: resolver/classify/desktop.py) -------------------------------


class Forwarder(NamedTuple):
    """A process name as the product shows it, its product, and a command that is printed."""

    name: str
    product: str
    command: str


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
    Forwarder("rootlessport", "rootless podman", "podman ps --filter publish=8085/tcp"),
    Forwarder("pasta.avx2", "a rootless engine", "podman ps --filter publish=8085/tcp"),
    Forwarder("conmon", "podman", "podman ps --filter publish=8085/tcp"),
    Forwarder("gvproxy", "podman machine", "podman ps --filter publish=8085/tcp"),
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
    assert shown.command in step.commands


def test_an_engine_that_does_not_answer_leaves_it_undecided() -> None:
    forwarder = process(700, INIT, "rootlesskit", uid=501)
    silent = EngineState("unix:///run/docker.sock", trouble="it did not answer in 2 s")
    snapshot = Snapshot(processes=(INIT, forwarder), engines=(silent,))
    judged = desktop.classify(holder(forwarder), snapshot, NOTHING)
    assert judged is not None
    assert judged.kind is Kind.UNKNOWN
    assert "did not answer in 2 s" in judged.reason


def test_docker_proxy_is_left_to_those_who_know_its_engine() -> None:
    proxy = process(700, INIT, "docker-proxy")
    assert desktop.classify(holder(proxy), Snapshot(processes=(INIT, proxy)), NOTHING) is None


# --- Procfile runners that are in no package here -------------------------------------------------
# overmind 2 (start/tmux.go, start/command.go, cmd_stop.go), hivemind (process.go), goreman 0.3
# (main.go, proc.go), process-compose 1 (src/app/process.go, and its documentation's "cli" pages).


def overmind() -> tuple[Process, Process, Process]:
    """The tmux server, the script that overmind wrote, and the server that it runs."""
    script = "/tmp/overmind-shop-Vk3yO_7c/web"  # noqa: S108 - recorded
    words = ("tmux", "-C", "-L", "overmind-shop-Vk3yO_7c", "new", "-n", "web", "-s", "shop", script)
    tmux = process(50, INIT, "tmux: server", *words, cwd="/srv/shop")
    shell = process(51, tmux, "sh", "/bin/sh", script)
    return tmux, shell, process(52, shell, "python3", "python3", "-m", "http.server")


def judged_by_procfile(*line: Process, answers: Mapping[tuple[str, ...], str]) -> Classification:
    snapshot = Snapshot(processes=(INIT, *line))
    judged = procfile.classify(holder(line[-1]), snapshot, Commands(answers))
    assert judged is not None
    return judged


PS = ("overmind", "ps", "-s", "/srv/shop/.overmind.sock")


def test_overmind_stops_the_one() -> None:
    table = "PROCESS   PID       STATUS\nweb       51        running\napi       53        running\n"
    judged = judged_by_procfile(*overmind(), answers={PS: table})
    assert judged.confidence is Confidence.CONFIRMED
    step = step_for(judged, stop_services=True)
    assert isinstance(step, StopServiceStep)
    assert step.commands == ("overmind stop -s /srv/shop/.overmind.sock web",)
    assert step.undo == ("overmind restart -s /srv/shop/.overmind.sock web",)


def test_an_overmind_that_does_not_answer_is_suspected() -> None:
    judged = judged_by_procfile(*overmind(), answers={})
    assert judged.confidence is Confidence.SUSPECTED
    assert isinstance(step_for(judged, stop_services=True), AdviseStep)


def test_somebodys_tmux_is_not_overminds() -> None:
    tmux = process(50, INIT, "tmux: server", "tmux", "new", "-s", "work", cwd="/home/ann")
    server = process(51, tmux, "python3", "python3", "-m", "http.server")
    snapshot = Snapshot(processes=(INIT, tmux, server))
    assert procfile.classify(holder(server), snapshot, NOTHING) is None


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("hivemind",), "kill -INT 50"),
        (("/go/bin/hivemind", "Procfile"), "kill -INT 50"),
        (("goreman", "start"), "goreman run stop web"),
    ],
)
def test_a_runner_that_tells_no_names(tmp_path: Path, words: tuple[str, ...], command: str) -> None:
    (tmp_path / "Procfile").write_text("# all\napi: ./api\nweb: python3 -m http.server\n")
    runner = process(50, INIT, words[0].rsplit("/", 1)[-1], *words, cwd=str(tmp_path))
    shell = process(51, runner, "sh", "/bin/sh", "-c", "python3 -m http.server")
    server = process(52, shell, "python3", "python3", "-m", "http.server")
    judged = judged_by_procfile(runner, shell, server, answers={})
    assert judged.manager is not None
    assert judged.manager.name == "web"
    assert judged.manager.stop == (tuple(command.split()),)
    assert judged.manager.start == (("env", "-C", str(tmp_path), *words),)


def test_goreman_that_only_runs_a_command_is_no_runner() -> None:
    control = process(50, INIT, "goreman", "goreman", "run", "status")
    server = process(51, control, "python3", "python3", "-m", "http.server")
    snapshot = Snapshot(processes=(INIT, control, server))
    assert procfile.classify(holder(server), snapshot, NOTHING) is None


def test_process_compose_stops_the_one_at_the_port_where_it_was_started() -> None:
    runner = process(50, INIT, "process-compose", "process-compose", "-p", "9999", "up")
    environment = (("PC_PROC_NAME", "web"), ("PC_REPLICA_NUM", "0"))
    server = process(51, runner, "python3", "python3", environment=environment)
    question = ("process-compose", "-p", "9999", "process", "list", "-o", "json")
    answers: dict[tuple[str, ...], str] = {
        question: '[{"name": "web", "status": "Running", "pid": 51, "restarts": 0}]'
    }
    judged = judged_by_procfile(runner, server, answers=answers)
    assert judged.respawn is Respawn.UNKNOWN
    step = step_for(judged, stop_services=True)
    assert isinstance(step, StopServiceStep)
    assert step.commands == ("process-compose -p 9999 process stop web",)


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


# --- pm2: names that `pm2 stop` would take for something else -------------------------------------


@pytest.mark.parametrize("name", ["all", "7", "/web/", "app.json", "shop", "-f"])
def test_pm2_is_given_a_number_where_a_name_would_reach_others(name: str) -> None:
    mine = pm2._Application(3, 42, name, "shop", "autorestart=true", True, False)  # noqa: FBT003, SLF001
    assert pm2._target(mine, [mine]) == ("3",)  # noqa: SLF001
