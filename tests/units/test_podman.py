"""podman without its API: what its command line prints, and whose containers that makes.

The answers in `recorded/` are podman 5.8.6's (Debian forky, rootless, `podman ps --all --pod
--no-trunc --format json` and `podman inspect --type container`; of the latter, the parts that are
read). `tests/today` asks a real one.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from resolver import verdicts
from resolver.classify import agents, container, desktop, orphan, protected
from resolver.collateral import with_collateral
from resolver.errors import CommandFailedError
from resolver.examine import examine
from resolver.gather import list_sockets
from resolver.gather.holders import holders
from resolver.gather.podman import conmons_container, with_podman
from resolver.host import trust
from resolver.host.identity import identify
from resolver.host.processes import descendants
from resolver.model import (
    AdviseStep,
    Binding,
    Completed,
    Container,
    Diagnosis,
    EngineState,
    Kind,
    Pid,
    Policy,
    PortNumber,
    PortRequest,
    Process,
    ProcessIdentity,
    Result,
    Snapshot,
    Socket,
    SocketState,
    StopContainerStep,
    StopServiceStep,
    Transport,
    Verdict,
)
from resolver.shell import shell_line
from resolver.strategies import Effects
from resolver.strategies.choose import choose
from resolver.strategies.stop_container import stop_container
from tests.lab.answers import Answers
from tests.lab.processes import wait_until
from tests.units.test_recorded_managers import INIT, NOTHING, PROGRAM, process

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


RECORDED = Path(__file__).parent / "recorded"
LISTED: list[dict[str, Any]] = json.loads((RECORDED / "podman-ps.json").read_text())
BOX = next(each["Id"] for each in LISTED if each["Names"] == ["box1"])
POD = next(each["Pod"] for each in LISTED if each["PodName"])
NOBODY = pwd.getpwnam("nobody")
RUNTIME = "/run/user/1500"

pytestmark = pytest.mark.root


class Podman(Answers):
    """Answers as podman did."""

    def __init__(self, rows: Sequence[dict[str, Any]] = LISTED) -> None:
        super().__init__(self._answer, folder="/")
        self.rows = rows
        self.failure: Completed | None = None

    def _answer(self, argv: tuple[str, ...]) -> Completed:
        if self.failure:
            return self.failure
        if argv[1] == "ps":
            return Completed(0, json.dumps(self.rows), "")
        if "{{.State.ExitCode}}" in argv:
            return Completed(0, "137\n", "")
        if argv[1] == "inspect":
            details = json.loads((RECORDED / "podman-inspect.json").read_text())
            return Completed(0, json.dumps([e for e in details if e["Id"] in argv]), "")
        return Completed(0, "", "")


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "is_installed", lambda name: name == "podman")


def of(
    pid: int, name: str, *command: str, uid: int = NOBODY.pw_uid, above: Process = INIT
) -> Process:
    return process(
        pid,
        above,
        name,
        *command,
        uid=uid,
        uids=(uid, uid, uid),
        executable=PROGRAM,
        environment=(("XDG_RUNTIME_DIR", RUNTIME),),
    )


def conmon(container_id: str, name: str = "box1", uid: int = NOBODY.pw_uid) -> Process:
    return of(710, "conmon", "/usr/bin/conmon", "-c", container_id, "-n", name, uid=uid)


def serving(found: Process, port: int, uid: int | None = None) -> Socket:
    binding = Binding(Transport.TCP, "::", PortNumber(port))
    maker = found.uid if uid is None else uid
    return Socket(binding, SocketState.LISTENING, 9, uid=maker, owners=(found.identity,))


def look(podman: Podman, entry: Socket, *line: Process) -> Snapshot:
    """What the pipeline gathers, from these processes and this socket."""
    processes = (INIT, *line)
    containers, engines = with_podman((), (entry,), processes, podman)
    return Snapshot((entry,), processes, containers=containers, engines=engines)


def step_of(snapshot: Snapshot) -> StopContainerStep:
    [holder] = holders(snapshot, None)
    judged = container.classify(holder, snapshot, NOTHING)
    assert judged is not None
    [step] = choose([judged], Policy(), ()).steps
    assert isinstance(step, StopContainerStep)
    return step


@pytest.mark.parametrize("name", ["rootlessport", "pasta.avx2", "slirp4netns"])
def test_a_forwarders_pod_is_found_as_its_user_and_stopped_as_a_whole(name: str) -> None:
    podman, forwarder = Podman(), of(700, name)
    step = step_of(look(podman, serving(forwarder, 18089), forwarder))

    prefix = "sudo -u nobody env XDG_RUNTIME_DIR=/run/user/1500"
    assert [shell_line(each) for each in step.commands] == [f"{prefix} podman pod stop shop"]
    assert [shell_line(each) for each in step.undo] == [f"{prefix} podman pod start shop"]
    assert step.container.sharing == ("shopdb", "shopweb")
    assert {account and account.uid for account in podman.accounts} == {NOBODY.pw_uid}


def test_a_pods_policy_and_members_are_explained() -> None:
    forwarder = of(700, "pasta")
    snapshot = look(Podman(), serving(forwarder, 18089), forwarder)
    judged = container.classify(holders(snapshot, None)[0], snapshot, NOTHING)
    assert judged is not None
    text = "; ".join(judged.evidence)
    assert "podman-restart.service" in text
    [members] = with_collateral([judged], snapshot)[0].collateral
    assert members.text == "its members shopdb, shopweb"
    assert "pod shop (of shopweb, shopdb)" in judged.reason


def test_on_the_hosts_network_the_conmon_above_tells() -> None:
    watcher = conmon(BOX)
    server = of(711, "httpd", "httpd", "-f", above=watcher)
    step = step_of(look(Podman(), serving(server, 18091), watcher, server))
    assert step.container.name == "box1"
    assert step.container.by_command


def test_a_container_that_has_ended_publishes_nothing() -> None:
    """podman lists its ports all the same."""
    forwarder = of(700, "pasta")
    snapshot = look(Podman(), serving(forwarder, 18086), forwarder)
    assert snapshot.containers == ()
    assert [each.endpoint for each in snapshot.engines] == ["podman of nobody"]


def test_a_strangers_conmon_does_not_speak_for_others() -> None:
    """Root's container, named by a stranger's process: his word counts for his own engine's."""
    roots = Container(BOX, "database", engine="unix:///run/podman/podman.sock", uid=0)
    watcher = conmon(BOX, "database")
    server = of(711, "httpd", above=watcher)
    entry = serving(server, 18091)
    [holder] = holders(Snapshot((entry,), (INIT, watcher, server), containers=(roots,)), None)
    assert holder.container is not None
    assert holder.container.engine == ""


