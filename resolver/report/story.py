"""The story of each port: what holds it, what would start that again, what ends with it, and how.

One screen answers: a headline, at most five lines for a holder, the last of them to be run. A
verbose reader gets the evidence, the chain, and what was done.
"""

from __future__ import annotations

from enum import IntEnum
from itertools import pairwise
from operator import add, itemgetter
from typing import TYPE_CHECKING

from resolver.model import (
    AdviseStep,
    Command,
    Confidence,
    HolderReport,
    KillStep,
    Kind,
    PortReport,
    PortRequest,
    Respawn,
    Result,
    Verdict,
    Whose,
)
from resolver.phrases import counted
from resolver.programs import retitled
from resolver.report.escape import escape
from resolver.report.steps import action
from resolver.report.style import TextStyle
from resolver.shell import join

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from resolver.model import Classification, NearestFree, Process, Step

    _Fact = tuple["_Weight", str]

_ARROW = " → "
_WORDS = {
    Verdict.WOULD_FREE: "would free",
    Verdict.RETAKEN: "still held",
    Verdict.ADVISED: "still held",
    Verdict.REFUSED: "still held",
}
_MOST = 6  # rows for one holder
_LONG = 4  # rows of a fact that are cut
_SHORT = 76  # characters of two facts that are one line
_UNITS = (("day", 86400), ("h", 3600), ("min", 60))


class _Weight(IntEnum):
    """What matters less than the rest where there are too many rows, the lightest first."""

    IDLE = 0  # nothing would start it again
    NOTE = 1
    LOSS = 2
    WAY = 3
    REASON = 4


def stories(ports: Iterable[PortReport], style: TextStyle | None = None) -> str:
    """A paragraph for each port; those of one line stand together. One command keeps them all."""
    style, ports = style or TextStyle(), list(ports)
    parts = ["\n".join(_port(port, style)) for port in ports]
    ends = ["\n\n" if "\n" in above + below else "\n" for above, below in pairwise(parts)]
    plain = (each for each in ports if style.verbose or not _told(each, style))
    keep = [each.to_keep for each in plain if each.to_keep]
    label = "to keep it" if len(keep) == 1 else "to keep those in the ephemeral range"
    last = ["", *(style.command(label, each) for each in dict.fromkeys(keep))]
    told = "".join(part + end for part, end in zip(parts, [*ends, ""], strict=False))
    return told + "\n".join(last)


def before(step: Step, holders: Sequence[Classification], style: TextStyle) -> str:
    """The story of whom a step would end, for whoever is asked whether it may."""
    ended = [HolderReport(each, step) for each in holders]
    requests = dict.fromkeys(PortRequest(each.port, each.transport) for each in step.bindings)
    ports = [
        PortReport(request, Verdict.WOULD_FREE, holders=tuple(found))
        for request in requests
        if (found := [e for e in ended if request.meets(e.holder.binding)])
    ]
    return "\n".join(line for port in ports for line in _port(port, style, asked=True))


def _port(port: PortReport, style: TextStyle, *, asked: bool = False) -> Iterator[str]:
    told = _told(port, style)
    groups = list(_together(told))
    rest = _rest(port, told)
    head = style.headline(escape(port.title), _word(port), rest)
    ways = list(dict.fromkeys(way for each in groups for way in _ways(each[0], port, style)))
    what = [_what(each[0], style) for each in groups]
    facts = [_facts(each, alone=len(groups) == 1, style=style) for each in groups]
    beside = list(_beside(port, told, style))
    cut = groups and not style.verbose
    room = _MOST * len(groups) - _rows([head, *ways])
    if cut and room <= sum(map(_rows, what)):
        what = [_what(each[0], style, short=True) for each in groups]
    kept = _fitted([*facts, beside], room - sum(map(_rows, what)) if cut else None, style)
    yield _with_free(head, rest, port, style) if len(kept[-1]) < len(beside) else head
    for lines in (*map(add, what, kept), kept[-1]):
        yield from lines
    yield from () if asked else ways


