"""Who gets what NAT rules send elsewhere: a process in any network namespace of this machine."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from resolver.errors import StateChangedError
from resolver.gather.owners import owners_of
from resolver.gather.sockets import list_sockets
from resolver.host.files import text_of
from resolver.host.identity import identify
from resolver.host.processes import one_of_each_namespace
from resolver.model import PortNumber, PortRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.model import Pid, ProcessIdentity, Redirect

_LOCAL = "/32 host LOCAL"


def receivers_of(redirects: Iterable[Redirect]) -> tuple[tuple[str, ProcessIdentity], ...]:
    """For where each redirect leads, the first process that is there; sorted.

    Without one, nothing on this machine has the address: it is another one's, or has gone.
    """
    rules = [each for each in redirects if each.leads]
    found: dict[str, ProcessIdentity] = {}
    for rule in rules:
        number = rule.leads.removeprefix("port ")
        if number != rule.leads and number.isdigit():
            sockets = list_sockets([PortRequest(PortNumber(int(number)), rule.transport)])
            owners = owners_of(each.inode for each in sockets)
            if owners:
                found[rule.leads] = min(owners.values())[0]
    wanted = {each.leads for each in rules if not each.leads.startswith("port ")}
    for pid in one_of_each_namespace() if wanted else ():
        for address in wanted.intersection(_addresses(pid)):
            try:
                found.setdefault(address, identify(pid))
            except StateChangedError:
                continue
    return tuple(sorted(found.items()))


def _addresses(pid: Pid) -> Iterator[str]:
    """The addresses of a process's network namespace (fib_trie, if_inet6 of proc_pid_net(5))."""
    above = ""
    for line in text_of(f"/proc/{pid}/net/fib_trie").splitlines():
        if _LOCAL in line:
            yield above.rpartition(" ")[2]
        above = line if "|--" in line else above
    for line in text_of(f"/proc/{pid}/net/if_inet6").splitlines():
        yield str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0])))
