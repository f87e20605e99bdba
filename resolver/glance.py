"""A first look, for the question that is asked most: are these ports free?

Where every port could be bound, no engine publishes one of them or is about to, and no NAT rule
captures one, there is nobody to classify and nothing to do: the report is what the pipeline would
say, without loading it. In any other case there is no answer here, and the pipeline goes on with
what was seen.
"""

from __future__ import annotations

from resolver.gather import gather
from resolver.model import PortReport, Report, Verdict
from resolver.verify import prove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.model import Policy, PortRequest, Snapshot
    from resolver.protocols import CommandRunner, Watcher

BOUND = "bound for proof"


def look(
    requests: Sequence[PortRequest], policy: Policy, run: CommandRunner, list_sockets: Watcher
) -> Snapshot | None:
    """What engines and NAT rules mean to do with ports that could all be bound; None otherwise.

    Raises:
        UsageError: an address is none of this machine's.
    """
    for request in requests:
        proof = prove(request, list_sockets)
        if not proof.free or proof.lingering:
            return None
    return gather(requests, policy, frozenset(requests), run)


def report(
    command: str, requests: Sequence[PortRequest], policy: Policy, seen: Snapshot
) -> Report | None:
    """The report of ports that are all free; None where anything else is to be said."""
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


def free(
    command: str,
    requests: Sequence[PortRequest],
    policy: Policy,
    run: CommandRunner,
    list_sockets: Watcher,
) -> Report | None:
    """A look and its report in one; None where there is anything else to be said.

    Raises:
        UsageError: an address is none of this machine's.
    """
    seen = look(requests, policy, run, list_sockets)
    return report(command, requests, policy, seen) if seen else None
