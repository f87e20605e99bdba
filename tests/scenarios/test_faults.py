"""Safety, proven: whatever happens in the middle of a run, only what was planned for is signalled.

Each round is one run of the pipeline on real processes and a real port. At a random call into the
package (any function, from the first bind to the last verdict), everything stands still while a
fault happens: the holder ends, is replaced, forks, changes its user, stops or lets go; somebody
else takes the port; the engine dies. Then the run goes on, and its promises are checked.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from resolver import pipeline
from resolver.api import Silent
from resolver.errors import UltraPortsError
from resolver.gather import list_sockets
from resolver.host.runner import run_command
from resolver.model import ExitStatus, Policy, PortNumber, PortRequest, Report
from resolver.strategies import Effects
from tests.conftest import NOBODY
from tests.lab.cli import ultra
from tests.lab.dying_engine import cut_short, dying_engine
from tests.lab.engine import forwarders
from tests.lab.ports import free_port, is_free
from tests.lab.processes import ROOT, Lab, unavailable
from tests.lab.troupe import Actor, Troupe, troupe
from tests.lab.witness import Calls, HastyClock, Witness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dying_engine import DyingEngine
    from tests.lab.engine import Engine

SEEDS = range(8)
ROUNDS = 40
DEATHS = 5
FAST = ("--settle", "0.3", "--grace", "1")
PATIENCE = Policy(grace_seconds=0.8, settle_seconds=0.4, docker_timeout_seconds=1.0)
REACTIONS = ("end", "end", "ignore", "close", "linger", "split")
FAULTS = ("ends", "replaced", "forks", "changes user", "stops", "lets go", "taken", "engine dies")
IS_ROOT = os.geteuid() == 0


@dataclass(frozen=True)
class Scene:
    """What one round is about: random numbers decide it all."""

    reaction: str  # of the holder, to SIGTERM
    fault: str
    function: str  # of the package, at whose `occurrence`-th call the fault happens
    occurrence: int
    address: str | None = None
    workers: int = 0
    client: bool = False
    portable: bool = False
    nobody: bool = False  # the holder and the tool are an ordinary user's
    force: bool = False

    @classmethod
    def chosen(cls, rng: random.Random, calls: Counter[str]) -> Scene:
        """A scene whose fault happens at one of the `calls` of an ordinary run."""
        room = rng.choice(sorted({re.split("[/:]", name)[0] for name in calls}))
        function = rng.choice(sorted(name for name in calls if name.startswith(room)))
        return cls(
            reaction=rng.choice(REACTIONS),
            fault=rng.choice(
                FAULTS if IS_ROOT else [each for each in FAULTS if "user" not in each]
            ),
            function=function,
            occurrence=rng.randint(1, min(calls[function], 20)),
            address=rng.choice([None, "127.0.0.1"]),
            workers=rng.choice([0, 0, 0, 2]),
            client=rng.random() < 0.4,
            portable=rng.random() < 0.15,
            nobody=IS_ROOT and rng.random() < 0.2,
            force=rng.random() < 0.15,
        )


class Stage:
    """The processes of one round, and the fault that befalls them."""

    def __init__(self, troupe: Troupe, engine: DyingEngine, scene: Scene) -> None:
        self.troupe = troupe
        self.engine = engine
        self.scene = scene
        self.port = free_port()
        self.witness = Witness()
        self.calls: Counter[str] = Counter()
        self.fired = self.armed = False
        self.holder = troupe.actor(scene.reaction)
        self.cast = [self.holder]
        if scene.nobody:
            self._order(self.holder, f"become {NOBODY}")
        self._order(self.holder, self.bind)
        for _ in range(scene.workers):
            self._fork()
        self.other = troupe.actor()
        self.bystanders = [self._bystander(order) for order in self._occupations()]

    @property
    def bind(self) -> str:
        """The order to take the port."""
        return f"bind tcp {self.scene.address or '0.0.0.0'} {self.port}"

    def _order(self, actor: Actor, order: str) -> None:
        assert actor.told(order) == "ok", order

    def _bystander(self, order: str) -> Actor:
        actor = self.troupe.actor("ignore")
        self._order(actor, order)
        return actor

    def _occupations(self) -> Iterator[str]:
        """With the same number in another transport or address, connected to it, or near it."""
        yield f"bind udp 127.0.0.1 {self.port}"
        yield f"bind tcp 127.0.0.1 {free_port()}"
        if self.scene.address is not None:
            yield f"bind tcp 127.0.0.2 {self.port}"
        if self.scene.client:
            yield f"connect 127.0.0.1 {self.port}"

    def _fork(self) -> None:
        child = self.troupe.fork(self.holder)
        self.cast += [child] if child else []

    def hears(self, function: str, count: int) -> None:
        """Of each call into the package: it is time for the fault, or not."""
        self.calls[function] += 1
        if not self.fired and (function, count) == (self.scene.function, self.scene.occurrence):
            self.fired = True
            try:
                self._strike()
            except OSError as error:  # which the package might take for its own
                raise AssertionError("the fault failed") from error
            self.witness.faulted()
        elif self.armed and count % 5 == 0:
            self._take()

    def _strike(self) -> None:
        match self.scene.fault:
            case "ends" | "replaced":
                for actor in self.cast:
                    actor.ends()
                if self.scene.fault == "replaced":
                    self._take()
            case "forks":
                self._fork()
            case "taken":
                self._take()
            case "engine dies":
                self.engine.dies(in_answer=self.scene.occurrence % 2 == 0)
            case fault:
                orders = {"changes user": f"become {NOBODY}", "stops": "halt", "lets go": "close"}
                self.holder.told(orders[fault])

    def _take(self) -> None:
        """Somebody else takes the port, as soon as that can be done."""
        self.armed = self.other.told(self.bind) != "ok"
        self.witness.faulted()

    def clear(self) -> None:
        """Nobody is left."""
        self.troupe.dismiss([*self.cast, self.other, *self.bystanders])


@contextlib.contextmanager
def as_user(uid: int) -> Iterator[None]:
    """This process is another user's, but for the way back."""
    os.setresuid(uid, uid, 0)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setresuid(0, 0, 0)


