"""Sockets of the kernel's own: those of tunnels, and of the NFS server and its lock manager.

Asked of ip-link(8), ip-l2tp(8), ip-fou(8), wg(8) and rpcinfo(8), and read from
/proc/fs/nfsd/portlist (nfsd(7)).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import CommandFailedError
from resolver.host.files import text_of
from resolver.managed import ask_json, ask_text
from resolver.model import Classification, Command, Kind, Transport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.model import Binding, Holder, Snapshot
    from resolver.protocols import CommandRunner

_PORTLIST = "/proc/fs/nfsd/portlist"


class _Data(Struct, frozen=True):
    port: int = 0
    dstport: int = 0


class _Info(Struct, frozen=True):
    info_kind: str = ""
    info_data: _Data = _Data()


class _Link(Struct, frozen=True):
    ifname: str = ""
    linkinfo: _Info = _Info()


class _Kernels(Struct, frozen=True):
    """What in the kernel has the port, and the command that takes it away."""

    name: str
    command: Command


def classify(holder: Holder, _snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A socket without any process, which a device or a server of the kernel's has."""
    if holder.processes or holder.container or not (holder.hidden or holder.kernel):
        return None
    found = next(_found(holder.binding, run), None)
    if found is None:
        return None
    return Classification(
        holder,
        Kind.PROTECTED,
        chain=("the kernel", found.name),
        evidence=("no process has the socket: the kernel made it for itself",),
        reason=f"the kernel holds it for {found.name}",
        commands=(found.command,),
    )


def _found(binding: Binding, run: CommandRunner) -> Iterator[_Kernels]:
    if binding.transport is Transport.UDP:
        yield from _links(binding.port, run)
        yield from _wireguard(binding.port, run)
        yield from _l2tp(binding.port, run)
        yield from _fou(binding.port, run)
    yield from _nfs(binding)
    yield from _lock_manager(binding, run)


def _links(port: int, run: CommandRunner) -> Iterator[_Kernels]:
    """VXLAN, GENEVE and their kin: `port` of a link's details is where it receives."""
    try:
        links = ask_json(run, ("ip", "-details", "-json", "link", "show"), list[_Link])
    except CommandFailedError:
        return
    for link in links:
        kind, data = link.linkinfo.info_kind, link.linkinfo.info_data
        if kind and port in {data.port, data.dstport}:
            name = f"{kind} device {link.ifname}"
            yield _Kernels(name, Command(("ip", "link", "del", link.ifname), "removes the device"))


def _wireguard(port: int, run: CommandRunner) -> Iterator[_Kernels]:
    """`wg show all listen-port`: an interface and its port on each line."""
    try:
        text = ask_text(run, ("wg", "show", "all", "listen-port"))
    except CommandFailedError:
        return
    for line in text.splitlines():
        name, _, number = line.partition("\t")
        if number.strip() == str(port):
            words = ("wg-quick", "down", name)
            yield _Kernels(f"WireGuard interface {name}", Command(words, "or: ip link del"))


def _nfs(binding: Binding) -> Iterator[_Kernels]:
    """A line such as `tcp 2049` for each port of the NFS server."""
    for line in text_of(_PORTLIST).splitlines():
        if line.split()[:2] == [str(binding.transport), str(binding.port)]:
            words = ("systemctl", "stop", "nfs-server.service")
            yield _Kernels("the NFS server", Command(words, "every client's mount will hang"))


def _l2tp(port: int, run: CommandRunner) -> Iterator[_Kernels]:
    """`Tunnel 1, encap UDP`, and below it `UDP source / dest ports: 5000/6000`."""
    try:
        text = ask_text(run, ("ip", "l2tp", "show", "tunnel"))
    except CommandFailedError:
        return
    for tunnel, source in re.findall(
        r"^Tunnel (\d+),(?:\n? .*)*? ports: (\d+)/", text, re.MULTILINE
    ):
        if source == str(port):
            words = ("ip", "l2tp", "del", "tunnel", "tunnel_id", tunnel)
            yield _Kernels(f"L2TP tunnel {tunnel}", Command(words, "with its sessions"))


def _fou(port: int, run: CommandRunner) -> Iterator[_Kernels]:
    """Foo over UDP: a line such as `port 5555 ipproto 4` for each port."""
    try:
        lines = ask_text(run, ("ip", "fou", "show")).splitlines()
    except CommandFailedError:
        return
    for words in map(str.split, lines):
        if words[:2] == ["port", str(port)]:
            command = ("ip", "fou", "del", *words[:2])
            yield _Kernels("Foo over UDP", Command(command, "no tunnel receives there any more"))


def _lock_manager(binding: Binding, run: CommandRunner) -> Iterator[_Kernels]:
    """A line such as `100021    4   tcp  34567  nlockmgr` for each program of rpcbind's."""
    try:
        lines = ask_text(run, ("rpcinfo", "-p")).splitlines()
    except CommandFailedError:
        return
    wanted = [str(binding.transport), str(binding.port), "nlockmgr"]
    if any(line.split()[2:] == wanted for line in lines):
        words = ("findmnt", "-t", "nfs,nfs4")
        yield _Kernels("the lock manager of NFS", Command(words, "what is mounted keeps it"))