def test_roots_podman_is_asked_by_root_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    podman, watcher = Podman(), conmon(BOX, uid=0)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY.pw_uid)
    snapshot = look(podman, serving(watcher, 18091), watcher)
    assert podman.asked == []
    [engine] = snapshot.engines
    assert (engine.forbidden, engine.client) == (True, ("sudo", "podman"))


def test_what_podman_does_not_say_is_said_beside_the_command() -> None:
    podman, watcher = Podman(), conmon("0" * 64, "web")
    podman.failure = Completed(125, "", "Error: database is locked\n")
    snapshot = look(podman, serving(watcher, 18085), watcher)
    judged = desktop.classify(holders(snapshot, None)[0], snapshot, NOTHING)
    assert judged is not None
    [line] = [shell_line(each) for each in judged.commands]
    assert "database is locked" in line
    assert "NAME" not in line


def test_an_unknown_container_is_called_by_the_name_that_its_conmon_says() -> None:
    watcher = conmon("0" * 64, "web", uid=0)
    server = of(711, "httpd", above=watcher)
    snapshot = look(Podman([]), serving(server, 18085), watcher, server)
    judged = container.classify(holders(snapshot, None)[0], snapshot, NOTHING)
    assert judged is not None
    assert [shell_line(each) for each in judged.commands] == ["podman stop web"]


