"""PURE: who holds a port, in a few words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.report.escape import escape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.model import Holder, HolderReport


def holder_name(holder: Holder) -> str:
    """`container web`, `node 4711`, or as much as is known of somebody who is hidden."""
    if holder.container is not None:
        return f"container {holder.container.name}"
    if holder.master is not None:
        return str(holder.master)
    if holder.redirect is not None:
        return f"a NAT rule to {holder.redirect.target}"
    if holder.cgroup:
        return f"a process of {holder.cgroup}"
    return "the kernel" if holder.kernel else "somebody who is hidden from this user"


def holder_names(holders: Iterable[HolderReport]) -> str:
    """The holders, each once, with their managers: `nginx 77 (systemd nginx.service)`."""
    return ", ".join(dict.fromkeys(escape(_with_manager(each)) for each in holders))


def _with_manager(report: HolderReport) -> str:
    name, manager = holder_name(report.holder), report.classification.manager
    if manager is None or report.holder.container is not None:
        return name
    return f"{name} ({manager.kind} {manager.name})"
