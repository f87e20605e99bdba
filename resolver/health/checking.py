"""READ FIRST in this room. Targets → who holds each, what each says, whose it is → a report.

Nothing is bound for proof here: that would be in the way of a server that is just starting. What is
asked is read-only but for one connection to each address, and a command where the project has one.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from resolver import api, pipeline, verdicts
from resolver.errors import UltraPortsError, UsageError
from resolver.health import belonging, judging, probes
from resolver.health.inside import Containers, Seen
from resolver.health.model import Belongs, HealthReport, Level
from resolver.health.probes.command import Command
from resolver.health.probes.peer import Question
from resolver.health.targets import Targets, targets
from resolver.leases.owner import here
from resolver.leases.remarks import living
from resolver.model import ANY_IPV4, ANY_IPV6, PortReport, SocketState, Transport, Verdict
from resolver.settings import LONGEST_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence

    from resolver.health.model import Answer, ServiceHealth, Target
    from resolver.leases.model import Lease
    from resolver.model import HolderReport, Policy, PortRequest, Report
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
            of the project file.
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
    report = diagnosed([each.request for each in asked.wanted], policy)
    ports = {port.request: port for port in report.ports}
    questions = [
        list(_questions(each, ports[each.request], environ, timeout_seconds))
        for each in asked.wanted
    ]
    answers = iter(run(probes.ask([one for each in questions for one in each])))
    leases, troubles = _leases(environ)
    away = {each.endpoint: each.elsewhere for each in report.engines if each.elsewhere}
    judge = _Judge(leases, Containers(policy.docker_timeout_seconds), environ, away)
    services = tuple(
        judge.judged(target, ports[target.request], tuple(next(answers) for _ in asked_of_it))
        for target, asked_of_it in zip(asked.wanted, questions, strict=True)
    )
    notes = dict.fromkeys((*asked.notes, *report.notes, *troubles))
    return HealthReport(at, services, tuple(notes))


def diagnosed(requests: Sequence[PortRequest], policy: Policy) -> Report:
    """Who holds the ports, without binding any."""
    once = list(dict.fromkeys(requests))
    diagnosis = pipeline.diagnose(once, {}, policy, api.effects(None))
    ports = [verdicts.diagnosed(each, diagnosis, None, policy) for each in once]
    return verdicts.report("who", ports, diagnosis.snapshot)


class _Judge:
    """Puts together what is known of each target."""

    def __init__(
        self,
        leases: Sequence[Lease],
        containers: Containers,
        environ: Mapping[str, str],
        away: Mapping[str, str],
    ) -> None:
        self._leases = leases
        self._containers = containers
        self._here = here(environ)
        self._away = away

    def judged(
        self, target: Target, report: PortReport, answers: tuple[Answer, ...]
    ) -> ServiceHealth:
        belongs = Belongs.NOBODY
        if report.holders:
            belongs = belonging.judged(target, report.holders, answers, self._leases, self._here)
        elif judging.heard(answers):
            belongs = Belongs.UNKNOWN
        lease = belonging.lease_words(target, self._leases)
        seen = self._seen(target, report, answers)
        return judging.judged(
            judging.Findings(target, report, answers, seen, belongs, lease, self._where(report))
        )

    def _where(self, report: PortReport) -> str:
        """Why a published port is not to be asked from here; empty where it is, for all we know."""
        holders = [each.classification.holder for each in report.holders]
        elsewhere = (
            self._away.get(each.container.engine, "")
            for each in holders
            if each.container and each.state is SocketState.PUBLISHED
        )
        return next(filter(None, elsewhere), "")

    def _seen(self, target: Target, report: PortReport, answers: tuple[Answer, ...]) -> Seen:
        """A look into the container, unless its program has spoken for itself."""
        if any(each.level is Level.SPEAKS for each in answers if each.address):
            forwarded = any(map(judging.is_forwarded, report.holders))
            return Seen(True if forwarded else None)
        holders = [each.classification.holder for each in report.holders]
        return self._containers.look(target.request, holders)


def _questions(
    target: Target,
    report: PortReport,
    environ: Mapping[str, str],
    timeout_seconds: float | None,
) -> Iterator[Question | Command]:
    probe, request = target.probe, target.request
    default = probe.timeout_seconds if probe else DEFAULT_SECONDS
    seconds = default if timeout_seconds is None else timeout_seconds
    if request.transport is Transport.TCP:
        forwarded = any(map(judging.is_forwarded, report.holders))
        for address in _addresses(request, report.holders):
            yield Question(address, request.port, probe, seconds, forwarded)
    held = report.verdict is not Verdict.FREE
    if probe and probe.kind == "command" and held and not target.untrusted:
        variables = {**environ, "PORT": str(request.port)}
        yield Command(probe.command, target.place, variables, seconds)


def _addresses(request: PortRequest, holders: Sequence[HolderReport]) -> list[str]:
    """Loopback, by which most clients come, and every other address that is served."""
    if request.address is not None:
        return [_LOOPBACK.get(request.address, request.address)]
    bindings = [
        each.classification.holder.binding
        for each in holders
        if each.classification.holder.state in _SERVING
    ]
    served = (_LOOPBACK.get(each.address, each.address) for each in bindings)
    loopback = filter(probes.exists, _LOOPBACK.values())
    return list(dict.fromkeys((*loopback, *served)))[:_MOST_ADDRESSES]


def _leases(environ: Mapping[str, str]) -> tuple[tuple[Lease, ...], tuple[str, ...]]:
    """What is reserved here, and why that cannot be told."""
    try:
        return living(environ), ()
    except UltraPortsError as error:
        return (), (f"what is reserved cannot be told: {error}",)
