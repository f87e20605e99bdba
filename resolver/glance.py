"""A first look, for the question that is asked most: are these ports free?

Where every port could be bound, no engine publishes one of them or is about to, and no NAT rule
captures one, there is nobody to classify and nothing to do: the report is what the pipeline would
say, without loading it. In any other case there is no answer here, and the pipeline looks again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.gather import gather
from resolver.model import PortReport, Report, Verdict
from resolver.verify import prove

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.model import Policy, PortRequest
    from resolver.protocols import CommandRunner, Watcher

BOUND = "bound for proof"


def free(
    command: str,
    requests: Sequence[PortRequest],
    policy: Policy,
    run: CommandRunner,
    list_sockets: Watcher,
) -> Report | None:
    """The report of ports that are all free; None where anything else is to be said.

    Raises:
        UsageError: an address is none of this machine's.
    """
    for request in requests:
        proof = prove(request, list_sockets)
        if not proof.free or proof.lingering:
            return None
    seen = gather(requests, policy, frozenset(requests), run)
    remarkable = any(
        engine.elsewhere or (engine.trouble and not engine.unremarkable) for engine in seen.engines
    )
    if remarkable or seen.containers or seen.redirects or seen.notes:
        return None
    return Report(
        command,
        tuple(PortReport(request, Verdict.FREE, BOUND) for request in requests),
        asides=tuple(engine.trouble for engine in seen.engines if engine.trouble),
        dry_run=policy.dry_run,
        engines=seen.engines,
    )
