"""PURE: whether who holds a port is the service's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.health.model import Answer, HealthReport, ServiceHealth, Target, is_heard
from resolver.leases.belonging import Belongs, belonging, of_project, worst
from resolver.leases.model import Lease, collide
from resolver.model import HolderReport, Kind, Whose
from resolver.report.holders import holder_names
from resolver.report.lease import whose

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from resolver.leases.owner import Here
    from resolver.ownership import Viewpoint

_LAST_SYSTEM_USER = 999  # SYS_UID_MAX of login.defs(5)


def of_service(
    target: Target,
    holders: Iterable[HolderReport],
    answers: Collection[Answer],
    asking: Viewpoint,
) -> Belongs:
    """Whose the holders are; of several, the worst. Who answers, and is not seen, is unknown."""
    about = [lease for lease in asking.leases if collide(target.request, lease.request)]
    stores = _is_store(target, answers)
    found = [_one(target, holder, about, asking.where, stores=stores) for holder in holders]
    return worst(found, Belongs.UNKNOWN if any(map(is_heard, answers)) else Belongs.NOBODY)


def lease_text(target: Target, leases: Iterable[Lease]) -> str:
    """Whose reservation the port is; empty where it is nobody's."""
    found = [lease for lease in leases if collide(target.request, lease.request)]
    return "; ".join(map(whose, sorted(found, key=lambda lease: not _is_own(target, lease))))


def of_this_checkout(report: HealthReport) -> HealthReport:
    """The same, where healthy is only what is held by the caller's own checkout."""
    return replace(report, services=tuple(map(_of_this_checkout, report.services)))


def _of_this_checkout(service: ServiceHealth) -> ServiceHealth:
    strangers = [
        each for each in service.holders if each.classification.ownership.whose is not Whose.MINE
    ]
    if not service.healthy or (service.holders and not strangers):
        return service
    reason = "who holds it is not known"
    if strangers:
        found = strangers[0].classification.ownership
        of = f", which belongs to {found}" if found.whose is Whose.OTHER else ""
        reason = f"held by {holder_names(strangers[:1])}{of}"
        reason += "" if of else ", and whose it is, is not known"
    return replace(service, healthy=False, reason=f"not this checkout's: {reason}")


def _is_store(target: Target, answers: Iterable[Answer]) -> bool:
    """Whether a data server has answered as the project wants it: its directory is its data's."""
    kind = target.probe.kind if target.probe else ""
    return kind in {"redis", "postgres"} and any(answer.good for answer in answers)


def _one(
    target: Target, report: HolderReport, leases: list[Lease], where: Here, *, stores: bool
) -> Belongs:
    """A lease's own process is; so is what the project's place says; then a lease's word counts."""
    holder = report.holder
    ours = {belonging(holder, each, where) for each in leases if _is_own(target, each)}
    others = {belonging(holder, each, where) for each in leases if not _is_own(target, each)}
    by_place = of_project(holder, target.project, target.place)
    if Belongs.OWN in ours or by_place is Belongs.OWN:
        return Belongs.OWN
    if Belongs.STRANGER in ours or Belongs.OWN in others:
        return Belongs.STRANGER
    is_daemon = stores or _is_daemon(report)
    return Belongs.UNKNOWN if is_daemon and not report.holder.container else by_place


def _is_own(target: Target, lease: Lease) -> bool:
    """Whether the lease is of the service's project; a port alone has whoever leased it."""
    if not target.name:
        return True
    if lease.place:
        return lease.place == target.place
    return lease.project == target.project


def _is_daemon(report: HolderReport) -> bool:
    """Whether a manager starts it, or a system user runs it: then it works where its data are."""
    found = report.classification
    if found.kind is Kind.SERVICE or found.manager is not None:
        return True
    uids = [process.uid for process in found.holder.processes]
    return any(uid is not None and 0 < uid <= _LAST_SYSTEM_USER for uid in uids)
