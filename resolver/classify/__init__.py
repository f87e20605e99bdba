"""Classify: what each holder is, and what would bring it back.

A classifier is one module with a function `classify(holder, snapshot, run)`, which returns None
where the holder is not of its kind. It suspects from facts that were gathered already, then
confirms by asking the manager through `run`. A new one is a file, and a place in `CLASSIFIERS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.classify import (
    agents,
    ancestor,
    bystander,
    circus,
    container,
    container_exec,
    cron,
    desktop,
    hidden,
    init,
    kernel_socket,
    launchd,
    local,
    machine,
    monit,
    orchestrator,
    orphan,
    pm2,
    procfile,
    protected,
    redirect,
    reloader,
    remote_forward,
    supervise,
    supervisord,
    swarm_worker,
    systemd,
    tunnel,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.model import Classification, Holder, Snapshot
    from resolver.protocols import Classifier, CommandRunner

MANAGERS: tuple[Classifier, ...] = (
    monit,  # before other managers: what they stop, monit starts again
    supervise,
    supervisord,
    circus,
    pm2,  # before systemd, whose pm2-USER.service is the daemon with all its applications
    systemd,
    launchd,
    procfile,
    reloader,
)
"""Whoever starts again what ends, or ends what belongs together; in the order of asking."""

CLASSIFIERS: tuple[Classifier, ...] = (
    ancestor,  # the caller himself comes first: whatever else he is, he is not ended
    redirect,
    bystander,
    container_exec,  # before the container in which it is, and which lives on
    orchestrator,  # before the container, which it would replace
    swarm_worker,
    agents,
    machine,  # before the container: its unit is less than all that runs in it
    container,  # before all that knows processes: docker-proxy lives in docker.service's cgroup
    orphan,
    desktop,
    remote_forward,
    protected,
    *MANAGERS,
    tunnel,  # after the reloaders: a tunnel in a shell loop comes back
    init,
    cron,  # after the reloaders: a job may be a loop
    kernel_socket,
    hidden,
    local,  # takes everything
)
"""In the order in which they are asked; the first answer counts."""


def classify(
    holders: Iterable[Holder], snapshot: Snapshot, run: CommandRunner
) -> tuple[Classification, ...]:
    """One classification for each holder, in the same order."""
    return tuple(_classify_one(holder, snapshot, run) for holder in holders)


def classify_by_managers(
    holder: Holder, snapshot: Snapshot, run: CommandRunner
) -> Classification | None:
    """What the managers among the classifiers say of one holder; None where it is none's."""
    answers = (each.classify(holder, snapshot, run) for each in MANAGERS)
    return next((found for found in answers if found is not None), None)


def _classify_one(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification:
    answers = (each.classify(holder, snapshot, run) for each in CLASSIFIERS)
    return next(found for found in answers if found is not None)
