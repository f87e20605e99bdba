"""PURE: a compose project → what is wrong with its ports by themselves, whoever holds them now.

What compose and the engine do was measured with compose 2.26 and Docker Engine 20.10: they accept
each of these files, and fail, or drop a port, while they start the containers.
"""

from __future__ import annotations

from itertools import chain, combinations
from typing import TYPE_CHECKING

from resolver.compose.findings import Code, Finding, HostLimits, Severity, conflict, warning
from resolver.compose.model import HOST, NONE, ComposeProject, ComposeService, Published
from resolver.model import PortRequest, Transport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MOST_NAMED = 5


def find(project: ComposeProject, limits: HostLimits) -> tuple[Finding, ...]:
    """What is worth saying of the project's ports: conflicts first, each in the file's order."""
    services = [service for service in project.services if service.replicas > 0]
    entries = [each for service in services for each in service.fixed]
    replicas = {service.name: service.replicas for service in services}
    found = [
        *chain.from_iterable(map(_of_service, services)),
        *_together(entries),
        *_replicas(entries, replicas),
        *_ranges(entries, replicas),
        *_ephemeral(entries, limits),
        *_privileged(entries, limits),
    ]
    return (
        *(each for each in found if each.level is Severity.CONFLICT),
        *(each for each in found if each.level is Severity.WARNING),
    )


# --- one service ----------------------------------------------------------------------------------


def _of_service(service: ComposeService) -> Iterator[Finding]:
    name = (service.name,)
    for entry in service.published:
        if entry.error:
            line = f"{service.name}: {entry.text}: {entry.error}"
            yield conflict(Code.NOT_A_PORT, line, name)
        if not entry.error and entry.transport not in list(Transport):
            line = f"{service.name}: {entry.text}: {entry.transport} ports are not checked"
            yield warning(Code.UNCHECKED, line, name)
    if service.published:
        yield from _of_network(service)


def _of_network(service: ComposeService) -> Iterator[Finding]:
    written = ", ".join(each.text for each in service.published)
    name = (service.name,)
    if service.network_mode == HOST:
        line = (
            f"{service.name} is on the host's network: compose discards its ports ({written}), "
            "and where it really listens is not checked"
        )
        yield warning(Code.HOST_NETWORK, line, name, hint="leave out one of the two")
    elif service.network_mode == NONE:
        line = f"{service.name} has no network: its ports ({written}) are not published"
        yield warning(Code.NO_NETWORK, line, name, hint="leave out one of the two")
    elif service.joins:
        line = (
            f"{service.name} lives in the network of {service.network_mode}: the engine refuses to "
            f"publish its ports ({written})"
        )
        hint = f"publish them at {service.network_mode.partition(':')[2]}"
        yield conflict(Code.SHARED_NETWORK, line, name, hint=hint)


# --- several entries ------------------------------------------------------------------------------


def _together(entries: Sequence[Published]) -> Iterator[Finding]:
    """Entries that each want one port, and it is the same one: a finding for each port."""
    wanted: dict[tuple[str, int], list[Published]] = {}
    for entry in entries:
        if entry.is_single:
            wanted.setdefault((entry.transport, entry.ports[0]), []).append(entry)
    for (transport, port), group in wanted.items():
        pairs = [pair for pair in combinations(group, 2) if pair[0].meets(pair[1])]
        if pairs:
            yield _clash(f"{port}/{transport}", list(dict.fromkeys(chain.from_iterable(pairs))))


def _clash(label: str, group: list[Published]) -> Finding:
    names = tuple(dict.fromkeys(each.service for each in group))
    several = len(names) > 1
    wanted = tuple(dict.fromkeys(chain.from_iterable(each.requests for each in group)))
    where = f" ({', '.join(map(str, wanted))})" if len(wanted) > 1 else ""
    who = f"{', '.join(names[:-1])} and {names[-1]} all" if len(names) > 2 else " and ".join(names)  # noqa: PLR2004
    fact = f"{who} publish {label}" if several else f"{who} publishes {label} {len(group)} times"
    return conflict(
        Code.TWO_SERVICES if several else Code.OVERLAP,
        f"{fact}{where}: only one of them can have it",
        names,
        wanted,
        "give one of them another host port" if several else "keep one of the entries",
    )


