"""What a step does, in a few words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.model import KillStep, StopContainerStep, StopServiceStep

if TYPE_CHECKING:
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
