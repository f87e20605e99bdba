"""What surrounds a port without holding it: other network namespaces, and the ephemeral range."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.gather.owners import owners_of
from resolver.gather.processes import described
from resolver.host.files import text_of
from resolver.host.processes import one_of_each_namespace
from resolver.model import Command

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from resolver.model import PortRequest

_IPV4 = "/proc/sys/net/ipv4"
_RESERVED = f"{_IPV4}/ip_local_reserved_ports"
# State column of /proc/PID/net/tcp and udp (proc_pid_net(5)): listening, unconnected
_SERVING = {"tcp": "0A", "udp": "07"}


def remarks(
    requests: Collection[PortRequest], elsewhere: Collection[PortRequest]
) -> dict[PortRequest, tuple[str, ...]]:
    """What is worth knowing about each port; empty on other platforms than Linux.

    Args:
        requests: what was asked.
        elsewhere: those of them that are looked for in other network namespaces, too.
    """
    ephemeral, kept = ephemeral_ports()
    found: dict[PortRequest, set[str]] = {request: set() for request in requests}
    for request, remark in _neighbours(elsewhere) if elsewhere else ():
        found[request].add(remark)
    return {
        request: (*sorted(neighbours), *_about_ephemeral(request, ephemeral, kept))
        for request, neighbours in found.items()
    }


def to_keep(requests: Collection[PortRequest], euid: int) -> dict[PortRequest, Command]:
    """What keeps outgoing connections off those in the ephemeral range: one command for all.

    The setting is replaced as a whole, so what is in it stays in it
    (Documentation/networking/ip-sysctl.rst, ip_local_reserved_ports).
    """
    ephemeral, kept = ephemeral_ports()
    risky = [each for each in requests if each.port in ephemeral and each.port not in kept]
    more = (str(port) for port in sorted({each.port for each in risky}))
    value = ",".join(filter(None, (text_of(_RESERVED).strip(), *more)))
    words = ("sysctl", "-w", f"net.ipv4.ip_local_reserved_ports={value}")
    keep = Command((*(("sudo",) if euid else ()), *words), "until the next boot")
    return dict.fromkeys(risky, keep)


def ephemeral_ports() -> tuple[range, frozenset[int]]:
    """The ephemeral range, and the ports that the kernel leaves out of it; empty off Linux.

    `ip_local_port_range` (ip(7)) has the first and the last, inclusive;
    `ip_local_reserved_ports` is a comma list of ports and ranges.
    """
    words = text_of(f"{_IPV4}/ip_local_port_range").split()
    span = range(int(words[0]), int(words[1]) + 1) if len(words) == 2 else range(0)  # noqa: PLR2004
    kept: set[int] = set()
    for part in text_of(_RESERVED).strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            kept.update(range(int(first), int(last or first) + 1))
    return span, frozenset(kept)


def _about_ephemeral(
    request: PortRequest, ephemeral: range, kept: Collection[int]
) -> tuple[str, ...]:
    if request.port not in ephemeral or request.port in kept:
        return ()
    span = f"the ephemeral range ({ephemeral[0]}-{ephemeral[-1]})"
    why = "the kernel may give it to any outgoing connection"
    return (f"{request.port} is in {span}: {why}",)


def _neighbours(requests: Collection[PortRequest]) -> Iterator[tuple[PortRequest, str]]:
    """Who serves the same port in another network namespace: no conflict, and often a surprise."""
    wanted: dict[tuple[str, int], PortRequest] = {
        (each.transport, each.port): each for each in requests
    }
    transports = sorted({transport for transport, _ in wanted})
    for pid in one_of_each_namespace():
        for transport in transports:
            for port, inode in _serving(pid, transport):
                request = wanted.get((transport, port))
                if request is not None:
                    yield request, f"{_who(inode)} in another network namespace: no conflict"


def _serving(pid: int, transport: str) -> Iterator[tuple[int, int]]:
    """(port, inode) of each serving socket in the namespace of a process."""
    if _none_in_use(pid, "sockets: used ", ""):
        return
    for suffix in ("", "6"):
        if _none_in_use(pid, f"{transport.upper()}{suffix}: inuse ", suffix):
            continue
        for line in text_of(f"/proc/{pid}/net/{transport}{suffix}").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _SERVING[transport]:  # noqa: PLR2004
                yield int(fields[1].rpartition(":")[2], 16), int(fields[9])


def _none_in_use(pid: int, name: str, suffix: str) -> bool:
    """Whether `sockstat` of its namespace says that there are no such sockets at all.

    To list no TCP sockets, the kernel still walks a table that is as large as the machine: some
    milliseconds for each container (`tcp_seq_next` of net/ipv4/tcp_ipv4.c).
    """
    _, found, rest = text_of(f"/proc/{pid}/net/sockstat{suffix}").partition(name)
    return bool(found) and rest.split(maxsplit=1)[:1] == ["0"]


def _who(inode: int) -> str:
    owners = owners_of([inode]).get(inode, ())
    return f"{', '.join(map(str, described(owners))) or 'somebody'} serves it"
