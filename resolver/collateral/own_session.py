"""The ssh session that this command runs in, where a holder is what passes it on to sshd.

A relay or a tunnel's daemon (socat, cloudflared, frpc) is then sshd's client, and no ancestor of
ours. What lies behind a second machine or a second sshd is not seen from here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.gather import list_sockets
from resolver.model import Collateral, CollateralKind, Degree, PortNumber, PortRequest, SocketState
from resolver.portspec import MAX_PORT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.collateral.family import Family
    from resolver.model import Snapshot

_VARIABLE = "SSH_CONNECTION"  # ssh(1): the client's address and port, then the server's
_CLIENT = r"(\S+) (\d{1,5}) \S+ \d{1,5}"


def lost(family: Family, snapshot: Snapshot) -> Iterator[Collateral]:
    """The session, with all that runs in it."""
    clients = set(_clients(snapshot))
    requests = [PortRequest(PortNumber(port)) for port in sorted({port for _, port in clients})]
    for each in list_sockets(requests, connections=True) if requests else ():
        here = (each.binding.address, int(each.binding.port))
        if each.state is SocketState.CONNECTED and here in clients and family.group.owns(each):
            yield Collateral(
                CollateralKind.CALLER,
                Degree.REFUSED,
                "the ssh session that this command runs in",
                f"it comes from {each.binding}, which {family.members[0]} has",
            )
            return


def _clients(snapshot: Snapshot) -> Iterator[tuple[str, int]]:
    """From where the sessions come that we and those above us run in, as sshd has told them."""
    for process in filter(None, map(snapshot.process, snapshot.own)):
        given = re.fullmatch(_CLIENT, process.variable(_VARIABLE) or "")
        if given and 0 < int(given[2]) <= MAX_PORT:
            yield given[1], int(given[2])
