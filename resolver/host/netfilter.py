"""Whether the packet filter has any rule that could send a port elsewhere.

The tools that list the rules take milliseconds each, on most machines to say that there are none.
The kernel says so at once: the old tables by their names, nf_tables by a dump of its rules
(linux/netfilter/nf_tables.h). What a rule says is still read from the tools.
"""

from __future__ import annotations

import errno
import socket

from resolver.host.netlink import attributes, dump

_NETLINK_NETFILTER = 12
_GET_RULE = 10 << 8 | 7  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETRULE
_EVERY_FAMILY = bytes(4)  # struct nfgenmsg: AF_UNSPEC, NFNETLINK_V0, no resource
_EXPRESSIONS = 4  # NFTA_RULE_EXPRESSIONS
# Names of expressions and of iptables' targets, and beginnings of chains that lead to such
_NATIVE = (b"nat\0", b"redir\0")
_TELLING = (*_NATIVE, b"DNAT\0", b"REDIRECT\0", b"KUBE-", b"CNI-")
_OLD_TABLES = {
    "iptables": "/proc/net/ip_tables_names",
    "ip6tables": "/proc/net/ip6_tables_names",
}


def may_redirect() -> bool | None:
    """False where no rule does; True where one may, or cannot be ruled out.

    None: the rules may not be read, neither here nor by the tools that list them (capabilities(7),
    CAP_NET_ADMIN).
    """
    return bool(old_nat_tables()) or _nftables_may()


def old_nat_tables() -> frozenset[str]:
    """The tools whose old NAT table exists: `iptables`, `ip6tables`."""
    return frozenset(tool for tool, path in _OLD_TABLES.items() if "nat" in _lines(path))


def _lines(path: str) -> list[str]:
    """The names of the tables in use; none where the old tables were never loaded."""
    try:
        with open(path, "rb") as names:
            return names.read().decode(errors="replace").split()
    except FileNotFoundError:
        return []
    except OSError:
        return ["nat"]


def native_rules() -> bool:
    """Whether a rule has an expression of nf_tables' own, which only nft(8) lists."""
    return _nftables_may(_NATIVE) is True


def _nftables_may(words: tuple[bytes, ...] = _TELLING) -> bool | None:
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
            return any(tells(rule, words) for rule in dump(netlink, _GET_RULE, _EVERY_FAMILY))
    except OSError as error:
        if error.errno == errno.EPERM:
            return None
        return error.errno != errno.EPROTONOSUPPORT  # this kernel has no such rules


def tells(rule: bytes, words: tuple[bytes, ...] = _TELLING) -> bool:
    """Whether the body of an NFT_MSG_NEWRULE has an expression that may send a port elsewhere."""
    return any(
        word in text
        for kind, text in attributes(rule, len(_EVERY_FAMILY))
        if kind == _EXPRESSIONS
        for word in words
    )
