"""Stop a managed service through its manager's own command; only where the caller asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.errors import CommandFailedError
from resolver.model import Outcome, Result
from resolver.settings import SERVICE_TIMEOUT_SECONDS
from resolver.shell import join

if TYPE_CHECKING:
    from resolver.model import StopServiceStep
    from resolver.protocols import CommandRunner, Observer


def stop_service(step: StopServiceStep, run: CommandRunner, observer: Observer) -> Outcome:
    """Runs each of the manager's stop commands, up to the first that fails."""
    actions: list[str] = []
    for argv in step.manager.stop:
        observer.waiting(f"{step.manager.name} to stop", SERVICE_TIMEOUT_SECONDS)
        prefix = step.manager.account.prefix if step.manager.account else ()
        actions.append(join((*prefix, *argv)))
        observer.did(actions[-1])
        try:
            answer = run(
                argv,
                timeout_seconds=SERVICE_TIMEOUT_SECONDS,
                account=step.manager.account,
                folder="/",  # in the caller's, a stranger may have left a configuration file
            )
        except CommandFailedError as error:
            return Outcome(step, Result.FAILED, str(error), tuple(actions))
        if answer.status != 0:
            said = (answer.stderr.strip() or answer.stdout.strip()).partition("\n")[0]
            result = Result.NOT_PERMITTED if _prefixed(step) else Result.FAILED
            return Outcome(step, result, said or f"{argv[0]} failed", tuple(actions))
    return Outcome(step, Result.DONE, f"stopped {step.manager.name}", tuple(actions))


def _prefixed(step: StopServiceStep) -> bool:
    """Whether the printed command needs more privilege than this user has."""
    prefix = step.manager.prefix
    size = len(prefix)
    return bool(prefix) and any(each.argv[:size] == prefix for each in step.commands)
