"""Waits until ports are free, held or healthy: all of them, at one time.

While it waits it lists sockets, which costs little and is in nobody's way. Ports are bound for
proof once nothing is seen on any of them, and asked for their health when something has changed, or
a second has gone by. Nothing here acts.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from resolver import api, pipeline
from resolver.errors import PortNotPermittedError
from resolver.gather import list_sockets
from resolver.health.checking import check_targets, diagnosed
from resolver.health.docker_events import Published
from resolver.health.serving import Sieve, check_local
from resolver.model import Verdict
from resolver.report.events import names as names_of
from resolver.verify import prove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from resolver.health.serving import Signature
    from resolver.health.targets import Targets
    from resolver.model import PortRequest
    from resolver.project.names import Wanted
    from resolver.protocols import Clock

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.02, 0.25
_LOOK_AGAIN_SECONDS = 1.0  # between two looks that cost more than a listing
_PROBE_SECONDS = 2.0  # of a target without a probe of its own (checking.DEFAULT_SECONDS)


_HELD = "is held"


class Until(StrEnum):
    """What is waited for."""

    FREE = "free"  # it can be bound, and no engine means to publish it
    HELD = "held"  # somebody has a socket on it, or a running container publishes it
    HEALTHY = "healthy"  # as `health` says


class Unmet(Struct, frozen=True):
    """One port that is not as it is wanted, and why that is; both for people."""

    title: str
    why: str


class Condition(Protocol):
    """Some ports, and what they shall be."""

    def unmet(self, seconds_left: float) -> tuple[Unmet, ...]:
        """Those that are not as yet; empty where all are.

        Raises:
            UltraPortsError: that can never be told here.
        """
        ...

    def explain(self) -> tuple[Unmet, ...]:
        """The same as of the last look, with all that can be said of it."""
        ...

    def close(self) -> None:
        """Lets go of whatever was asked."""
        ...


def wait(
    conditions: Sequence[Condition],
    timeout_seconds: float,
    clock: Clock,
    progress: Callable[[Sequence[Unmet], float], None],
) -> tuple[Unmet, ...]:
    """Waits until all conditions are met at once; returns what was not met in time.

    Args:
        conditions: each is looked at in turn.
        timeout_seconds: 0: one look.
        clock: monotonic.
        progress: is told what is unmet, and how many seconds are left.
    """
    deadline = clock.now() + timeout_seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        left = deadline - clock.now()
        unmet = [each for one in conditions for each in one.unmet(max(0.0, left))]
        if not unmet:
            return ()
        left = deadline - clock.now()
        if left <= 0:
            return tuple(each for one in conditions for each in one.explain())
        progress(unmet, left)
        clock.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


class Free:
    """Ports that shall be free: bound for proof, all of them one after the other."""

    def __init__(self, wanted: Wanted, clock: Clock, *, use_docker: bool) -> None:
        check_local(wanted.requests)
        self._wanted = wanted
        self._clock = clock
        self._sieve = Sieve(wanted.requests)
        self._policy = api.policy({"use_docker": use_docker, "complete": False})
        self._next_look = 0.0
        self._unmet: dict[PortRequest, str] | None = None

    def unmet(self, seconds_left: float) -> tuple[Unmet, ...]:
        """See `Condition`. The first and the last look bind whatever is listed.

        Raises:
            PortNotPermittedError: this user may not bind one of the ports.
        """
        listed = self._sieve.sort(list_sockets(None))
        if self._unmet is None or seconds_left <= 0:
            self._unmet = self._prove()
        elif listed:
            self._unmet = {each: _HELD for each in self._wanted.requests if each in listed}
        elif self._clock.now() >= self._next_look:
            self._next_look = self._clock.now() + _LONGEST_PAUSE_SECONDS
            self._unmet = self._prove()
        return _titled(self._unmet, self._wanted.services)

    def explain(self) -> tuple[Unmet, ...]:
        """See `Condition`: who holds what is held."""
        found = dict(self._unmet or {})
        for port in diagnosed(list(found), self._policy).ports:
            by = names_of(port.holders)
            found[port.request] = f"is held by {by}" if by else found[port.request]
        return _titled(found, self._wanted.services)

    def close(self) -> None:
        """See `Condition`."""

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
        self._next_look = self._clock.now() + _LOOK_AGAIN_SECONDS
        report = pipeline.who(self._wanted.requests, self._policy, api.effects(None))
        return {
            port.request: f"is {port.verdict}: {port.reason}"
            for port in report.ports
            if port.verdict is not Verdict.FREE
        }


class Held:
    """Ports that somebody shall hold."""

    def __init__(self, wanted: Wanted, *, use_docker: bool) -> None:
        check_local(wanted.requests)
        self._wanted = wanted
        self._look = _Look(wanted.requests, use_docker=use_docker)
        self._unmet: dict[PortRequest, str] = {}

    def unmet(self, seconds_left: float) -> tuple[Unmet, ...]:  # noqa: ARG002 - the protocol's
        """See `Condition`."""
        seen = self._look.signatures()
        missing = [each for each in self._wanted.requests if each not in seen]
        self._unmet = dict.fromkeys(missing, f"is held by nobody{self._look.error}")
        return self.explain()

    def explain(self) -> tuple[Unmet, ...]:
        """See `Condition`."""
        return _titled(self._unmet, self._wanted.services)

    def close(self) -> None:
        """See `Condition`."""
        self._look.close()


class Healthy:
    """Targets that shall be healthy, as `health` has it."""

    def __init__(
        self, asked: Targets, environ: Mapping[str, str], clock: Clock, *, use_docker: bool
    ) -> None:
        requests = [target.request for target in asked.wanted]
        check_local(requests)
        self._asked = asked
        self._environ = environ
        self._clock = clock
        self._policy = api.policy({"use_docker": use_docker, "complete": False})
        self._look = _Look(requests, use_docker=use_docker)
        self._seen: Mapping[PortRequest, Signature] | None = None
        self._next_look = 0.0
        own = [each.probe.timeout_seconds for each in asked.wanted if each.probe]
        self._longest = max((_PROBE_SECONDS, *own))
        self._unmet: tuple[Unmet, ...] = ()

    def unmet(self, seconds_left: float) -> tuple[Unmet, ...]:
        """See `Condition`."""
        seen = self._look.signatures()
        if seen != self._seen or self._clock.now() >= self._next_look:
            self._seen = seen
            self._unmet = self._check(seconds_left)
            self._next_look = self._clock.now() + _LOOK_AGAIN_SECONDS
        return self._unmet

    def explain(self) -> tuple[Unmet, ...]:
        """See `Condition`."""
        return self._unmet

    def close(self) -> None:
        """See `Condition`."""
        self._look.close()

    def _check(self, seconds_left: float) -> tuple[Unmet, ...]:
        limit = max(seconds_left, _LONGEST_PAUSE_SECONDS)
        timeout = limit if limit < self._longest else None
        report = check_targets(self._asked, self._policy, self._environ, timeout)
        return tuple(
            Unmet(_title(each.target.request, (each.target.name,)), _why(each.reason, each.level))
            for each in report.services
            if not each.healthy
        )


class _Look:
    """Who serves which of the ports, sockets and published ports alike."""

    def __init__(self, requests: Sequence[PortRequest], *, use_docker: bool) -> None:
        self._requests = requests
        self._sieve = Sieve(requests)
        self._published = Published(api.policy({"use_docker": use_docker}))

    @property
    def error(self) -> str:
        """What could not be asked, to be added to a sentence."""
        return "".join(f" ({each})" for each in self._published.troubles)

    def signatures(self) -> Mapping[PortRequest, Signature]:
        """As `serving` has them."""
        sockets = list_sockets(None)
        published, _ = self._published.look(self._requests, sockets)
        return {**published, **self._sieve.sort(sockets)}

    def close(self) -> None:
        self._published.close()


def _titled(
    unmet: Mapping[PortRequest, str], services: Mapping[PortRequest, tuple[str, ...]]
) -> tuple[Unmet, ...]:
    return tuple(Unmet(_title(each, services.get(each, ())), why) for each, why in unmet.items())


def _title(request: PortRequest, services: Iterable[str]) -> str:
    known = ", ".join(filter(None, services))
    return f"{request} ({known})" if known else str(request)


def _why(reason: str, level: str) -> str:
    return f"is not healthy: {reason or level}"