def run(stage: Stage) -> Report | UltraPortsError:
    """One run of the pipeline in this process; no other exception may come out of it."""
    scene = stage.scene
    euid = NOBODY if scene.nobody else os.geteuid()
    request = PortRequest(PortNumber(stage.port), address=scene.address)
    effects = Effects(HastyClock(stage.witness), run_command, Silent(), list_sockets)
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setenv("DOCKER_HOST", stage.engine.host)
        if scene.portable:
            patch.setenv("ULTRA_PORTS_GATHER", "psutil")
        stage.witness.install(patch)
        if scene.nobody:
            stack.enter_context(as_user(NOBODY))
        stack.enter_context(Calls(stage.hears))
        try:
            return pipeline.resolve(
                [request], replace(PATIENCE, force=scene.force, euid=euid), effects
            )
        except UltraPortsError as error:
            return error


def check(stage: Stage, end: Report | UltraPortsError, planned: set[int]) -> None:
    """The promises, after one run; `planned` are the processes in the plans of all rounds."""
    witness = stage.witness
    for actor in stage.bystanders:
        assert actor.alive
        assert actor.pid not in witness.planned
    for event in stage.troupe.news():
        assert event["pid"] in planned, event
    if isinstance(end, Report) and end.exit_status == ExitStatus.FREE:
        assert witness.proved_at > witness.waited_at, "the last proof was not the last thing"
        late = witness.faulted_at > witness.proved_at
        assert late or serves(stage), "exit 0 with the port held"