@pytest.mark.parametrize(
    ("main", "restart", "confidence", "respawn"),
    [
        ("4711", "always", "confirmed", "yes"),
        ("4711", "no", "confirmed", "unknown"),
        ("4712", "always", "suspected", "unknown"),
        (None, "always", "suspected", "unknown"),
    ],
)
def test_a_rootless_quadlets_unit_is_its_users(
    main: str | None, restart: str, confidence: str, respawn: str
) -> None:
    """Confirmed where the unit's main process is the container's conmon (recorded, podman 5.8)."""
    labels = {"PODMAN_SYSTEMD_UNIT": "web.service", "com.docker.compose.project": "ours"}
    details = json.loads((RECORDED / "podman-inspect.json").read_text())
    for each in details:
        each["Config"]["Labels"] = labels
        each["State"]["ConmonPid"] = 4711
    watcher = conmon(BOX)
    server = of(711, "httpd", above=watcher)

    class Quadlets(Podman):
        def __call__(self, argv: Sequence[str], **keywords: Any) -> Completed:  # noqa: ANN401
            answer = super().__call__(argv, **keywords)
            return Completed(0, json.dumps([details[-1]]), "") if argv[1] == "inspect" else answer

    snapshot = look(Quadlets(), serving(server, 18091), watcher, server)
    [holder] = holders(snapshot, None)
    assert holder.container is not None
    asked = Answers(
        lambda _: (
            Completed(0, f"MainPID={main}\nRestart={restart}\nTriggeredBy=\n", "")
            if main
            else CommandFailedError("systemctl: Failed to connect to user scope bus")
        )
    )
    judged = agents.classify(holder, snapshot, asked)
    assert judged is not None
    assert (judged.confidence, judged.respawn) == (confidence, respawn)
    assert [argv[:4] for argv in asked.asked] == [("systemctl", "--user", "show", "web.service")]
    assert asked.accounts == [holder.container.account]
    [step] = choose([judged], Policy(stop_services=True), ()).steps
    assert isinstance(step, StopServiceStep) is (confidence == "confirmed")
    assert [shell_line(each) for each in step.commands] == [
        "sudo -u nobody env XDG_RUNTIME_DIR=/run/user/1500 systemctl --user stop web.service"
    ]
    [advised] = choose([judged], Policy(), ()).steps
    assert isinstance(advised, AdviseStep)
    assert holder.container.label("com.docker.compose.project") is None


class Still:
    """A clock and an observer that do nothing."""

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, _seconds: float) -> None:
        return

    def did(self, _action: str) -> None:
        return

    def waiting(self, _what: str, _seconds_left: float) -> None:
        return


@pytest.mark.parametrize(
    ("failure", "result"),
    [
        (None, Result.DONE),
        (Completed(125, "", "Error: no such container\n"), Result.GONE),
        (Completed(125, "", "Error: permission denied\n"), Result.FAILED),
    ],
)
def test_it_is_stopped_by_podman_with_its_own_grace(
    failure: Completed | None, result: Result
) -> None:
    podman, watcher = Podman(), conmon(BOX)
    server = of(711, "httpd", above=watcher)
    step = step_of(look(podman, serving(server, 18091), watcher, server))
    podman.failure = failure
    still: Any = Still()
    outcome = stop_container(step, Policy(), Effects(still, podman, still, list_sockets))
    assert outcome.result is result, outcome
    assert podman.asked[-1] == ("podman", "stop", "--time", "10", BOX)
    assert podman.accounts[-1] is not None
    assert podman.accounts[-1].uid == NOBODY.pw_uid


class Late(Still):
    """The same, whose clock goes on by 11 s where something is done."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def did(self, _action: str) -> None:
        self.seconds += 11


def test_one_that_podman_had_to_kill_is_said_to_be() -> None:
    podman, watcher = Podman(), conmon(BOX)
    server = of(711, "httpd", above=watcher)
    step = step_of(look(podman, serving(server, 18091), watcher, server))
    late: Any = Late()
    outcome = stop_container(step, Policy(), Effects(late, podman, late, list_sockets))
    assert outcome.reason == "killed after 11.0 s: it did not stop within 10 s"
    assert podman.asked[-1] == ("podman", "inspect", "--format", "{{.State.ExitCode}}", BOX)


@pytest.mark.parametrize(
    "command", [(), ("conmon",), ("conmon", "-c"), ("conmon", "-c", "short", "-n", "web")]
)
def test_a_conmon_that_does_not_say_its_container(command: tuple[str, ...]) -> None:
    assert conmons_container(of(710, "conmon", *command)) == ("", "")


# --- what outlived its container ------------------------------------------------------------------


PODMANS = ("--exit-command", "/usr/bin/podman")
ANSWERED = EngineState(
    "podman of nobody", client=("podman",), uid=NOBODY.pw_uid, foreign=True, chosen=False
)


@contextlib.contextmanager
def conmon_of(*command: str, words: tuple[str, ...] = PODMANS) -> Iterator[Process]:
    """A conmon as old as the machine, whose number is a process's that runs this command."""
    with subprocess.Popen(command) as running:
        named = of(710, "conmon", "conmon", "-c", "0" * 64, "-n", "web", *words)
        try:
            yield replace(named, identity=ProcessIdentity(Pid(running.pid), 0))
        finally:
            running.kill()


