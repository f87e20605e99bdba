"""Frees what outsiders hold of a compose project's ports, by the rules of the pipeline.

The project's own containers are never stopped: compose replaces them itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from resolver import api, verdicts
from resolver.compose.findings import Finding, Preflight, Status
from resolver.compose.holders import is_other_family, is_replaced
from resolver.errors import UsageError
from resolver.model import PortReport, Report, Snapshot, StopContainerStep, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from resolver.model import Classification, PortRequest, Step
    from resolver.protocols import Observer

_NOT_IN_THE_WAY = "it is not in the project's way"


class Guard:
    """An observer that objects to every step against the project's own containers.

    It also objects to those against who is not in the engine's way: on the other family's
    addresses, or here, where the engine's ports are not this machine's.
    """

    def __init__(
        self, observer: Observer, found: Preflight, extra: Collection[PortRequest]
    ) -> None:
        self._observer = observer
        self._found = found
        self._extra = extra
        self.started, self.did = observer.started, observer.did
        self.waiting, self.finished = observer.waiting, observer.finished

    def objection(self, step: Step, holders: Sequence[Classification]) -> str:
        """Where it harms the project or somebody who is not in its way."""
        if isinstance(step, StopContainerStep):
            if is_replaced(step.container, self._found.project):
                return "compose replaces it"
        elif self._found.away:
            return _NOT_IN_THE_WAY
        if not self._in_the_way(step):
            return _NOT_IN_THE_WAY
        return self._observer.objection(step, holders)

    def _in_the_way(self, step: Step) -> bool:
        ours = [
            (request, binding)
            for request in self._found.taken
            for binding in step.bindings
            if request.meets(binding)
        ]
        named = any(each.meets(binding) for each in self._extra for binding in step.bindings)
        return named or not ours or not all(is_other_family(*each) for each in ours)


def free(
    found: Preflight,
    observer: Observer,
    extra: Sequence[PortRequest] = (),
    **options: Any,  # noqa: ANN401 - as for `api.resolve`
) -> Report:
    """Frees the ports that are taken, if the project could start then; else touches nothing.

    Args:
        found: what was found before.
        observer: as for `api.resolve`.
        extra: further ports to free.
        options: fields of `Policy`.

    Returns:
        A report on every single port of the project, and on the extra ones.
    """
    if found.unfreeable:
        return refusal(found)
    pending = dict.fromkeys((*found.taken, *extra))
    report = Report("resolve")
    if pending:
        guard = Guard(observer, found, extra)
        report = api.resolve(*map(str, pending), observer=guard, **options)
    return _together(found, report)


def plan(
    found: Preflight,
    extra: Sequence[PortRequest] = (),
    **options: Any,  # noqa: ANN401 - as for `api.plan`
) -> tuple[Report, str]:
    """What `free` would do, and the text of a plan file; empty where it would touch nothing.

    Raises:
        UsageError: the project has no port that a plan could be about, or the plan would end a
            container of its own: `apply` knows no project.
    """
    if found.unfreeable:
        return refusal(found), ""
    clear = [port.request for port in found.report.ports if port.verdict.is_free]
    wanted = dict.fromkeys((*found.taken, *extra)) or clear
    if not wanted:
        raise UsageError("no plan was made: there is no port of the project to free")
    report, text = api.plan(*map(str, wanted), **options)
    for port in report.ports:
        for holder in port.holders:
            container = holder.holder.container
            if container and is_replaced(container, found.project):
                raise UsageError(
                    f"no plan was made: {container.name} of the project itself has {port.request} "
                    "too, and compose replaces it",
                    "ultra-ports resolve --compose frees what is not the project's own",
                )
    return _together(found, report), text


def refusal(found: Preflight) -> Report:
    """The answer where freeing ports would be in vain."""
    reasons: dict[PortRequest, list[str]] = {}
    for finding in found.unfreeable:
        for request in finding.requests:
            reasons.setdefault(request, []).append(_with_hint(finding))
    others = tuple(_with_hint(each) for each in found.unfreeable if not each.requests)
    ports = [PortReport(each, Verdict.REFUSED, "; ".join(why)) for each, why in reasons.items()]
    report = verdicts.refused("resolve", (), "")
    notes = (
        *found.notes,
        *others,
        "nothing was freed: `docker compose up` would fail all the same",
    )
    return replace(report, ports=tuple(ports), notes=notes)


def _with_hint(finding: Finding) -> str:
    return f"{finding.message} ({finding.hint})" if finding.hint else finding.message


def _together(found: Preflight, report: Report) -> Report:
    """The report of what was worked on, with the ports that needed nothing."""
    done = {port.request: port for port in report.ports}
    whole = verdicts.report("resolve", [*_others(found, set(done)), *report.ports], Snapshot())
    return replace(
        whole,
        notes=tuple(dict.fromkeys((*found.notes, *report.notes, *_kept(found)))),
        verbose_notes=tuple(dict.fromkeys((*found.report.verbose_notes, *report.verbose_notes))),
        dry_run=report.dry_run,
    )


def _others(found: Preflight, done: set[PortRequest]) -> Iterator[PortReport]:
    known = {port.request: port for port in found.report.ports}
    for entry in found.entries:
        for request in entry.requests:
            if request in done or request not in known:
                continue
            if entry.status in {Status.FREE, Status.RESERVED} and len(entry.requests) == 1:
                yield replace(known[request], verdict=Verdict.FREE)
            elif entry.status is Status.UNKNOWN and not known[request].verdict.is_free:
                yield replace(known[request], verdict=Verdict.UNDECIDED)


def _kept(found: Preflight) -> Iterator[str]:
    for entry in found.entries:
        if entry.status is Status.YOURS:
            yield f"{entry.requests[0]} is held by {entry.reason}: left to compose"
