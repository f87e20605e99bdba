"""PURE: all that is known of one target → how it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.health.model import Answer, Reach, ServiceHealth, Target, is_heard
from resolver.leases.belonging import Belongs
from resolver.model import Holder, HolderReport, Kind, PortReport, SocketState, Transport, Verdict
from resolver.report.holders import holder_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.compose.probe import Inside

_ORDER = (Reach.FREE, Reach.HELD, Reach.ACCEPTS, Reach.SPEAKS)
_SERVES_UDP = {SocketState.UNCONNECTED, SocketState.BOUND}


class Findings(Struct, frozen=True):
    """All that is known of one target. `report` is `who`'s, made without binding the port.

    `away` says why the ports that its engine publishes cannot be asked from here; empty else.
    """

    target: Target
    report: PortReport
    answers: tuple[Answer, ...]
    inside: Inside
    belongs: Belongs
    lease: str = ""
    away: str = ""

    @property
    def holders(self) -> list[Holder]:
        """Who holds the port."""
        return [each.holder for each in self.report.holders]

    @property
    def names(self) -> str:
        """The holders in a few words."""
        names = dict.fromkeys(map(holder_name, self.holders))
        return ", ".join(names) or "somebody who is not seen"

    @property
    def published(self) -> bool:
        """Whether somebody else accepts for the program that is meant."""
        return any(map(is_forwarded, self.report.holders))

    @property
    def commands(self) -> list[Answer]:
        """What the probe's command came to, where there is one."""
        return [each for each in self.answers if not each.address]

    @property
    def heard(self) -> list[Answer]:
        """The answers of addresses that accepted a connection."""
        return list(filter(is_heard, self.answers))

    @property
    def unheard(self) -> list[str]:
        """Why no connection was made to an address that did not refuse one."""
        unknown = (each for each in self.answers if each.level is Reach.UNKNOWN)
        return [each.reason for each in unknown if each.address]

    @property
    def spoken(self) -> bool:
        """Whether its program has answered for itself."""
        return any(each.level is Reach.SPEAKS for each in self.heard)


def evaluate(found: Findings) -> ServiceHealth:
    """The health of one target, with the reason."""
    level = _level(found)
    healthy, reason = _verdict(found, level)
    return ServiceHealth(
        found.target,
        healthy,
        level,
        found.belongs,
        reason,
        found.report.holders,
        found.answers,
        found.inside.listens,
        found.lease,
        tuple(dict.fromkeys((*_notes(found), *found.report.notes))),
    )


def _level(found: Findings) -> Reach:
    """How far it got at best; a forwarder that accepts for nobody has not got anywhere."""
    if found.inside.listens is False and not found.spoken:
        return Reach.HELD
    known = [each.level for each in found.heard]
    best = max(known, key=_ORDER.index, default=Reach.FREE)
    if best is Reach.ACCEPTS and any(each.good for each in found.commands):
        return Reach.SPEAKS
    if best is not Reach.FREE:
        return best
    if found.report.holders:
        return Reach.HELD
    unknown = found.report.verdict in {Verdict.HIDDEN, Verdict.UNDECIDED} or found.unheard
    return Reach.UNKNOWN if unknown else Reach.FREE


def _verdict(found: Findings, level: Reach) -> tuple[bool | None, str]:
    """Whether it is healthy, and why; the first objection counts."""
    if level is Reach.UNKNOWN:
        return None, next(iter(found.unheard), found.report.reason)
    if level is Reach.FREE:
        return False, "nobody holds it"
    objection = next(_objections(found), "")
    if objection:
        return False, objection
    if doubt := _doubt(found):
        return None, doubt
    if found.target.request.transport is Transport.UDP:
        return True, found.commands[0].reason if found.commands else "a socket is bound"
    return True, (*found.commands, *found.heard)[0].reason


