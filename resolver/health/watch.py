"""Watches ports: who takes them, who lets go, who comes back, and what becomes of reservations.

A look lists sockets, reads what the engines have said, and compares a file's time. Only a port that
changed is diagnosed. Nothing here binds a watched port, or acts. What comes and goes between two
looks is not seen, nor is a socket that passes from one process to another by inheritance.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver import api, pipeline
from resolver.gather import list_sockets
from resolver.health.docker_events import PublishedPorts
from resolver.health.events import Event, EventKind
from resolver.health.lease_watch import LeaseWatch
from resolver.health.port_history import RESPAWN_SECONDS, Instant, PortHistory, held_by, remaining
from resolver.health.signatures import Matcher, Signature, check_local, inodes, of_sockets
from resolver.leases.model import Lease, collide
from resolver.programs import works_for_engine
from resolver.project.location import root
from resolver.project.names import working_directory
from resolver.reservations.candidates import ephemeral_range

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from resolver.model import HolderReport, PortRequest

INTERVAL_SECONDS = 0.5  # so that an event is seen, and its port diagnosed, within a second
_PATIENCE_SECONDS = 3.0  # that an engine may take from its forwarder's start to its container's
_ENGINE_PAUSE_SECONDS = 30.0  # for an engine that did not answer


class Watch:
    """Looks whenever it is told to; `looks` and `diagnoses` count what was done.

    Args:
        requests: what to watch; None: every port that is held now or later.
        services: the names of the services that the requests are for (`names.wanted` has them).
        use_docker: whether to ask container engines.
        environ: the settings, in place of this process's environment.

    Raises:
        UsageError: an address is not one of this machine's, or a setting makes no sense.
    """

    def __init__(
        self,
        requests: Sequence[PortRequest] | None = None,
        services: Mapping[PortRequest, tuple[str, ...]] | None = None,
        *,
        use_docker: bool = True,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        check_local(requests or ())
        self.looks = 0
        self.diagnoses = 0
        self._matcher = Matcher(requests)
        self._requests = self._matcher.requests
        self._services = services or {}
        self._outgoing = ephemeral_range() if requests is None else None
        self._policy = api.policy({"use_docker": use_docker, "complete": False})
        self._published = PublishedPorts(self._policy, self._matcher)
        environ = os.environ if environ is None else environ
        self._leases = LeaseWatch(environ, root(working_directory()), self._services)
        self._histories: dict[PortRequest, PortHistory] = {}
        self._seen: dict[PortRequest, Signature] = {}
        self._unclear: dict[PortRequest, float] = {}  # until when it is looked at again
        self._noted: dict[str, str] = {}
        self._silent = ""
        self._engine_pause = 0.0
        self._forgotten = time.monotonic()

    @property
    def histories(self) -> tuple[PortHistory, ...]:
        """Of every watched port, in the order in which they were asked for, else by number."""
        return tuple(self._histories[each] for each in self._in_order(self._histories))

    @property
    def is_narrow(self) -> bool:
        """Whether certain ports are watched, and not whatever is held."""
        return self._requests is not None

    @property
    def leases(self) -> tuple[Lease, ...]:
        """The living leases, of watched ports and others."""
        return tuple(self._leases.alive.values())

    def close(self) -> None:
        """Lets go of engines and stores."""
        self._published.close()
        self._leases.close()

    def look(self) -> tuple[Event, ...]:
        """What happened since the last look; at the first one, how everything was found."""
        self.looks += 1
        now = Instant(time.time(), time.monotonic())
        ended_and_granted = self._leases.look()
        signatures, asked = self._signatures()
        if self.looks == 1:
            found = [*self._begin(signatures, now)]
        else:
            found = [*self._changed(signatures, now, asked=asked)]
            found += ended_and_granted
        self._seen = dict(signatures)
        if now.monotonic > self._forgotten + RESPAWN_SECONDS:
            self._forgotten = now.monotonic
            over = [each for each, history in self._histories.items() if history.forget(now)]
            for request in over if self._requests is None else ():
                del self._histories[request]
        return (*self._notes(now), *(event for event in found if self._concerns(event)))

    def lease_on(self, request: PortRequest) -> Lease | None:
        """A living lease that covers the port."""
        return next((each for each in self.leases if collide(request, each.request)), None)

    def _signatures(self) -> tuple[Mapping[PortRequest, Signature], bool]:
        """Who serves each port, as something to compare, and whether an engine was asked just now.

        Sockets say more than an engine's word.
        """
        sockets = list_sockets(None)
        published, asked = self._published.look(sockets)
        served = self._matcher.sort(of_sockets(sockets, self._outgoing))
        behind = {each for each in published if inodes(self._seen.get(each, frozenset()))}
        # A container that ends closes its sockets before its engine says so.
        return {
            **{each: found for each, found in published.items() if each not in behind},
            **served,
        }, asked

    def _begin(self, signatures: Mapping[PortRequest, Signature], now: Instant) -> Iterator[Event]:
        holders = self._diagnose(list(signatures))
        for request in self._in_order(signatures):
            held = holders.get(request, ())
            if request in holders and not self._is_settled(held):
                self._unclear[request] = now.monotonic
            found = self._history(request, now).begin(held, self._published.starts)
            yield replace(found, lease=self.lease_on(request))

    def _changed(
        self, signatures: Mapping[PortRequest, Signature], now: Instant, *, asked: bool
    ) -> Iterator[Event]:
        """The events of the ports whose sockets have changed, or whose owner was not clear."""
        due = [
            each
            for each in self._in_order({*self._seen, *signatures})
            if signatures.get(each) != self._seen.get(each)
            or (each in self._unclear and (asked or now.monotonic < self._unclear[each]))
        ]
        looked = self._diagnose([each for each in due if self._is_open(each, signatures)])
        for request in due:
            history = self._history(request, now)
            if request not in signatures:
                missed = self._unclear.pop(request, None) is not None and not history.holders
                event = history.missed(now) if missed else history.update((), {}, now)
            elif request not in looked:
                left = remaining(history.holders, inodes(signatures[request]))
                event = history.update(left, self._published.starts, now)
            elif self._is_clear(request, looked[request], now):
                event = history.update(looked[request], self._published.starts, now)
            else:
                continue
            if event is not None:
                yield event

    def _is_open(self, request: PortRequest, signatures: Mapping[PortRequest, Signature]) -> bool:
        """Whether a port has to be diagnosed: where sockets have only gone, the rest is known."""
        found = signatures.get(request, frozenset())
        return bool(found) and (
            request in self._unclear or bool(found - self._seen.get(request, frozenset()))
        )

    def _is_clear(
        self, request: PortRequest, holders: tuple[HolderReport, ...], now: Instant
    ) -> bool:
        """Whether the owner may be told; else it is looked at again, for a while.

        An engine starts its forwarder first, and lists the container when that runs.
        """
        if self._is_settled(holders):
            self._unclear.pop(request, None)
            return True
        until = self._unclear.setdefault(request, now.monotonic + _PATIENCE_SECONDS)
        return now.monotonic >= until

    def _is_settled(self, holders: Iterable[HolderReport]) -> bool:
        """Whether somebody holds the port who is not an engine's forwarder without a container."""
        found = [each.holder for each in holders]
        return bool(found) and not (
            self._policy.use_docker
            and any(
                each.container is None and each.master is not None and works_for_engine(each.master)
                for each in found
            )
        )

    def _diagnose(
        self, requests: Sequence[PortRequest]
    ) -> dict[PortRequest, tuple[HolderReport, ...]]:
        """Who holds the ports; an engine that did not answer is left in peace for a while."""
        if not requests:
            return {}
        self.diagnoses += 1
        paused = time.monotonic() < self._engine_pause
        policy = replace(self._policy, use_docker=self._policy.use_docker and not paused)
        report = pipeline.who_without_proof(requests, policy, api.effects(None))
        if not paused:
            silent = [each.error or "" for each in report.engines if each.silent]
            self._silent = "; ".join(silent)
            self._engine_pause = time.monotonic() + (_ENGINE_PAUSE_SECONDS if silent else 0)
        return {port.request: held_by(port.holders) for port in report.ports}

    def _in_order(self, found: Iterable[PortRequest]) -> Sequence[PortRequest]:
        """The watched ports; where all are watched, those that were found."""
        return sorted(found) if self._requests is None else self._requests

    def _history(self, request: PortRequest, now: Instant) -> PortHistory:
        if request not in self._histories:
            self._histories[request] = PortHistory(request, self._services.get(request, ()), now)
        return self._histories[request]

    def _concerns(self, event: Event) -> bool:
        """Leases on other ports are nobody's business here."""
        if event.lease is None or self._requests is None or event.request is None:
            return True
        return any(collide(event.request, each) for each in self._requests)

    def _notes(self, now: Instant) -> Iterator[Event]:
        """What cannot be seen, each time that this changes."""
        errors = {"engines": self._silent, "leases": self._leases.error}
        for what, error in errors.items():
            if error and error != self._noted.get(what):
                yield Event(now.at, EventKind.NOTE, reason=f"partial view: {error}")
        self._noted = errors
