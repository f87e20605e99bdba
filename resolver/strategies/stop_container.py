"""Stop a container through its engine, with the container's own grace period."""

from __future__ import annotations

import shlex
import threading
from contextlib import closing
from typing import TYPE_CHECKING

from resolver.errors import EngineError, EngineNotPermittedError, StateChangedError
from resolver.host.engine_client import EngineClient
from resolver.host.podman import PodmanCommand
from resolver.model import Outcome, Result
from resolver.settings import COMMAND_TIMEOUT_SECONDS, WATCH_INTERVAL_SECONDS

if TYPE_CHECKING:
    from resolver.model import Container, Policy, StopContainerStep
    from resolver.protocols import Clock, CommandRunner, Observer

    _Engine = EngineClient | PodmanCommand

NEVER = -1  # seconds after which the engine kills (docker-stop(1), podman-stop(1))


def stop_container(
    step: StopContainerStep, policy: Policy, run: CommandRunner, clock: Clock, observer: Observer
) -> Outcome:
    """`docker stop`; with `force` without any grace. A container that has gone is success.

    What must not be killed is waited for, and left to its end where that takes too long.
    """
    container = step.container
    own = container.stop_timeout_seconds
    seconds = 0 if policy.force else NEVER if step.lenient else own
    actions: list[str] = []
    begun = clock.now()
    engine = _engine(container, policy, run)
    request = _StopRequest(container, engine, seconds, actions, observer)
    patience = max(step.patience_seconds, own) if step.lenient and not policy.force else None
    try:
        _follow(request, clock, observer, patience)
    except StateChangedError:
        return Outcome(step, Result.GONE, "the container had already gone", tuple(actions))
    except EngineNotPermittedError as error:
        return Outcome(step, Result.NOT_PERMITTED, str(error), tuple(actions))
    except EngineError as error:
        return Outcome(step, Result.FAILED, str(error), tuple(actions))
    if request.is_alive():
        detail = f"still ending after {patience:g} s; {step.lenient}"
        return Outcome(step, Result.FAILED, detail, tuple(actions))
    return Outcome(step, Result.DONE, f"stopped after {clock.now() - begun:.1f} s", tuple(actions))


def _engine(container: Container, policy: Policy, run: CommandRunner) -> _Engine:
    if container.by_command:
        return PodmanCommand(container, run, COMMAND_TIMEOUT_SECONDS)
    return EngineClient(container.engine, policy.docker_timeout_seconds, container.uid)


class _StopRequest(threading.Thread):
    """The request, in a thread of its own, so that progress can be shown meanwhile."""

    def __init__(
        self,
        container: Container,
        engine: _Engine,
        seconds: int,
        actions: list[str],
        observer: Observer,
    ) -> None:
        super().__init__(name="docker stop", daemon=True)
        self.container = container
        self.seconds = seconds
        self.error: Exception | None = None
        self._engine = engine
        self._actions = actions
        self._observer = observer

    def run(self) -> None:
        try:
            with closing(self._engine) as engine:
                self._request(engine)
        except (StateChangedError, EngineError) as error:
            self.error = error

    def _did(self, action: str) -> None:
        self._actions.append(action)
        self._observer.did(action)

    def _command(self, *words: str) -> str:
        return shlex.join((*self.container.client, *words, self.container.handle))

    def _request(self, engine: _Engine) -> None:
        """A paused process cannot react to its stop signal, so it is woken up first."""
        if self.container.state == "paused":
            engine.unpause(self.container.id)
            self._did(self._command("unpause"))
        self._did(self._command("stop", "--time", str(self.seconds)))
        engine.stop(self.container.id, self.seconds)


def _follow(stop: _StopRequest, clock: Clock, observer: Observer, patience: float | None) -> None:
    """Waits for the request, which has a deadline of its own, and raises what it raised.

    `patience`: after so many seconds it is no longer waited for.
    """
    stop.start()
    deadline = clock.now() + (patience or stop.seconds)
    while stop.is_alive():
        left = max(0.0, deadline - clock.now())
        if patience and not left:
            return
        observer.waiting(f"container {stop.container.name} to stop", left)
        stop.join(WATCH_INTERVAL_SECONDS)
    if stop.error is not None:
        raise stop.error
