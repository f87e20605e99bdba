"""Who gets what NAT rules send elsewhere: a process of this machine, in any network namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import StateChangedError
from resolver.gather.owners import owners_of
from resolver.gather.sockets import list_sockets
from resolver.host.identity import identify
from resolver.host.processes import one_of_each_namespace
from resolver.host.routes import addresses_of, at_the_far_end
from resolver.model import PortNumber, PortRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from resolver.model import Pid, ProcessIdentity, Redirect


class Receivers(Struct, frozen=True):
    """For where redirects lead, a process that is there; sorted.

    Where neither has it, nothing that runs here gets it: it is another machine's, or has gone.
    `unclear` are addresses that namespaces of this machine have, and it cannot be told which of
    them, if any, gets what is sent there from ours.
    """

    known: tuple[tuple[str, ProcessIdentity], ...] = ()
    unclear: tuple[str, ...] = ()


def receivers_of(redirects: Iterable[Redirect]) -> Receivers:
    """Who is where the redirects lead."""
    rules = [each for each in redirects if each.leads]
    found = {each.leads: owner for each in rules if (owner := _listener(each)) is not None}
    unclear = []
    for address, pids in _who_has({each.leads for each in rules}).items():
        there = at_the_far_end(address, pids)
        try:
            if there is None:
                unclear.append(address)
            elif there:
                found[address] = identify(there[0])
        except StateChangedError:
            continue
    return Receivers(tuple(sorted(found.items())), tuple(sorted(unclear)))


def _listener(rule: Redirect) -> ProcessIdentity | None:
    """Who has the port of this machine that a rule leads to; None where it leads elsewhere."""
    number = rule.leads.removeprefix("port ")
    if number == rule.leads or not number.isdigit():
        return None
    sockets = list_sockets([PortRequest(PortNumber(int(number)), rule.transport)])
    owners = owners_of(each.inode for each in sockets)
    return min(owners.values())[0] if owners else None


def _who_has(wanted: Collection[str]) -> dict[str, list[Pid]]:
    """For each of the addresses, a process of every namespace but ours that has it."""
    found: dict[str, list[Pid]] = {}
    elsewhere = {each for each in wanted if not each.startswith("port ")}
    for pid in one_of_each_namespace() if elsewhere else ():
        for address in elsewhere.intersection(addresses_of(pid)):
            found.setdefault(address, []).append(pid)
    return found
