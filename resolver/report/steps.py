"""What a step does, in a few words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from resolver.model import KillStep, StopContainerStep, StopServiceStep
from resolver.report.escape import escape
from resolver.shell import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.model import Step


def action(step: Step) -> str:
    """`end node 4711`, `stop container web`, `stop supervisord shop:web`."""
    match step:
        case KillStep():
            return f"end {', '.join(str(process) for process in step.masters)}"
        case StopContainerStep():
            return f"stop {step.container.title}"
        case StopServiceStep():
            stop = f"stop {step.manager.kind} {step.manager.name}"
            return f"{stop}, then {action(step.then)}" if step.then else stop
        case _:
            return "leave it alone"


def under_way(step: Step, begun: Sequence[str], seconds_left: float) -> str:
    """What goes on of a step that nobody waits for any more, and what takes it back.

    An engine finishes the stop that it was asked for, and a `docker start` meanwhile is lost.

    Args:
        step: the one that was interrupted.
        begun: what was done for it, at least one thing, printable.
        seconds_left: until the engine kills the container.
    """
    match step:
        case StopContainerStep():
            goes_on = _stops(step, begun, seconds_left)
        case KillStep():
            goes_on = f"{', '.join(begun)}: sent, and it may still end"
        case _:
            goes_on = f"{'; '.join(begun)}: already asked for, and may go on without us"
    back = "; ".join(map(shown, step.undo))
    return f"{goes_on}. To have it back then: {back}" if back else goes_on


def _stops(step: StopContainerStep, begun: Sequence[str], seconds_left: float) -> str:
    container = step.container
    if container.by_command:
        return f"{begun[-1]} was broken off; {escape(container.title)} may still stop"
    asked = f"the engine was already asked to stop {escape(container.name)}"
    if step.lenient or container.stop_timeout_seconds < 0:  # it is never killed
        return f"{asked}, and it may still stop"
    soon = f" (within {math.ceil(seconds_left)} s)" if seconds_left else ""
    return f"{asked}, and will{soon}"
