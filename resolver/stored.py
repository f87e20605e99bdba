"""Plans that are kept: one run makes a plan file, another does just that, if nothing has changed.

The file is no list of orders. `apply` looks at the machine again, as `resolve` does, and compares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver import pipeline, planfile, verdicts
from resolver.errors import PlanChangedError
from resolver.host.machine import this_machine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.model import Policy, PortRequest, Report
    from resolver.planfile import PlanFile
    from resolver.strategies import Effects


def plan(
    requests: Sequence[PortRequest], policy: Policy, effects: Effects
) -> tuple[Report, PlanFile]:
    """Says what `resolve` would do, for people and as a plan that `apply` takes."""
    report, made = pipeline.plan(requests, policy, effects)
    return report, planfile.describe(requests, policy, made, this_machine())


def apply(stored: PlanFile, policy: Policy, effects: Effects) -> Report:
    """Does what a stored plan says, if a fresh plan says exactly the same.

    It is done in one round: what takes a port back was not in the plan.

    Raises:
        PlanChangedError: a holder changed, or another machine is meant; nothing was touched.
    """
    requests = planfile.requests_of(stored)
    then = replace(planfile.policy_for(stored, policy), complete=True)
    _refuse(stored, planfile.other_machine(stored, this_machine()))
    proofs = pipeline.prove(requests, effects)
    first = pipeline.diagnose(requests, proofs, then, effects)
    now = planfile.describe(requests, then, first.plan, this_machine())
    _refuse(stored, planfile.changes(stored, now))
    acting = replace(then, rounds=1, force=then.force or policy.force)
    ports = pipeline.carry_out(requests, proofs, first, acting, effects)
    return verdicts.report("apply", ports, first.snapshot)


def _refuse(stored: PlanFile, reason: str) -> None:
    if reason:
        message = f"the plan no longer fits, and nothing was touched: {reason}"
        raise PlanChangedError(
            message, verdicts.refused("apply", planfile.requests_of(stored), message)
        )