def serves(stage: Stage) -> bool:
    """Whether a server, which sets SO_REUSEADDR as most do, can now have the port."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((stage.scene.address or "0.0.0.0", stage.port))
            server.listen()
        except OSError:
            return False
    return True


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """How often each function of the package is called in runs without a fault."""
    counted: Counter[str] = Counter()
    with Lab(tmp_path_factory.mktemp("calls")) as lab, troupe(lab) as actors:
        for portable in (False, True):  # loads what is loaded late
            counted_calls(actors, Scene("end", "", "", 0, portable=portable))
        for reaction in ("end", "ignore"):
            counted |= counted_calls(actors, Scene(reaction, "", "", 0, workers=2))
    return counted


def counted_calls(actors: Troupe, scene: Scene) -> Counter[str]:
    """The calls of one run without a fault."""
    with dying_engine() as engine:
        stage = Stage(actors, engine, scene)
        try:
            run(stage)
        finally:
            stage.clear()
    return stage.calls


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_only_what_was_planned_for_is_signalled(lab: Lab, calls: Counter[str], seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - a schedule that can be repeated
    planned: set[int] = set()
    fired: Counter[str] = Counter()
    with troupe(lab) as actors:
        for number in range(ROUNDS):
            scene = Scene.chosen(rng, calls)
            with dying_engine() as engine:
                stage = Stage(actors, engine, scene)
                try:
                    end = run(stage)
                    planned |= stage.witness.planned
                    check(stage, end, planned)
                except Exception as error:
                    raise AssertionError(f"seed {seed}, round {number}: {scene}") from error
                finally:
                    stage.clear()
            fired[scene.fault] += stage.fired
    assert fired.total() >= ROUNDS // 2, fired


@pytest.mark.engine
@pytest.mark.slow
def test_an_engine_that_dies_in_mid_answer(engine: Engine) -> None:
    rng = random.Random(0)  # noqa: S311 - a schedule that can be repeated
    near = engine.publish(f"{(near_port := free_port())}:80")
    for _ in range(DEATHS):
        port, length = free_port(), int(10 ** rng.uniform(0, 4.5))
        web = engine.publish(f"{port}:80")
        web.wait_for(port)
        proxies = forwarders(port)
        with cut_short(engine.socket, length) as host:
            run = ultra("resolve", *FAST, str(port), env={"DOCKER_HOST": host})
        said = f"after {length} bytes: {run}"
        assert run.status in {0, 1, 5}, said
        if run.status == 0:
            assert is_free(port), said
            assert web.state in {"exited", "absent"}, said
        if web.state == "running":
            assert forwarders(port) == proxies, said
            assert web.serves(port), said
    near.wait_for(near_port)
    assert engine.answers()


# The newcomer takes over the PID at the first call of the second function after the first one.
MOMENTS = {
    "planned": ("pipeline.py:carry_out", "strategies/__init__.py:apply"),
    "opening": ("strategies/kill.py:_Signalled.open", "strategies/kill.py:_Signalled.open"),
    "identifying": ("strategies/kill.py:_Signalled.open", "host/identity.py:identify"),
    "opened": ("strategies/kill.py:_Signalled.open", "strategies/kill.py:_Signalled.exists"),
    "sending": ("strategies/kill.py:_Signalled.open", "strategies/kill.py:_Signalled.signal"),
}


@pytest.mark.root
@pytest.mark.parametrize("how", ["gently", "force"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_newcomer_with_the_same_pid_is_not_signalled(moment: str, how: str) -> None:
    if not IS_ROOT or (unshare := shutil.which("unshare")) is None:
        unavailable("a PID namespace needs root and unshare(1)")
    namespace = (unshare, "--pid", "--fork", "--mount-proc", "--kill-child")
    script = (sys.executable, "-m", "tests.lab.servers.reuse")
    done = subprocess.run(
        [*namespace, *script, str(free_port()), *MOMENTS[moment], how],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["reused"], "the newcomer has another PID: the test shows nothing"
    assert told["another"]
    assert told["lives"]
    assert told["heard"] == ""
    assert told["status"] == 1
    assert told["verdict"] in {"held", "retaken"}