def _with_free(head: str, rest: str, port: PortReport, style: TextStyle) -> str:
    """The headline with the free port that no line below had room for, if there is room here."""
    if port.nearest_free is None:
        return head
    free = _free(port.nearest_free)
    longer = style.headline(escape(port.title), _word(port), f"{rest}; {free}")
    return longer if _rows([longer]) == _rows([head]) else head


def _rows(lines: Iterable[str]) -> int:
    return sum(line.count("\n") + 1 for line in lines)


def _fitted(paragraphs: list[list[_Fact]], room: int | None, style: TextStyle) -> list[list[str]]:
    """The lines of each, in as many rows as there is room for: the lightest facts are left out.

    Before one goes that matters, those of several rows are cut.
    """
    most: int | None = None
    while True:
        lines = [[style.line(text, most=most) for _, text in facts] for facts in paragraphs]
        facts = [fact for several in paragraphs for fact in several]
        fits = room is None or sum(map(_rows, lines)) <= room
        if fits or not facts or (most == 1 and len(facts) == 1):
            return lines
        lightest = min(reversed(facts), key=itemgetter(0))
        if most != 1 and lightest[0] is not _Weight.IDLE:
            most = (most or _LONG) - 1
        else:
            paragraphs = [[each for each in facts if each is not lightest] for facts in paragraphs]


def _beside(port: PortReport, told: Sequence[HolderReport], style: TextStyle) -> Iterator[_Fact]:
    """What is to be said of the port itself, and which other one is free."""
    more = port.details if style.verbose or not told else ()
    kept = [note for note in port.notes if style.verbose or not _is_said(note, port, told)]
    yield from ((_Weight.NOTE, note) for note in (*kept, *more))
    if port.nearest_free:
        yield _Weight.WAY, _run_there(port.nearest_free)


def _is_said(note: str, port: PortReport, told: Iterable[HolderReport]) -> bool:
    """Whether the headline says it, or a holder's lease does, which the reservation is."""
    return note in _but(port) or any(
        isinstance(each.step, AdviseStep)
        and (found := each.classification.ownership).leased
        and str(found) in each.step.why
        and note.startswith(f"reserved for {found.leased} of project {found.project}")
        and "; " not in note  # it says nothing of the holder
        for each in told
    )


def _but(port: PortReport) -> tuple[str, ...]:
    """For whom a port is reserved that is free all the same."""
    free = port.verdict is Verdict.FREE
    return tuple(each for each in port.notes if free and each.startswith("reserved for "))


def _run_there(beside: NearestFree) -> str:
    """That it is free, and what may be run on it."""
    free, port = _free(beside), beside.request.typed
    if not beside.service:
        return free
    run = join(("ultra-ports", "run", "--port", f"{beside.service}:{port}", "--", "COMMAND"))
    return f"{free}: `{run}`, or `assign`"


def _free(beside: NearestFree) -> str:
    return f"{beside.request.typed} is free"


def _told(port: PortReport, style: TextStyle) -> Sequence[HolderReport]:
    """Whose story it is: of a port that was taken back, that of who has it now."""
    if style.verbose:
        return (*port.holders, *port.retaken_by)
    return port.retaken_by or (port.holders if port.verdict is not Verdict.FREE else ())


def _together(holders: Iterable[HolderReport]) -> Iterable[list[HolderReport]]:
    """Holders that end together, such as the two forwarders of one container, are one story."""
    found: dict[object, list[HolderReport]] = {}
    for holder in holders:
        key = (holder.step, holder.outcome) if holder.step else holder
        found.setdefault(key, []).append(holder)
    return found.values()


def _word(port: PortReport) -> str:
    if any(map(is_unseen, port.holders)):
        return "held"
    if port.verdict is Verdict.HELD and any(each.outcome for each in port.holders):
        return "still held"
    return _WORDS.get(port.verdict, port.verdict)


def is_unseen(report: HolderReport) -> bool:
    """Whether no more is known of a holder than whose it may be."""
    found = report.classification
    return found.kind in {Kind.HIDDEN, Kind.UNKNOWN} and found.holder.hidden is not None


