"""Waits until ports are free, held or healthy: all of them, at one time.

While it waits it lists sockets, which costs little and is in nobody's way. Ports are bound for
proof once nothing is seen on any of them, and asked for their health when something has changed, or
a second has gone by. Nothing here acts.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from resolver import api, pipeline
from resolver.errors import PortNotPermittedError
from resolver.gather import list_sockets
from resolver.health.belongs import of_this_checkout
from resolver.health.checking import DEFAULT_SECONDS, check_targets
from resolver.health.docker_events import PublishedPorts
from resolver.health.signatures import Matcher, Signature, check_local, of_sockets
from resolver.model import PortRequest, Verdict
from resolver.report.events import titled
from resolver.report.holders import holder_names
from resolver.verify import prove

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from resolver.health.targets import Targets
    from resolver.project.names import Wanted

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.02, 0.25
_LOOK_AGAIN_SECONDS = 1.0  # between two looks that cost more than a listing


class Until(StrEnum):
    """What is waited for."""

    FREE = "free"  # it can be bound, and no engine means to publish it
    HELD = "held"  # somebody has a socket on it, or a running container publishes it
    HEALTHY = "healthy"  # as `health` says
    MINE = "mine"  # healthy, and held by this checkout


class Unmet(Struct, frozen=True):
    """One port that is not as it is wanted, and why that is; both for people."""

    title: str
    why: str


class Condition(Protocol):
    """Some ports, and what they shall be; `last` are those that were not at the last look."""

    last: tuple[Unmet, ...] = ()

    def unmet(self, seconds_left: float) -> tuple[Unmet, ...]:
        """Those that are not as yet; empty where all are.

        Raises:
            UltraPortsError: that can never be told here.
        """

    def explain(self) -> tuple[Unmet, ...]:
        """The same as of the last look, with all that can be said of it."""
        return self.last

    def close(self) -> None:
        """Lets go of whatever was asked."""


def wait(
    conditions: Sequence[Condition],
    timeout_seconds: float,
    progress: Callable[[Sequence[Unmet], float], None],
) -> tuple[Unmet, ...]:
    """Waits until all conditions are met at once; returns what was not met in time.

    Args:
        conditions: each is looked at in turn.
        timeout_seconds: 0: one look.
        progress: is told what is unmet, and how many seconds are left.
    """
    deadline = time.monotonic() + timeout_seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        left = deadline - time.monotonic()
        unmet = [each for one in conditions for each in one.unmet(max(0.0, left))]
        if not unmet:
            return ()
        left = deadline - time.monotonic()
        if left <= 0:
            return tuple(each for one in conditions for each in one.explain())
        progress(unmet, left)
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


class Free(Condition):
    """Ports that shall be free: bound for proof, all of them one after the other."""

    def __init__(self, wanted: Wanted, *, use_docker: bool) -> None:
        check_local(wanted.requests)
        self._wanted = wanted
        self._matcher = Matcher(wanted.requests)
        self._policy = api.policy({"use_docker": use_docker, "complete": False})
        self._next_look = 0.0
        self._unmet: dict[PortRequest, str] | None = None

    def unmet(self, seconds_left: float) -> tuple[Unmet, ...]:
        """See `Condition`. The first and the last look bind whatever is listed.

        Raises:
            PortNotPermittedError: this user may not bind one of the ports.
        """
        listed = self._matcher.sort(of_sockets(list_sockets(None)))
        if self._unmet is None or seconds_left <= 0:
            self._unmet = self._prove()
        elif listed:
            self._unmet = {each: "is held" for each in self._wanted.requests if each in listed}
        elif time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LONGEST_PAUSE_SECONDS
            self._unmet = self._prove()
        return _titled(self._unmet, self._wanted)

    def explain(self) -> tuple[Unmet, ...]:
        """See `Condition`: who holds what is held."""
        found = dict(self._unmet or {})
        report = pipeline.who_without_proof([*found], self._policy, api.effects(None))
        for port in report.ports:
            by = holder_names(port.holders)
            found[port.request] = f"is held by {by}" if by else found[port.request]
        return _titled(found, self._wanted)

    def close(self) -> None:
        """See `Condition`; nothing stays open."""

    def _prove(self) -> dict[PortRequest, str]:
        """What stands against each port, by a bind and by the engines' word; empty: nothing."""
        found = {}
        for request in self._wanted.requests:
            proof = prove(request, list_sockets)
            if proof.free is None:
                raise PortNotPermittedError(f"{request} cannot be proved free: {proof.reason}")
            if not proof.free:
                found[request] = f"cannot be bound: {proof.where}: {proof.reason}"
        return found or self._of_engines()

    def _of_engines(self) -> dict[PortRequest, str]:
        """What could be bound, and is not free for all that: an engine forwards it."""
        self._next_look = time.monotonic() + _LOOK_AGAIN_SECONDS
        report = pipeline.who(self._wanted.requests, self._policy, api.effects(None))
        return {
            port.request: f"is {port.verdict}: {port.reason}"
            for port in report.ports
            if port.verdict is not Verdict.FREE
        }