def _replicas(entries: Sequence[Published], replicas: dict[str, int]) -> Iterator[Finding]:
    for entry in entries:
        count, span = replicas[entry.service], entry.ports
        if count > len(span):
            have = f"port {span[0]}" if len(span) == 1 else f"the ports {span[0]}-{span[-1]}"
            line = (
                f"{entry.service} would run {count} containers, and {have} "
                f"{'is' if len(span) == 1 else 'are'} enough for {len(span)}"
            )
            wide = f"{span[0]}-{span[0] + count - 1}:{entry.target}"
            yield conflict(
                Code.REPLICAS,
                line,
                (entry.service,),
                entry.requests,
                f"publish a range, as in {wide}, or run fewer",
            )


def _ranges(entries: Sequence[Published], replicas: dict[str, int]) -> Iterator[Finding]:
    """Ranges that have to share with other entries: impossible, or a matter of luck.

    Ranges are served in the order of their ends, which leaves the most for those that come later.
    """
    used = [(each, each.ports[0]) for each in entries if each.is_single]
    ranges = [each for each in entries if not each.is_single]
    for entry in sorted(ranges, key=lambda each: (each.ports[-1], each.ports[0])):
        lost = {port for other, port in used if entry.shares_sockets(other)}
        left = [port for port in entry.ports if port not in lost]
        wanted = min(replicas[entry.service], len(entry.ports))
        others = tuple(
            dict.fromkeys(each.service for each in entries if each != entry and entry.meets(each))
        )
        if len(left) < wanted:
            yield _full(entry, others, len(left), wanted)
        elif others:
            yield _luck(entry, others)
        used += [(entry, port) for port in left[:wanted]]


def _span(entry: Published) -> str:
    return f"{entry.first}-{entry.last}/{entry.transport}"


def _full(entry: Published, others: tuple[str, ...], left: int, wanted: int) -> Finding:
    return conflict(
        Code.RANGE_FULL,
        f"{entry.service} needs {wanted} of {_span(entry)}, and {', '.join(others)} "
        f"{'leaves' if len(others) == 1 else 'leave'} {left}",
        tuple(dict.fromkeys((entry.service, *others))),
        entry.requests,
        "make the range wider",
    )


def _luck(entry: Published, others: tuple[str, ...]) -> Finding:
    return warning(
        Code.RANGE_OVERLAP,
        f"{_span(entry)} of {entry.service} overlaps with {', '.join(others)}: the engine picks "
        "from the range without regard to what starts later",
        tuple(dict.fromkeys((entry.service, *others))),
        entry.requests,
        "keep single ports out of ranges",
    )


# --- the machine ----------------------------------------------------------------------------------


def _ephemeral(entries: Iterable[Published], limits: HostLimits) -> Iterator[Finding]:
    """One for all of them: there is one way out, whoever has such a port."""
    risky: dict[str, list[list[PortRequest]]] = {}
    for entry in entries:
        if ports := [each for each in entry.requests if _is_given_away(each, limits)]:
            risky.setdefault(entry.service, []).append(ports)
    if not risky:
        return
    named = [f"{' and '.join(map(_named, ports))} of {name}" for name, ports in risky.items()]
    more = [f"{len(named) - _MOST_NAMED} more"] if len(named) > _MOST_NAMED else []
    first, last = limits.ephemeral[0], limits.ephemeral[-1]
    is_one = sum(map(len, risky.values())) == 1
    yield warning(
        Code.EPHEMERAL,
        f"{', '.join([*named[:_MOST_NAMED], *more])} {'is' if is_one else 'are'} in the "
        f"ephemeral range ({first}-{last}): an outgoing connection may have it just when the "
        "container starts",
        tuple(risky),
        tuple(chain.from_iterable(chain.from_iterable(risky.values()))),
        f"choose a port below {first}",
    )


def _is_given_away(request: PortRequest, limits: HostLimits) -> bool:
    return request.port in limits.ephemeral and request.port not in limits.reserved


def _privileged(entries: Iterable[Published], limits: HostLimits) -> Iterator[Finding]:
    """It is the engine that binds: only one that does not run as root may lack the right."""
    if not limits.engine_uid:
        return
    for entry in entries:
        low = [each for each in entry.requests if each.port < limits.first_unprivileged]
        if low:
            line = (
                f"{_named(low)} of {entry.service} needs a privilege, and the engine runs as "
                f"user {limits.engine_uid}: unless rootlesskit was given cap_net_bind_service "
                "(not known from here), it fails"
            )
            hint = f"sysctl -w net.ipv4.ip_unprivileged_port_start={low[0].port}"
            yield warning(Code.PRIVILEGED, line, (entry.service,), tuple(low), hint)


def _named(wanted: Sequence[PortRequest]) -> str:
    return str(wanted[0]) if len(wanted) == 1 else f"{wanted[0]} to {wanted[-1]}"
