"""READ FIRST in this package. Targets → who holds each, what each says, whose it is → a report.

Nothing is bound for proof here: that would be in the way of a server that is just starting. What is
asked is read-only but for one connection to each address, and a command where the project has one.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from resolver import api, pipeline
from resolver.compose.probe import Inside, look_inside
from resolver.errors import UsageError
from resolver.health import belongs, evaluation, probes
from resolver.health.model import Answer, HealthReport, Reach, ServiceHealth, Target
from resolver.health.probes.command import ProbeCommand
from resolver.health.probes.peer import Question
from resolver.health.signatures import is_local
from resolver.health.targets import Targets, targets
from resolver.model import ANY_IPV4, ANY_IPV6, PortReport, SocketState, Transport, Verdict
from resolver.ownership import viewpoint
from resolver.settings import LONGEST_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence

    from resolver.model import HolderReport, Policy, PortRequest
    from resolver.project.model import Probe

    Run = Callable[[Coroutine[Any, Any, tuple[Answer, ...]]], tuple[Answer, ...]]

DEFAULT_SECONDS = 2.0
_LOOPBACK = {ANY_IPV4: "127.0.0.1", ANY_IPV6: "::1"}
_MOST_ADDRESSES = 8  # of one port that are asked
_SERVING = {SocketState.LISTENING, SocketState.PUBLISHED}


def check(
    *wanted: str | int,
    timeout_seconds: float | None = None,
    environ: Mapping[str, str] | None = None,
    use_docker: bool = True,
    docker_timeout_seconds: float = 2.0,
    probe: Probe | None = None,
) -> HealthReport:
    """Asks whether services work: who holds each port, whose that is, and what it answers.

    Args:
        wanted: names of services, numbers, or text in the PORT grammar; none asks for every service
            of the project file, or of the compose file where there is none.
        timeout_seconds: how long each answer may take; None for each probe's own time, which is 2
            seconds unless the project file says otherwise.
        environ: the environment that decides ports; None for this process's own.
        use_docker: whether engines are asked.
        docker_timeout_seconds: how long an engine may take.
        probe: is used instead of every service's own.

    Returns:
        A report with one entry for each target, in the order given; `report.healthy` is True only
        where every one is known to be.

    Raises:
        UsageError: an argument or an option makes no sense.
    """
    if timeout_seconds is not None and not 0 < timeout_seconds <= LONGEST_SECONDS:
        raise UsageError(f"timeout_seconds is {timeout_seconds}: more than 0 seconds are wanted")
    variables = os.environ if environ is None else environ
    asked = targets(wanted, variables, probe)
    policy = api.policy(
        {
            "use_docker": use_docker,
            "docker_timeout_seconds": docker_timeout_seconds,
            "complete": False,
        }
    )
    return check_targets(asked, policy, variables, timeout_seconds)


def check_targets(
    asked: Targets,
    policy: Policy,
    environ: Mapping[str, str],
    timeout_seconds: float | None = None,
    run: Run = probes.run,
) -> HealthReport:
    """The health of targets that are known already; as for `check`.

    `run` runs the probes: a caller that means to cancel them has its own.
    """
    at = time.time()
    requests = [each.request for each in asked.wanted]
    report = pipeline.who_without_proof(requests, policy, api.effects(None))
    ports = {port.request: port for port in report.ports}
    questions = [
        list(_questions(each, ports[each.request], environ, timeout_seconds))
        for each in asked.wanted
    ]
    answers = iter(run(probes.ask([one for each in questions for one in each])))
    asking = viewpoint(environ)
    away = {each.endpoint: each.elsewhere for each in report.engines if each.elsewhere}

    def evaluated(target: Target, heard: tuple[Answer, ...]) -> ServiceHealth:
        port = ports[target.request]
        found = evaluation.Findings(
            target,
            port,
            heard,
            inside=_inside(port, heard),
            belongs=belongs.of_service(target, port.holders, heard, asking),
            lease=belongs.lease_text(target, asking.leases),
            away=_elsewhere(port, away),
        )
        return evaluation.evaluate(found)

    services = tuple(
        evaluated(target, tuple(next(answers) for _ in each))
        for target, each in zip(asked.wanted, questions, strict=True)
    )
    notes = dict.fromkeys(filter(None, (*asked.notes, *report.notes, asking.error)))
    return HealthReport(at, services, tuple(notes))


def _elsewhere(port: PortReport, away: Mapping[str, str]) -> str:
    """Why a published port is not to be asked from here; empty where it is, for all we know."""
    holders = [each.holder for each in port.holders]
    engines = [
        each.container.engine
        for each in holders
        if each.container and each.state is SocketState.PUBLISHED
    ]
    return next((away[each] for each in engines if each in away), "")


def _inside(port: PortReport, answers: tuple[Answer, ...]) -> Inside:
    """What is to be seen behind the port of the containers that publish it.

    Not where their program has spoken for itself; and another user's engine could name any process
    as its container's.
    """
    if any(each.level is Reach.SPEAKS for each in answers if each.address):
        forwarded = any(map(evaluation.is_forwarded, port.holders))
        return Inside(True if forwarded else None)
    found = Inside(None)
    containers = dict.fromkeys(each.holder.container for each in port.holders)
    for container in (each for each in containers if each and not each.foreign):
        for outer, target in container.mappings:
            if port.request.meets(outer):
                seen = look_inside(target, container, port.request.transport)
                if seen.problem:
                    return seen
                found = seen if seen.listens else found
    return found


def _questions(
    target: Target, report: PortReport, environ: Mapping[str, str], timeout_seconds: float | None
) -> Iterator[Question | ProbeCommand]:
    probe, request = target.probe, target.request
    default = probe.timeout_seconds if probe else DEFAULT_SECONDS
    seconds = default if timeout_seconds is None else timeout_seconds
    if request.transport is Transport.TCP:
        forwarded = any(map(evaluation.is_forwarded, report.holders))
        for address in _addresses(request, report.holders):
            yield Question(address, request.port, probe, seconds, forwarded)
    held = report.verdict is not Verdict.FREE
    if probe and probe.kind == "command" and held and not target.untrusted:
        variables = {**environ, "PORT": str(request.port)}
        yield ProbeCommand(probe.command, target.place, variables, seconds)


def _addresses(request: PortRequest, holders: Sequence[HolderReport]) -> list[str]:
    """Loopback, by which most clients come, and every other address that is served."""
    if request.address is not None:
        return [_LOOPBACK.get(request.address, request.address)]
    bindings = [each.holder.binding for each in holders if each.holder.state in _SERVING]
    served = (_LOOPBACK.get(each.address, each.address) for each in bindings)
    loopback = filter(is_local, _LOOPBACK.values())
    return list(dict.fromkeys((*loopback, *served)))[:_MOST_ADDRESSES]