class _Watching(Condition):
    """Ports of which it is seen who serves them, by sockets and by what engines publish."""

    def __init__(self, requests: Sequence[PortRequest], *, use_docker: bool) -> None:
        check_local(requests)
        self._matcher = Matcher(requests)
        self.published = PublishedPorts(api.policy({"use_docker": use_docker}), self._matcher)

    def signatures(self) -> Mapping[PortRequest, Signature]:
        """Those that are served."""
        sockets = list_sockets(None)
        published, _ = self.published.look(sockets)
        return {**published, **self._matcher.sort(of_sockets(sockets))}

    def close(self) -> None:
        """See `Condition`."""
        self.published.close()


class Held(_Watching):
    """Ports that somebody shall hold."""

    def __init__(self, wanted: Wanted, *, use_docker: bool) -> None:
        super().__init__(wanted.requests, use_docker=use_docker)
        self._wanted = wanted

    def unmet(self, seconds_left: float) -> tuple[Unmet, ...]:  # noqa: ARG002 - the condition's
        """See `Condition`."""
        seen = self.signatures()
        missing = [each for each in self._wanted.requests if each not in seen]
        silent = "".join(f" ({each})" for each in self.published.errors)
        why = dict.fromkeys(missing, f"is held by nobody{silent}")
        self.last = _titled(why, self._wanted)
        return self.last


class Healthy(_Watching):
    """Targets that shall be healthy, as `health` has it, and this checkout's where that is said."""

    def __init__(
        self,
        asked: Targets,
        environ: Mapping[str, str],
        *,
        use_docker: bool,
        only_mine: bool = False,
    ) -> None:
        requests = [each.request for each in asked.wanted]
        super().__init__(requests, use_docker=use_docker)
        self._asked, self._only_mine = asked, only_mine
        self._environ = environ
        self._policy = api.policy({"use_docker": use_docker, "complete": False})
        self._seen: Mapping[PortRequest, Signature] | None = None
        self._next_look = 0.0
        own = [each.probe.timeout_seconds for each in asked.wanted if each.probe]
        self._longest = max((DEFAULT_SECONDS, *own))

    def unmet(self, seconds_left: float) -> tuple[Unmet, ...]:
        """See `Condition`."""
        seen = self.signatures()
        if seen != self._seen or time.monotonic() >= self._next_look:
            self._seen = seen
            self.last = self._check(seconds_left)
            self._next_look = time.monotonic() + _LOOK_AGAIN_SECONDS
        return self.last

    def _check(self, seconds_left: float) -> tuple[Unmet, ...]:
        limit = max(seconds_left, _LONGEST_PAUSE_SECONDS)
        timeout = limit if limit < self._longest else None
        report = check_targets(self._asked, self._policy, self._environ, timeout)
        if self._only_mine:
            report = of_this_checkout(report)
        return tuple(
            Unmet(
                titled(each.target.request, filter(None, (each.target.name,))),
                f"is not healthy: {each.reason or each.level}",
            )
            for each in report.services
            if not each.healthy
        )


def _titled(unmet: Mapping[PortRequest, str], wanted: Wanted) -> tuple[Unmet, ...]:
    return tuple(
        Unmet(titled(each, wanted.services.get(each, ())), why) for each, why in unmet.items()
    )