def _rest(port: PortReport, told: Sequence[HolderReport]) -> str:
    """Behind the verdict: where it is held, unless there is a reason that no story tells."""
    if told and all(map(is_unseen, told)):
        return told[0].classification.reason.removeprefix("held")
    if port.verdict is Verdict.RESERVED:
        return f" {port.reason}"
    if port.verdict is Verdict.WOULD_FREE:
        return f": {', then '.join(dict.fromkeys(action(each.step) for each in told if each.step))}"
    told_of = [said for each in told for said in _told_of(each)]
    parts = [each for each in port.reason.split("; ") if not any(each in said for said in told_of)]
    but = _but(port)
    if but or any(parts):
        return f", but {'; '.join(but)}" if but else f": {'; '.join(parts)}"
    if not told:
        return ""
    bindings = dict.fromkeys(each.holder.binding for each in told)
    hosts = " and ".join(dict.fromkeys(binding.host for binding in bindings))
    reach = ", reachable from other machines" if any(e.is_reachable for e in bindings) else ""
    return f" on {hosts}{reach}"


def _told_of(report: HolderReport) -> tuple[str, ...]:
    """The reasons that the story of a holder gives."""
    return report.classification.reason, report.step.why if report.step else "", _outcome(report)


def _facts(together: list[HolderReport], *, alone: bool, style: TextStyle) -> list[_Fact]:
    """What is said of holders that end together; `alone` where nobody else has the port."""
    first = together[0]
    found, why = first.classification, _why(first, alone=alone)
    idle = found.respawn is Respawn.NO and not isinstance(first.step, AdviseStep)
    if idle and found.kind is Kind.CONTAINER and not style.verbose:
        why = ""  # it has no restart policy
    facts = [(_Weight.IDLE if idle else _Weight.REASON, why)]
    if lost := _lost(together, why):
        ended = f"{'went' if _is_done(first) else 'goes'} down with it: {lost}"
        both = f"{why} · {ended}" if why else ended
        facts = [(_Weight.LOSS, both)] if len(both) <= _SHORT else [*facts, (_Weight.LOSS, ended)]
    if found.ownership.whose is Whose.OTHER and str(found.ownership) not in why:
        spares = "" if isinstance(first.step, AdviseStep) else "; `--mine` spares it"
        facts.append((_Weight.WAY, f"another checkout's: {found.ownership}{spares}"))
    facts.append((_Weight.REASON, _outcome(first)))
    evidence = _evidence(together) if style.verbose else ()
    return [*((_Weight.NOTE, each) for each in evidence), *(each for each in facts if each[1])]


def _what(report: HolderReport, style: TextStyle, *, short: bool = False) -> list[str]:
    """What it is: its container, or its command line, where that runs, whose it is; since when."""
    found, holder = report.classification, report.holder
    master, container = holder.master, holder.container
    age = _age(style.age_seconds(master.identity)) if master and style.age_seconds else ""
    if container and found.kind is not Kind.LOCAL:
        image = f" ({container.image})" if container.image else ""
        parts = (f"{container.title}{image}", container.compose, age)
        return [style.line(" · ".join(filter(None, parts)), most=1 if short else None)]
    if master:
        folder = f"{master.deleted_cwd} (deleted)" if master.deleted_cwd else master.cwd
        where = container.title if container else folder or ""
        who = f"PID {master.pid}, {master.user or master.uid}"
        rest = ", ".join(filter(None, (who, age)))
        return [style.row(command_line(master), where, rest, short=short)]
    return []


def command_line(process: Process) -> str:
    """As it was typed: without the directory of its program, and the interpreter of a script."""
    words = process.command
    if not words or " " in words[0]:  # hidden, or a title in its place
        return words[0] if words else process.name
    names = [word.rpartition("/")[2] for word in words[:2]]
    start = names.index(process.name) if process.name in names else 0
    return join((names[start], *words[start + 1 :]))


