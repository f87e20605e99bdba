"""Sockets of the kernel's own: those of tunnels, and of the NFS server and its lock manager.

Asked of ip-link(8), ip-l2tp(8), ip-fou(8), wg(8) and rpcinfo(8), and read from
/proc/fs/nfsd/portlist (nfsd(7)).
"""

from __future__ import annotations

import re
from contextlib import suppress
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
_L2TP_TUNNEL = r"(?m)^Tunnel (\d+),(?:\n? .*)*? ports: (\d+)/"


class _Data(Struct, frozen=True):
    port: int = 0
    dstport: int = 0


class _Info(Struct, frozen=True):
    info_kind: str = ""
    info_data: _Data = _Data()


class _Link(Struct, frozen=True):
    ifname: str = ""
    linkinfo: _Info = _Info()


def classify(holder: Holder, _snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A socket without any process, which a device or a server of the kernel's has."""
    if holder.processes or holder.container or not (holder.hidden or holder.kernel):
        return None
    name, command = next(_found(holder.binding, run), ("", None))
    if command is None:
        return None
    return Classification(
        holder,
        Kind.PROTECTED,
        chain=("the kernel", name),
        evidence=("no process has the socket: the kernel made it for itself",),
        reason=f"the kernel holds it for {name}",
        commands=(command,),
    )


def _found(binding: Binding, run: CommandRunner) -> Iterator[tuple[str, Command]]:
    """What in the kernel has the port, and the command that takes it away."""
    tunnels = (_links, _wireguard, _l2tp, _fou) if binding.transport is Transport.UDP else ()
    for look in (*tunnels, _nfs, _lock_manager):
        with suppress(CommandFailedError):  # that tool is not there
            yield from look(binding, run)


def _links(binding: Binding, run: CommandRunner) -> Iterator[tuple[str, Command]]:
    """VXLAN, GENEVE and their kin: `port` of a link's details is where it receives."""
    for link in ask_json(run, ("ip", "-details", "-json", "link", "show"), list[_Link]):
        kind, data = link.linkinfo.info_kind, link.linkinfo.info_data
        if kind and binding.port in {data.port, data.dstport}:
            words = ("ip", "link", "del", link.ifname)
            yield f"{kind} device {link.ifname}", Command(words, "removes the device")


def _wireguard(binding: Binding, run: CommandRunner) -> Iterator[tuple[str, Command]]:
    """`wg show all listen-port`: an interface and its port on each line."""
    for line in ask_text(run, ("wg", "show", "all", "listen-port")).splitlines():
        name, _, number = line.partition("\t")
        if number.strip() == str(binding.port):
            yield (
                f"WireGuard interface {name}",
                Command(("wg-quick", "down", name), "or: ip link del"),
            )


def _l2tp(binding: Binding, run: CommandRunner) -> Iterator[tuple[str, Command]]:
    """`Tunnel 1, encap UDP`, and below it `UDP source / dest ports: 5000/6000`."""
    text = ask_text(run, ("ip", "l2tp", "show", "tunnel"))
    for tunnel, source in re.findall(_L2TP_TUNNEL, text):
        if source == str(binding.port):
            words = ("ip", "l2tp", "del", "tunnel", "tunnel_id", tunnel)
            yield f"L2TP tunnel {tunnel}", Command(words, "with its sessions")


def _fou(binding: Binding, run: CommandRunner) -> Iterator[tuple[str, Command]]:
    """Foo over UDP: a line such as `port 5555 ipproto 4` for each port."""
    for words in map(str.split, ask_text(run, ("ip", "fou", "show")).splitlines()):
        if words[:2] == ["port", str(binding.port)]:
            command = ("ip", "fou", "del", *words[:2])
            yield "Foo over UDP", Command(command, "no tunnel receives there any more")


def _nfs(binding: Binding, _run: CommandRunner) -> Iterator[tuple[str, Command]]:
    """A line such as `tcp 2049` for each port of the NFS server."""
    for line in text_of(_PORTLIST).splitlines():
        if line.split()[:2] == [str(binding.transport), str(binding.port)]:
            words = ("systemctl", "stop", "nfs-server.service")
            yield "the NFS server", Command(words, "every client's mount will hang")


def _lock_manager(binding: Binding, run: CommandRunner) -> Iterator[tuple[str, Command]]:
    """A line such as `100021    4   tcp  34567  nlockmgr` for each program of rpcbind's."""
    wanted = [str(binding.transport), str(binding.port), "nlockmgr"]
    for line in ask_text(run, ("rpcinfo", "-p")).splitlines():
        if line.split()[2:] == wanted:
            words = ("findmnt", "-t", "nfs,nfs4")
            yield "the lock manager of NFS", Command(words, "what is mounted keeps it")
