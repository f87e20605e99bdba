"""PURE: what was seen and heard of one target → how it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.health.model import Belongs, Reach, ServiceHealth, is_heard
from resolver.model import Kind, SocketState, Transport, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.compose.probe import Inside
    from resolver.health.model import Answer, Target
    from resolver.model import Holder, HolderReport, PortReport

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
    def heard(self) -> tuple[Answer, ...]:
        """The answers of addresses that accepted a connection."""
        return tuple(filter(is_heard, self.answers))


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
    if found.inside.listens is False and not _spoken(found):
        return Reach.HELD
    known = [each.level for each in found.heard]
    best = max(known, key=_ORDER.index, default=Reach.FREE)
    if best is Reach.ACCEPTS and any(each.good for each in _command(found)):
        return Reach.SPEAKS
    if best is not Reach.FREE:
        return best
    if found.report.holders:
        return Reach.HELD
    unknown = found.report.verdict in {Verdict.HIDDEN, Verdict.UNDECIDED} or _unheard(found)
    return Reach.UNKNOWN if unknown else Reach.FREE


def _verdict(found: Findings, level: Reach) -> tuple[bool | None, str]:
    """Whether it is healthy, and why; the first objection counts."""
    if level is Reach.UNKNOWN:
        return None, next(iter(_unheard(found)), found.report.reason)
    if level is Reach.FREE:
        return False, "nobody holds it"
    objection = next(_objections(found), "")
    if objection:
        return False, objection
    if doubt := _doubt(found):
        return None, doubt
    if found.target.request.transport is Transport.UDP:
        said = _command(found)
        return True, said[0].reason if said else "a socket is bound"
    good = (*_command(found), *found.heard)
    return True, good[0].reason


def _objections(found: Findings) -> Iterator[str]:
    """What makes it unhealthy, the cause before the effect."""
    if found.belongs is Belongs.STRANGER:
        yield f"{_names(found)} holds it, and is not the service{_workplace(found)}"
    if not _spoken(found):
        yield from filter(None, (found.inside.problem, _stopped(found)))
    answers = found.heard
    yield from (
        f"{each.address} {each.reason}" if len(answers) > 1 else each.reason
        for each in answers
        if not each.good
    )
    yield from (
        each.reason for each in _command(found) if not each.good and each.level is not Reach.UNKNOWN
    )
    if found.target.request.transport is Transport.TCP and not (answers or found.away):
        yield _silence(found)


def _doubt(found: Findings) -> str:
    """Why it cannot be said; empty where it can."""
    if found.away and not found.heard:
        return f"it is published where it cannot be asked from here: {found.away}"
    if found.target.untrusted:
        return f"not run: {found.target.untrusted}"
    unclear = [each.reason for each in _command(found) if not each.good]
    if unclear or found.target.request.transport is Transport.TCP:
        return unclear[0] if unclear else ""
    return _doubt_of_udp(found)


def _doubt_of_udp(found: Findings) -> str:
    """Datagrams are not accepted, they are taken: a bound socket is all that can be seen."""
    probe = found.target.probe
    if probe and probe.kind != "command":
        return f"{probe.kind} is no probe for UDP"
    if probe or found.inside.listens:
        return ""
    if is_published(found):
        return "UDP: only a look into the container could tell"
    states = {each.classification.holder.state for each in found.report.holders}
    return "" if states & _SERVES_UDP else "UDP: nobody waits for datagrams there"


def _silence(found: Findings) -> str:
    """Why no address accepts."""
    if unheard := _unheard(found):
        return unheard[0]
    holders = [each.classification.holder for each in found.report.holders]
    if holders and all(each.state is SocketState.BOUND for each in holders):
        return f"{_names(found)} has bound it, and does not listen"
    if holders and all(each.state is SocketState.CONNECTED for each in holders):
        return f"a connection of {_names(found)} uses it, and nobody listens"
    refused = [each.reason for each in found.answers if each.reason]
    return f"held, and no address accepts: {refused[0]}" if refused else "nothing accepts"


def _unheard(found: Findings) -> list[str]:
    """Why no connection was made to an address that did not refuse one."""
    return [each.reason for each in found.answers if each.address and each.level is Reach.UNKNOWN]


def _stopped(found: Findings) -> str:
    """Why nobody who holds it can answer; a worker that runs can."""
    holders = [each.classification.holder for each in found.report.holders]
    if any(each.container for each in holders):
        return ""
    processes = [process for each in holders for process in each.processes]
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
        said = "; ".join(f"{each.address}: {each.reason}" for each in answers)
        yield f"the addresses answer differently: {said}"
    if answers and not _spoken(found) and found.inside.listens is None and is_published(found):
        yield (
            "docker-proxy accepts before the program listens, and the container could not be "
            "looked into"
        )
    if found.belongs is Belongs.UNKNOWN and found.target.place:
        yield f"whether {_names(found)} is the service's own cannot be told"


def _spoken(found: Findings) -> bool:
    """Whether its program has answered for itself."""
    return any(each.level is Reach.SPEAKS for each in found.answers if each.address)


def _command(found: Findings) -> tuple[Answer, ...]:
    return tuple(each for each in found.answers if not each.address)


def is_published(found: Findings) -> bool:
    """Whether somebody else accepts for the program that is meant."""
    return any(is_forwarded(each) for each in found.report.holders)


def is_forwarded(report: HolderReport) -> bool:
    """Whether somebody else accepts for the program: a container's port, or a forwarder's."""
    holder = report.classification.holder
    return holder.container is not None or report.classification.kind is Kind.FORWARDER


def _names(found: Findings) -> str:
    names = (_name(each.classification.holder) for each in found.report.holders)
    return ", ".join(dict.fromkeys(names)) or "somebody who is not seen"


def _workplace(found: Findings) -> str:
    """Where the holder works, which is why it was taken for a stranger where no lease says so."""
    masters = [each.classification.holder.master for each in found.report.holders]
    folders = dict.fromkeys(master.cwd for master in masters if master and master.cwd)
    if found.lease or not folders or is_published(found):
        return ""
    return f": it works in {', '.join(folders)}, not in {found.target.place}"


def _name(holder: Holder) -> str:
    if holder.container is not None:
        return f"container {holder.container.name}"
    return str(holder.master) if holder.master is not None else "somebody who is hidden"