def _age(seconds: float) -> str:
    """In its largest unit: `3 min`, `2 days`."""
    for name, size in _UNITS:
        if count := int(seconds // size):
            return f"{count} {name}{'s' if name == 'day' and count > 1 else ''}"
    return "just started"


def _evidence(together: list[HolderReport]) -> Iterator[str]:
    """How all of it is known, and what was done."""
    yield f"{together[0].classification.kind}: {chain(together[0])}"
    facts = dict.fromkeys(fact for each in together for fact in each.classification.evidence)
    yield from (f"because {fact}" for fact in facts if fact != together[0].classification.restart)
    for lost in together[0].classification.collateral:
        yield f"{lost.text}: {lost.evidence}" if lost.evidence else lost.text
    if together[0].classification.confidence is Confidence.SUSPECTED:
        yield "suspected, not confirmed"
    if together[0].outcome:
        yield from (f"did: {action}" for action in together[0].outcome.actions)


def _why(report: HolderReport, *, alone: bool) -> str:
    """What would start it again, or else why it is left alone, as far as that still matters."""
    found, step = report.classification, report.step
    if isinstance(step, AdviseStep):
        is_plain = found.kind in {Kind.LOCAL, Kind.CONTAINER}  # no more than what they are
        is_told = is_plain or (alone and is_unseen(report))
        return step.why.removeprefix(found.reason if is_told else "").lstrip(":; ")
    if _is_done(report) and found.respawn is Respawn.NO:
        return ""
    if _is_done(report) and found.respawners:
        return f"{found.respawners[0]} would have started it again; it was ended, too"
    return found.restart or found.reason


def _lost(together: list[HolderReport], why: str) -> str:
    """What ends with a holder, but for what the reason names."""
    holder = together[0].holder
    workers = 0 if holder.container else len(holder.processes) - 1
    texts = [counted(workers, "worker")] if workers > 0 else []
    texts += [lost.text for each in together for lost in each.classification.collateral]
    name = holder.master.name if holder.master else ""  # that Redis goes with redis-server is clear
    told = (text for text in texts if text not in why and not name.startswith(text.lower()))
    return ", ".join(dict.fromkeys(told))


def chain(report: HolderReport) -> str:
    """Who a holder is and what would bring it back, in one line."""
    links = report.classification.chain or (report.classification.reason,)
    return _ARROW.join(escape(link) for link in links)


def _is_done(report: HolderReport) -> bool:
    return report.outcome is not None and report.outcome.result is Result.DONE


def _outcome(report: HolderReport) -> str:
    """How a step ended that did not do what it was for."""
    outcome = report.outcome
    return "" if outcome is None or _is_done(report) else f"{outcome.result}: {outcome.reason}"


def _ways(report: HolderReport, port: PortReport, style: TextStyle) -> Iterator[str]:
    """What to run now: how to start it again after it was ended, else how to free the port."""
    step = report.step
    if step is None:
        return
    undo = (style.command("start it again", each) for each in step.undo)
    by_hand = (style.command("by hand", each) for each in step.commands)
    if _is_done(report):
        yield from undo
        if isinstance(step, KillStep) and not step.undo and any(map(retitled, step.masters)):
            yield style.line("start it again: not known, it rewrote its command line")
    elif isinstance(step, AdviseStep):
        yield from undo if style.verbose else ()
        yield from (style.command(*_labelled(each, report, port)) for each in step.commands)
    elif report.outcome and report.outcome.result is not Result.SKIPPED:
        yield from (style.command("to free it", each) for each in step.commands)
    else:
        yield from by_hand if style.verbose else ()
        again = style.again or ("ultra-ports", "resolve", _typed(port.request))
        yield style.command("to free it", Command(again))


def _labelled(command: Command, report: HolderReport, port: PortReport) -> tuple[str, Command]:
    """A step's command with its label; who was only looked at is freed by another one of ours."""
    if is_unseen(report) or command.argv[:2] == ("systemctl", "status"):  # it frees nothing
        return "run", command
    step = report.step
    if port.verdict is Verdict.HELD and isinstance(step, AdviseStep) and _is_denied(step):
        return "to free it", Command((*command.argv[:2], "resolve", _typed(port.request)))
    return "to free it", command


def _is_denied(step: AdviseStep) -> bool:
    return step.verdict is Verdict.HIDDEN and step.commands[-1].argv[0] == "sudo"


def _typed(request: PortRequest) -> str:
    """The port as one types it: TCP and every address are what a number alone means."""
    return str(request.port) if request == PortRequest(request.port) else str(request)
