"""Stop a managed service through its manager's own command; only where the caller asked for it."""

from __future__ import annotations

import re
from concurrent.futures import wait
from functools import partial
from typing import TYPE_CHECKING

from resolver.errors import CommandFailedError, UltraPortsError
from resolver.host.background import begin
from resolver.managed import ask
from resolver.model import Outcome, Result
from resolver.settings import SERVICE_TIMEOUT_SECONDS, WATCH_INTERVAL_SECONDS
from resolver.shell import join
from resolver.strategies.stop_container import stop_container

if TYPE_CHECKING:
    from resolver.model import Completed, Manager, Policy, StopServiceStep
    from resolver.strategies import Effects

_CLIENT_SECONDS = 3.0  # for a container to end when its client is asked to


def stop_service(step: StopServiceStep, policy: Policy, effects: Effects) -> Outcome:
    """Runs each of the manager's stop commands, up to the first that fails.

    A container whose client the manager runs is told to stop by its engine, too: its main process
    may ignore what the client passes on, and it may outlive the client.
    """
    if step.contained is None:
        return _stop(step, effects)
    manager = begin("manager", partial(_stop, step, effects))
    wait([manager], _CLIENT_SECONDS)
    contained = stop_container(step.contained, policy, effects)
    try:
        stopped = manager.result(SERVICE_TIMEOUT_SECONDS)
    except (TimeoutError, UltraPortsError):
        return Outcome(step, Result.FAILED, f"{step.manager.name} did not stop", contained.actions)
    worst = stopped if stopped.result is not Result.DONE else contained
    result = Result.DONE if worst.result is Result.GONE else worst.result
    reason = f"stopped {step.manager.name}" if result is Result.DONE else worst.reason
    return Outcome(step, result, reason, (*stopped.actions, *contained.actions))


def _stop(step: StopServiceStep, effects: Effects) -> Outcome:
    actions: list[str] = []
    for argv in step.manager.stop:
        effects.observer.waiting(f"{step.manager.name} to stop", SERVICE_TIMEOUT_SECONDS)
        prefix = step.manager.account.prefix if step.manager.account else ()
        actions.append(join((*prefix, *argv)))
        effects.observer.did(actions[-1])
        try:
            answer = _told(step.manager, argv, effects)
        except CommandFailedError as error:
            return Outcome(step, Result.FAILED, str(error), tuple(actions))
        if answer.status != 0:
            said = (answer.stderr.strip() or answer.stdout.strip()).partition("\n")[0]
            result = Result.NOT_PERMITTED if _prefixed(step) else Result.FAILED
            return Outcome(step, result, said or f"{argv[0]} failed", tuple(actions))
    try:
        _await_down(step.manager, effects)
    except CommandFailedError as error:
        why = f"{step.manager.name} was told to stop, but {error}"
        return Outcome(step, Result.FAILED, why, tuple(actions))
    return Outcome(step, Result.DONE, f"stopped {step.manager.name}", tuple(actions))


def _told(manager: Manager, argv: tuple[str, ...], effects: Effects) -> Completed:
    """What its command answers, in the end where it is busy."""
    deadline = effects.clock.monotonic() + manager.patience_seconds
    while True:
        answer = effects.run(
            argv,
            timeout_seconds=SERVICE_TIMEOUT_SECONDS,
            account=manager.account,
            folder="/",  # in the caller's, a stranger may have left a configuration file
        )
        is_busy = answer.status != 0 and manager.busy and effects.clock.monotonic() < deadline
        if not is_busy or not re.search(manager.busy, answer.stdout + answer.stderr):
            return answer
        effects.clock.sleep(WATCH_INTERVAL_SECONDS)


def _await_down(manager: Manager, effects: Effects) -> None:
    """Waits until a manager whose stop command returned at once says that the service is down.

    One that is only now starting it again would let it take the port for a moment.

    Raises:
        CommandFailedError: it could not be asked, or did not say so in time.
    """
    if manager.inquiry is None:
        return
    deadline = effects.clock.monotonic() + manager.patience_seconds
    while not re.search(
        manager.inquiry.down, ask(effects.run, manager.inquiry.argv, manager.account).stdout
    ):
        if effects.clock.monotonic() >= deadline:
            raise CommandFailedError(f"is not down after {manager.patience_seconds:g} s")
        effects.clock.sleep(WATCH_INTERVAL_SECONDS)


def _prefixed(step: StopServiceStep) -> bool:
    """Whether the printed command needs more privilege than this user has."""
    prefix = step.manager.prefix
    size = len(prefix)
    return bool(prefix) and any(each.argv[:size] == prefix for each in step.commands)
