"""Whether the packet filter has any rule that could send a port elsewhere.

The tools that list the rules take milliseconds each, on most machines to say that there are none.
The kernel says so at once: the old tables by their names, nf_tables by a dump of its rules
(linux/netfilter/nf_tables.h). What a rule says is still read from the tools.
"""

from __future__ import annotations

import errno
import socket

from msgspec import Struct

from resolver.host.files import read
from resolver.host.netlink import attributes, dump, opened

_NETLINK_NETFILTER = 12
_GET_RULE = 10 << 8 | 7  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETRULE
_EVERY_FAMILY = bytes(4)  # struct nfgenmsg: AF_UNSPEC, NFNETLINK_V0, no resource
_EXPRESSIONS = 4  # NFTA_RULE_EXPRESSIONS
# Names of expressions, and of iptables' targets
_NATIVE = (b"nat\0", b"redir\0", b"tproxy\0")
_TELLING = (*_NATIVE, b"DNAT\0", b"REDIRECT\0", b"NETMAP\0", b"TPROXY\0")
_OLD_NAMES = {"nat", "mangle"}  # tables
_OLD_TABLES = {"iptables": "/proc/net/ip_tables_names", "ip6tables": "/proc/net/ip6_tables_names"}
_FAMILIES = {socket.AF_INET: "iptables", socket.AF_INET6: "ip6tables"}


class NatRules(Struct, frozen=True):
    """Which rules there are that could send a port elsewhere.

    Attributes:
        old: the tools whose old tables for this exist: `iptables`, `ip6tables`.
        new: the tools in whose families a rule of nf_tables could, or neither's; None where these
            may not be read, neither here nor by the tools that list them (capabilities(7),
            CAP_NET_ADMIN).
        native: whether one of these has an expression of nf_tables' own, which only nft(8) lists.
    """

    old: frozenset[str]
    new: frozenset[str] | None
    native: bool

    @property
    def may_redirect(self) -> bool | None:
        """False where no rule does; True where one may, or cannot be ruled out; None: unknown."""
        if self.old or self.native or self.new:
            return True
        return None if self.new is None else False


def nat_rules() -> NatRules:
    """What the kernel says of its rules."""
    old = frozenset(tool for tool, path in _OLD_TABLES.items() if _OLD_NAMES & {*_lines(path)})
    try:
        with opened(_NETLINK_NETFILTER) as netlink:
            found = [each for each in dump(netlink, _GET_RULE, _EVERY_FAMILY) if tells(each)]
    except OSError as error:
        if error.errno == errno.EPERM:
            return NatRules(old, new=None, native=False)
        unknown = error.errno != errno.EPROTONOSUPPORT  # this kernel has no such rules
        return NatRules(old, frozenset(_OLD_TABLES if unknown else ()), native=unknown)
    families = {each[0] for each in found}  # nfgen_family
    new = frozenset(tool for family, tool in _FAMILIES.items() if family in families)
    return NatRules(old, new, native=any(tells(each, _NATIVE) for each in found))


def _lines(path: str) -> list[str]:
    """The names of the tables in use; none where the old tables were never loaded."""
    try:
        return read(path).decode(errors="replace").split()
    except FileNotFoundError:
        return []
    except OSError:
        return ["nat"]


def tells(rule: bytes, words: tuple[bytes, ...] = _TELLING) -> bool:
    """Whether the body of an NFT_MSG_NEWRULE has an expression that may send a port elsewhere."""
    return any(
        word in text
        for kind, text in attributes(rule, len(_EVERY_FAMILY))
        if kind == _EXPRESSIONS
        for word in words
    )
