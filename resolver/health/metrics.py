"""PURE: what is known of ports → Prometheus's text format, version 0.0.4.

The names of metrics and labels are public API. Values of labels may have been chosen by strangers:
each is made printable first, and escaped as the format wants it. A series appears once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver import __version__
from resolver.report.escape import escape

if TYPE_CHECKING:
    from resolver.health.model import HealthReport, ServiceHealth
    from resolver.model import Holder, PortRequest, Verdict

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LABEL = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Labels = dict[str, str]
Samples = Iterable[tuple[Labels, float]]
Family = tuple[str, str, str, Samples]


class Readings(Struct, frozen=True):
    """What there is to tell; None stands for what is not known, and is left out.

    `seconds` is how long the check took. `respawns` were seen since the start of whoever tells, in
    as many `looks`. `leases` counts the living ones by project and whether they are held.
    """

    report: HealthReport | None
    seconds: float = 0.0
    looks: int | None = None
    respawns: Mapping[PortRequest, int] | None = None
    leases: Mapping[tuple[str, bool], int] | None = None
    outcomes: Mapping[Verdict, int] | None = None


def exposition(readings: Readings) -> str:
    """Everything, one sample a line."""
    return "".join(_text(*family) for family in _families(readings))


def _families(readings: Readings) -> Iterator[Family]:
    """The name of each metric, its type, its help, and its samples."""
    yield "build_info", "gauge", "The version that answers.", [({"version": __version__}, 1.0)]
    report = readings.report
    text = "1 where the last check could be made."
    yield "check_success", "gauge", text, [({}, float(report is not None))]
    if report is not None:
        yield from _of_check(report, readings.seconds)
    if readings.looks is not None:
        text = "How often ports were looked at for respawns and reservations."
        yield "looks_total", "counter", text, [({}, float(readings.looks))]
    if readings.respawns is not None:
        text = "How often a holder of the port was seen to come back."
        respawns = ((_request(each), float(n)) for each, n in readings.respawns.items())
        yield "port_respawns_total", "counter", text, respawns
    if readings.leases is not None:
        leases = (
            ({"project": project, "held": "true" if held else "false"}, float(n))
            for (project, held), n in sorted(readings.leases.items())
        )
        yield "leases", "gauge", "Living reservations of ports.", leases
    if readings.outcomes is not None:
        outcomes = (({"verdict": str(each)}, float(n)) for each, n in readings.outcomes.items())
        yield "resolve_outcomes_total", "counter", "Ports by what resolve came to.", outcomes


def _of_check(report: HealthReport, seconds: float) -> Iterator[Family]:
    ports = [(_port(each), each) for each in report.services]
    yield "check_timestamp_seconds", "gauge", "When the last check began.", [({}, report.at)]
    yield "check_duration_seconds", "gauge", "How long it took.", [({}, seconds)]
    up = ((port, float(each.healthy is True)) for port, each in ports)
    yield "port_up", "gauge", "1 where the port is known to be healthy.", up
    info = (
        (
            {**port, "level": each.level, "belongs": each.belongs, "health": each.state},
            1.0,
        )
        for port, each in ports
    )
    text = "How far each port got, whose its holder is, and what that comes to."
    yield "port_info", "gauge", text, info
    holders = (
        ({**port, "kind": found.kind, "holder": _name(found.holder)}, 1.0)
        for port, each in ports
        for found in (holder.classification for holder in each.holders)
    )
    yield "port_holder_info", "gauge", "Who holds each port, and as what.", holders
    answers = (
        ({**port, "from": answer.address}, answer.seconds)
        for port, each in ports
        for answer in each.answers
        if answer.came
    )
    yield "port_answer_seconds", "gauge", "How long each address took to answer.", answers


def _request(request: PortRequest) -> Labels:
    return {
        "port": str(request.port),
        "transport": request.transport,
        "address": request.address or "",
    }


def _port(health: ServiceHealth) -> Labels:
    return {"service": health.target.name, **_request(health.target.request)}


def _name(holder: Holder) -> str:
    """What it is called, without a number that changes with each start; empty where hidden."""
    if holder.container is not None:
        return holder.container.name
    return holder.master.name if holder.master is not None else ""


def _text(name: str, kind: str, text: str, samples: Samples) -> str:
    """One metric with its samples, each series once; nothing where there are none."""
    lines = {_series(labels): number for labels, number in samples}
    if not lines:
        return ""
    full = f"ultra_ports_{name}"
    head = f"# HELP {full} {text}\n# TYPE {full} {kind}\n"
    return head + "".join(f"{full}{series} {number!r}\n" for series, number in lines.items())


def _series(labels: Labels) -> str:
    """Values are printable, and then escaped: a backslash of ours is a backslash for the reader."""
    pairs = (f'{name}="{escape(text).translate(_LABEL)}"' for name, text in labels.items())
    return "{" + ",".join(pairs) + "}" if labels else ""