def _objections(found: Findings) -> Iterator[str]:
    """What makes it unhealthy, the cause before the effect."""
    if found.belongs is Belongs.STRANGER:
        yield f"{found.names} holds it, and is not the service{_workplace(found)}"
    if not found.spoken:
        yield from filter(None, (found.inside.problem, _stopped(found)))
    answers = found.heard
    yield from (
        f"{each.address} {each.reason}" if len(answers) > 1 else each.reason
        for each in answers
        if not each.good
    )
    yield from (
        each.reason for each in found.commands if not each.good and each.level is not Reach.UNKNOWN
    )
    if found.target.request.transport is Transport.TCP and not (answers or found.away):
        yield _silence(found)


def _doubt(found: Findings) -> str:
    """Why it cannot be said; empty where it can."""
    if found.away and not found.heard:
        return f"it is published where it cannot be asked from here: {found.away}"
    if found.target.untrusted:
        return f"not run: {found.target.untrusted}"
    if unclear := [each.reason for each in found.commands if not each.good]:
        return unclear[0]
    return _doubt_of_udp(found) if found.target.request.transport is Transport.UDP else ""


def _doubt_of_udp(found: Findings) -> str:
    """Datagrams are not accepted, they are taken: a bound socket is all that can be seen."""
    probe = found.target.probe
    if probe and probe.kind != "command":
        return f"{probe.kind} is no probe for UDP"
    if probe or found.inside.listens:
        return ""
    if found.published:
        return "UDP: only a look into the container could tell"
    waits = any(each.state in _SERVES_UDP for each in found.holders)
    return "" if waits else "UDP: nobody waits for datagrams there"


def _silence(found: Findings) -> str:
    """Why no address accepts."""
    if unheard := found.unheard:
        return unheard[0]
    states = {each.state for each in found.holders}
    if states == {SocketState.BOUND}:
        return f"{found.names} has bound it, and does not listen"
    if states == {SocketState.CONNECTED}:
        return f"a connection of {found.names} uses it, and nobody listens"
    refused = [each.reason for each in found.answers if each.reason]
    return f"held, and no address accepts: {refused[0]}" if refused else "nothing accepts"


def _stopped(found: Findings) -> str:
    """Why nobody who holds it can answer; a worker that runs can."""
    if any(each.container for each in found.holders):
        return ""
    processes = [process for each in found.holders for process in each.processes]
    if processes and all(process.stopped for process in processes):
        return f"{processes[0]} is stopped (SIGSTOP): it accepts, and does not answer"
    return ""


def _notes(found: Findings) -> Iterator[str]:
    answers = found.heard
    names = [each.address for each in answers]
    absent = [each.address for each in found.answers if each.level is Reach.FREE]
    if names and absent:
        yield (
            f"answers on {', '.join(names)}, not on {', '.join(absent)}: "
            "who asks for localhost may try either"
        )
    if len({(each.level, each.good, each.status) for each in answers}) > 1:
        reasons = "; ".join(f"{each.address}: {each.reason}" for each in answers)
        yield f"the addresses answer differently: {reasons}"
    if answers and not found.spoken and found.inside.listens is None and found.published:
        yield (
            "docker-proxy accepts before the program listens, and the container could not be "
            "looked into"
        )
    if found.belongs is Belongs.UNKNOWN and found.target.place:
        yield f"whether {found.names} is the service's own cannot be told"


def is_forwarded(report: HolderReport) -> bool:
    """Whether somebody else accepts for the program: a container's port, or a forwarder's."""
    holder = report.holder
    return holder.container is not None or report.classification.kind is Kind.FORWARDER


def _workplace(found: Findings) -> str:
    """Where the holder works, which is why it was taken for a stranger where no lease says so."""
    masters = [each.master for each in found.holders if each.master]
    folders = dict.fromkeys(each.cwd for each in masters if each.cwd)
    if found.lease or not folders or found.published:
        return ""
    return f": it works in {', '.join(folders)}, not in {found.target.place}"
