"""Stop a container through its engine, with the container's own grace period."""

from __future__ import annotations

import shlex
import signal
from concurrent.futures import wait
from contextlib import closing
from typing import TYPE_CHECKING

from resolver.errors import EngineNotPermittedError, StateChangedError, UltraPortsError
from resolver.host.background import begin
from resolver.host.engine_client import EngineClient
from resolver.host.podman import PodmanCommand
from resolver.model import Outcome, Result
from resolver.settings import COMMAND_TIMEOUT_SECONDS, WATCH_INTERVAL_SECONDS

if TYPE_CHECKING:
    from concurrent.futures import Future

    from resolver.model import Container, Policy, StopContainerStep
    from resolver.protocols import CommandRunner
    from resolver.strategies import Effects

NEVER = -1  # seconds after which the engine kills (docker-stop(1), podman-stop(1))
_KILLED = 128 + signal.SIGKILL  # exit status of a container (Engine API, `State.ExitCode`)


def stop_container(step: StopContainerStep, policy: Policy, effects: Effects) -> Outcome:
    """`docker stop`; with `force` without any grace. A container that has gone is success.

    What must not be killed is waited for, and left to its end where that takes too long. The
    request has a deadline of its own; it is made in a thread, so that progress can be shown.
    """
    container, clock, actions = step.container, effects.clock, list[str]()
    own = container.stop_timeout_seconds
    seconds = 0 if policy.force else NEVER if step.lenient else own
    patience = max(step.patience_seconds, own) if step.lenient and not policy.force else None

    def did(*words: str) -> None:
        actions.append(shlex.join(container.command(*words)))
        effects.observer.did(actions[-1])

    def stop() -> bool:
        with closing(_engine(container, policy, effects.run)) as engine:
            if container.state == "paused":  # it cannot react to its stop signal
                engine.unpause(container.id)
                did("unpause")
            did("stop", "--time", str(seconds))
            engine.stop(container.id, seconds)
            return 0 < seconds <= clock.monotonic() - begun and _was_killed(engine, container.id)

    begun = clock.monotonic()
    stopping = begin("docker stop", stop)
    while not stopping.done():
        left = max(0.0, begun + (patience or seconds) - clock.monotonic())
        if patience and not left:
            detail = f"still ending after {patience:g} s; {step.lenient}"
            return Outcome(step, Result.FAILED, detail, tuple(actions))
        effects.observer.waiting(f"container {container.name} to stop", left)
        wait([stopping], WATCH_INTERVAL_SECONDS)
    result, trouble, killed = _result(stopping)
    took = f"{clock.monotonic() - begun:.1f} s"
    detail = f"killed after {took}: it did not stop within {seconds} s"
    return Outcome(
        step, result, trouble or (detail if killed else f"stopped after {took}"), tuple(actions)
    )


def _was_killed(engine: EngineClient | PodmanCommand, container_id: str) -> bool:
    """Whether it was SIGKILL that ended the container; False where its engine cannot say, too."""
    try:
        return engine.exit_status(container_id) == _KILLED
    except UltraPortsError:  # such as one that was removed when it stopped
        return False


def _result(stopping: Future[bool]) -> tuple[Result, str, bool]:
    """How the request ended, what was in the way (empty for nothing), and whether it was killed."""
    try:
        killed = stopping.result()
    except StateChangedError:
        return Result.GONE, "the container had already gone", False
    except EngineNotPermittedError as error:
        return Result.NOT_PERMITTED, str(error), False
    except UltraPortsError as error:
        return Result.FAILED, str(error), False
    return Result.DONE, "", killed


def _engine(
    container: Container, policy: Policy, run: CommandRunner
) -> EngineClient | PodmanCommand:
    if container.by_command:
        return PodmanCommand(container, run, COMMAND_TIMEOUT_SECONDS)
    return EngineClient(container.engine, policy.docker_timeout_seconds, container.uid)