def judged_as(found: Process, *engines: EngineState) -> Kind | None:
    entry = serving(found, 18085)
    snapshot = Snapshot((entry,), (INIT, found), engines=engines)
    judged = orphan.classify(holders(snapshot, None)[0], snapshot, NOTHING)
    return judged.kind if judged else None


def test_a_conmon_whose_container_is_gone_is_an_orphan() -> None:
    with conmon_of("sleep", "600") as found:
        assert judged_as(found, ANSWERED) is Kind.ORPHAN
        young = replace(found, identity=identify(found.pid))
        assert judged_as(young, ANSWERED) is None


@pytest.mark.parametrize(
    "engine",
    [
        replace(ANSWERED, error="podman did not answer in 5 s"),
        replace(ANSWERED, asked=False),
        replace(ANSWERED, uid=0),
    ],
)
def test_it_is_ended_only_after_its_engine_said_so(engine: EngineState) -> None:
    with conmon_of("sleep", "600") as found:
        assert judged_as(found, engine) is None
        assert judged_as(found) is None


def test_a_conmon_of_another_runtime_or_with_a_child_is_left_alone() -> None:
    with conmon_of("sleep", "600", words=()) as found:
        assert judged_as(found, ANSWERED) is None
    with conmon_of(sys.executable, "-c", PARENT) as found:
        wait_until(lambda: descendants(found.pid), "it has a child")
        assert judged_as(found, ANSWERED) is None
        for child in descendants(found.pid):
            os.kill(child, signal.SIGKILL)


PARENT = "import subprocess; subprocess.run(['sleep', '600'])"


# --- two engines of Docker's on one machine -------------------------------------------------------


def test_a_proxy_of_an_engine_that_does_not_answer_here_is_named_with_it(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    command = ("dockerd", "--data-root", "/srv/docker", "-H", f"unix://{path}")
    dockerd = process(4242, INIT, "dockerd", *command, uid=0, uids=(0, 0, 0))
    proxy = process(4243, dockerd, "docker-proxy", "docker-proxy", uid=0, uids=(0, 0, 0))
    with socket.socket(socket.AF_UNIX) as taken_over:
        taken_over.bind(str(path))
        taken_over.listen()
        entry = serving(proxy, 18085)
        there = EngineState(f"unix://{path}")
        snapshot = Snapshot((entry,), (INIT, dockerd, proxy), engines=(there,))
        judged = protected.classify(holders(snapshot, None)[0], snapshot, NOTHING)
    assert judged is not None
    assert f"dockerd 4242 ({' '.join(command)})" in judged.reason
    [line] = [shell_line(each) for each in judged.commands]
    assert line.startswith("systemctl status 4242 ")
    [step] = choose([judged], Policy(force=True), ()).steps
    assert isinstance(step, AdviseStep)
    assert step.verdict is Verdict.REFUSED


# --- who has to read that the answer is partial ---------------------------------------------------


@pytest.mark.parametrize("held", [True, False])
def test_an_answer_is_partial_where_a_container_may_be_missing(*, held: bool) -> None:
    """For who is in no docker group; a port of his own has nothing to do with any container."""
    denied = EngineState("unix:///run/docker.sock", error="permission denied", forbidden=True)
    own = of(700, "python3")
    entry = serving(own, 18085)
    if held:
        entry = replace(entry, owners=(), uid=0)
    snapshot = Snapshot((entry,), (INIT, own), engines=(denied,))
    nothing = Answers(lambda argv: CommandFailedError(f"{argv[0]}: not here"), folder="/")
    found = examine(holders(snapshot, None), snapshot, nothing)
    diagnosis = Diagnosis(snapshot, choose(found, Policy(), ()))
    request = PortRequest(PortNumber(18085), Transport.TCP)
    port = verdicts.diagnosed(request, diagnosis, None, Policy())
    notes = verdicts.report("who", [port], snapshot).notes
    assert any(each.startswith("partial answer") for each in notes) is held
