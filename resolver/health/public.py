"""PURE: a health report as everybody may see it, who sends no token.

A list of what is shown, not of what is hidden: each value is made anew of the fields that stand
here, so that one which is added elsewhere stays out until somebody names it. What a process, a
project file or a peer has put into words is left out: command lines, working directories,
environments, advice, evidence, and answers. What is said instead is said in words of our own.
"""

from __future__ import annotations

import os.path
from collections import Counter
from typing import TYPE_CHECKING

from resolver.health.model import Answer, HealthReport, Reach, ServiceHealth, Target
from resolver.leases.belonging import Belongs
from resolver.model import (
    AdviseStep,
    Classification,
    Container,
    Holder,
    HolderReport,
    Manager,
    Process,
    Verdict,
)
from resolver.project.model import Probe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.leases.model import Lease
    from resolver.model import Step

LEFT_OUT = "command lines, directories, reasons and advice are left out: see ultra-ports serve -h"
_LONGEST_NAME = 15  # of a process, as the kernel has it; what is longer is from its command line
_SAID = {
    (Reach.FREE, False): "nobody listens",
    (Reach.ACCEPTS, True): "accepts connections",
    (Reach.ACCEPTS, False): "accepts connections, and does not answer as it should",
    (Reach.SPEAKS, True): "answers",
    (Reach.SPEAKS, False): "answers, and not as it should",
}


def report(found: HealthReport) -> HealthReport:
    """The report, with what is for everybody."""
    return HealthReport(found.at, tuple(_service(each) for each in found.services), (LEFT_OUT,))


def lease_counts(leases: Iterable[Lease]) -> Counter[tuple[str, bool]]:
    """How many leases there are, by their projects, and whether they are held in the kernel."""
    return Counter((_project(each.project, each.place), each.held) for each in leases)


def _service(found: ServiceHealth) -> ServiceHealth:
    target = found.target
    probe = target.probe and Probe(
        target.probe.kind,
        path="",
        statuses=target.probe.statuses,
        timeout_seconds=target.probe.timeout_seconds,
    )
    return ServiceHealth(
        target=Target(
            target.name, target.request, probe, project=_project(target.project, target.place)
        ),
        healthy=found.healthy,
        level=found.level,
        belongs=found.belongs,
        reason=_reason(found),
        holders=tuple(_holder(each) for each in found.holders),
        answers=tuple(_answer(each) for each in found.answers),
        inside=found.inside,
        lease="somebody" if found.lease else "",
    )


def _project(name: str, place: str) -> str:
    """A project's own name; empty where it is called like its directory, for want of one."""
    return "" if name == os.path.basename(place) else name  # noqa: PTH119


def _reason(found: ServiceHealth) -> str:
    """Why, as far as the values tell; the first objection counts."""
    if found.level is Reach.FREE:
        return "nobody holds it"
    if found.healthy is not True and found.belongs is Belongs.STRANGER:
        return "its holder is not the service"
    if found.target.untrusted and found.healthy is None:
        return "its command is not run"
    if found.healthy is None:
        return "that cannot be told"
    answers = [each for each in found.answers if each.good is found.healthy]
    came = [each for each in answers if each.came]
    return _words((came or answers)[0]) if answers else "it is held, and does not work"


def _answer(found: Answer) -> Answer:
    return Answer(
        found.address, found.level, _words(found), found.seconds, found.status, found.good
    )


def _words(found: Answer) -> str:
    if found.status:
        return f"HTTP {found.status}"
    if not found.address:
        return "its command succeeds" if found.good else "its command does not succeed"
    return _SAID.get((found.level, found.good), "no connection was made")


def _holder(found: HolderReport) -> HolderReport:
    """Who holds it, as what: without what would end it, and how that is known."""
    known = found.classification
    holder = Holder(
        known.holder.binding,
        known.holder.state,
        processes=tuple(_process(each) for each in known.holder.processes),
        container=known.holder.container and _container(known.holder.container),
    )
    manager = known.manager and Manager(known.manager.kind, "", "")
    classification = Classification(holder, known.kind, known.respawn, known.confidence, manager)
    return HolderReport(classification, found.step and _step(found.step))


def _process(found: Process) -> Process:
    return Process(
        found.identity,
        found.name[:_LONGEST_NAME],
        user=found.user,
        uid=found.uid,
        ancestors=found.ancestors[:1],
    )


def _container(found: Container) -> Container:
    return Container(
        found.id,
        found.name,
        engine="",
        image=found.image,
        state=found.state,
        restart_policy=found.restart_policy,
    )


def _step(found: Step) -> AdviseStep:
    return AdviseStep((), Verdict.HELD, "", kind=found.kind)
