"""Which ports rules of the packet filter take away: what a connection shows, and what is said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.cli import ultra
from tests.lab.namespaces import network_namespace, pid_in, run
from tests.lab.processes import unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tests.lab.processes import Lab

pytestmark = [pytest.mark.root, pytest.mark.native]

PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
HERE, THERE, OTHER = "10.77.9.1", "10.77.9.3", "10.77.9.5"
SERVER = """
import socket
server = socket.create_server(("::", 9999), family=socket.AF_INET6, dualstack_ipv6=True)
server.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT
while True:
    server.accept()[0].close()
"""
CONNECT = """
import socket, sys
for port in sys.argv[2:]:
    try:
        socket.create_connection((sys.argv[1], port), 5).close()
        print(port)
    except ConnectionRefusedError:
        pass
"""
NFT = (
    "nft add table inet lab",
    "nft 'add chain inet lab pre { type nat hook prerouting priority -110; }'",
    "nft add chain inet lab second",
    "nft add rule inet lab second meta l4proto tcp redirect to :9999",
    "nft add table ip lab",
    "nft 'add chain ip lab pre { type nat hook prerouting priority -105; }'",
    "nft 'add chain ip lab early { type filter hook prerouting priority -150; }'",
    "nft add chain ip lab second",
    f"nft add rule ip lab second meta l4proto tcp dnat to {HERE}:9999",
    "nft add chain inet lab nobody",  # no chain leads here
)
INET, IP = "nft 'add rule inet lab pre {}'", "nft 'add rule ip lab pre {}'"
# By port: each rule, alone on its port. What it does is what a connection shows.
RULES = {
    "iptables-nft": {
        7001: "nat -A PREROUTING -p tcp --dport 7001 -j REDIRECT --to-ports 9999",
        7002: "nat -A PREROUTING -p tcp -m multiport --dports 1,7002:7003 -j SECOND",
        7004: "nat -A PREROUTING -p tcp -m multiport --ports 1,7004 -j REDIRECT --to-ports 9999",
        7005: f"nat -A PREROUTING -p tcp --dport 7005 -j DNAT --to-destination {HERE}-{HERE}:9999",
        7006: "nat -A PREROUTING -p tcp --dport 7006 -j SECOND",
        7007: "nat -A PREROUTING -p tcp --dport 7007 -g FIRST",
        7008: "nat -A PREROUTING -p tcp --dport 7008 -j REDIRECT",
        7009: "nat -A PREROUTING -p tcp --dport 7009 -j REDIRECT --to-ports 7009",
        7010: "nat -A PREROUTING -d 203.0.113.7 -p tcp --dport 7010 -j REDIRECT --to-ports 9999",
        7011: f"nat -A PREROUTING ! -d {HERE} -p tcp --dport 7011 -j REDIRECT --to-ports 9999",
        7012: "nat -A NOBODY -p tcp --dport 7012 -j REDIRECT --to-ports 9999",
        7013: "nat -A PREROUTING -p udp --dport 7013 -j REDIRECT --to-ports 9999",
        7014: f"nat -A PREROUTING -d {HERE}/24 -p tcp --dport 7014 -j REDIRECT --to-ports 9999",
        7015: "nat -A SPARED -p tcp --dport 7015 -j REDIRECT --to-ports 9999",
        7016: "nat -A PREROUTING -m addrtype --dst-type LOCAL -p tcp --dport 7016 -j SECOND",
        7017: "nat -A OUTPUT -p tcp --dport 7017 -j REDIRECT --to-ports 9999",
        7018: "mangle -A PREROUTING -p tcp --dport 7018 -j TPROXY --on-port 9999 --tproxy-mark 1",
    },
    "nft": {
        7101: INET.format("tcp dport 7101 redirect to :9999"),
        7102: INET.format("tcp dport { 1, 7102-7103 } redirect to :9999"),
        7104: "nft 'add set inet lab s { type inet_service; flags interval; "
        "elements = { 7104-7105 }; }'; " + INET.format("tcp dport @s redirect to :9999"),
        7106: INET.format("meta l4proto { tcp, udp } th dport 7106 redirect to :9999"),
        7107: INET.format("tcp dport 7107 jump second"),
        7108: INET.format("tcp dport vmap { 7108 : jump second, 1 : accept }"),
        7109: "nft 'add map inet lab m { type inet_proto . inet_service : verdict; "
        'elements = { tcp . 7109 comment "shop/web" : goto second }; }\'; '
        + INET.format("meta l4proto . th dport vmap @m"),
        7110: "nft 'add map ip lab m { type ipv4_addr . inet_proto . inet_service : verdict; "
        f"elements = {{ {HERE} . tcp . 7110 : goto second }}; }}'; "
        + IP.format("ip daddr . meta l4proto . th dport vmap @m"),
        7111: IP.format(f"dnat to tcp dport map {{ 7111 : {HERE} . 9999 }}"),
        7112: IP.format(f"dnat ip to ip daddr . tcp dport map {{ {HERE} . 7112 : {HERE} . 9999 }}"),
        7113: IP.format(f"ip daddr . tcp dport {{ {HERE} . 7113 }} dnat to {HERE}:9999"),
        7114: IP.format(f"tcp dport 7114 dnat ip to numgen inc mod 1 map {{ 0 : {HERE} . 9999 }}"),
        7115: INET.format(f"ip daddr {{ {HERE}, {OTHER} }} tcp dport 7115 redirect to :9999"),
        7116: INET.format(f"ip daddr != {HERE} tcp dport 7116 redirect to :9999"),
        7117: INET.format("ip daddr 203.0.113.7 tcp dport 7117 redirect to :9999"),
        7118: INET.format("tcp dport 7118 redirect"),
        7119: "nft add rule inet lab nobody tcp dport 7119 redirect to :9999",
        7120: INET.format("tcp dport 7120 accept")
        + "; "
        + INET.format("tcp dport 7120 redirect to :9999"),
        7121: INET.format("fib daddr type local tcp dport >= 7121 tcp dport < 7123 jump second"),
        7124: "nft 'add set ip lab here { type ipv4_addr; flags interval; "
        "elements = { 203.0.113.7, 10.77.9.0-10.77.9.2 }; }'; "
        + IP.format(f"ip daddr @here tcp dport 7124 dnat to {HERE}:9999"),
        7125: INET.format(
            "ip daddr { 203.0.113.0/24, 10.0.0.1-10.0.0.9 } tcp dport 7125 jump second"
        ),
        7123: "nft 'add rule ip lab early tcp dport 7123 tproxy to :9999 accept'",
    },
    "iptables-legacy": {
        7201: "nat -A PREROUTING -p tcp --dport 7201 -j DNAT --to-destination :9999",
        7202: "nat -A PREROUTING -p tcp --dport 7202 -j SECOND",
        7203: "mangle -A PREROUTING -p tcp --dport 7203 -j TPROXY --on-port 9999 --tproxy-mark 1",
    },
}
SHARED = {7002, 7004, 7102, 7104, 7108, 7121}  # whose command removes other ports, too
CHAINS = (
    "nat -N FIRST", "nat -N SECOND", "nat -N NOBODY", "nat -N SPARED", "nat -A FIRST -j SECOND",
    "nat -A SECOND -p tcp -j REDIRECT --to-ports 9999", "nat -A PREROUTING -j SPARED",
    f"nat -A SPARED -d {HERE} -p tcp -j RETURN",
)  # fmt: skip
# Rules that name no port, or name what they leave alone: said once
GENERAL = {
    "every port": "iptables-nft -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 9999",
    "all but one": "iptables-nft -t nat -A PREROUTING -p tcp ! --dport 22 -j REDIRECT --to-ports 9",
    "a mark": "iptables-nft -t mangle -A PREROUTING -p tcp --dport 7001 -j MARK --set-mark 7 && "
    "iptables-nft -t nat -A PREROUTING -p tcp -m mark --mark 7 -j REDIRECT --to-ports 9999",
    "nft": "nft add table inet lab && "
    "nft 'add chain inet lab pre { type nat hook prerouting priority -100; }' && "
    "nft 'add rule inet lab pre tcp dport != { 22, 23 } redirect to :9999'",
}
SPARED = {
    "our addresses return": f"iptables-nft -t nat -A PREROUTING -d {HERE}/16 -j RETURN && "
    "iptables-nft -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 9999",
    "local addresses return": "iptables-nft -t nat -N P && iptables-nft -t nat -A OUTPUT -j P && "
    "iptables-nft -t nat -A P -m addrtype --dst-type LOCAL -j RETURN && "
    "iptables-nft -t nat -A P -p tcp -j REDIRECT --to-ports 9999",
    "what leaves by lo": "nft add table ip lab && "
    "nft 'add chain ip lab out { type nat hook output priority -100; }' && "
    "nft 'add rule ip lab out oifname lo return' && "
    "nft 'add rule ip lab out meta l4proto tcp redirect to :9999'",
}


@pytest.fixture
def place(lab: Lab) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """A namespace with an address, and a neighbour's."""
    with network_namespace(lab) as ours, network_namespace(lab) as neighbour:
        pid = pid_in(lab, neighbour)
        run(ours, f"ip link add e0 type veth peer name e1 netns {pid}", "ip link set e0 up",
            f"ip address add {HERE}/24 dev e0", "ip rule add fwmark 1 lookup 100",
            "ip route add local default dev lo table 100")  # fmt: skip
        run(neighbour, f"ip address add {THERE}/24 dev e1", "ip link set e1 up")
        yield ours, neighbour


@pytest.mark.parametrize("tool", RULES)
def test_said_is_what_is_taken(
    lab: Lab, place: tuple[tuple[str, ...], tuple[str, ...]], tool: str
) -> None:
    if shutil.which(tool, path=PATH) is None:
        unavailable(f"{tool} is missing")
    ours, neighbour = place
    rules = RULES[tool]
    if tool == "nft":
        run(ours, *NFT, *rules.values())
    else:
        run(ours, *(f"{tool} -t {rule}" for rule in (*CHAINS, *rules.values())))
    server = lab.command(*ours, sys.executable, "-c", SERVER)
    wait_until(lambda: said(ours, [9999])[9999], "it listens")

    taken = {*connected(ours, rules), *connected(neighbour, rules)}

    found = {port: holders for port, holders in said(ours, rules).items() if holders}
    assert {*found} == taken
    assert len(taken) > len(rules) / 2
    for port, holders in found.items():
        assert f"{server.pid} gets it" in " ".join(holders[0]["chain"]), port
        [command] = holders[0]["step"]["command_lines"]
        assert ("the rule has other ports, too" in command) is (port in SHARED), command
        run(ours, command)
    assert not {*connected(ours, found), *connected(neighbour, found)}, "the commands remove them"


@pytest.mark.parametrize("rule", GENERAL)
def test_a_rule_that_takes_whatever_comes_is_said_once(rule: str) -> None:
    told = noted(GENERAL[rule])
    assert len(told) == 1, told
    assert "does not name" in told[0]
    assert "what is sent to a port that can be bound may go there" in told[0]


@pytest.mark.parametrize("rule", SPARED)
def test_a_rule_that_spares_this_machine_is_nothing_to_say(rule: str) -> None:
    assert noted(SPARED[rule]) == []


def noted(rule: str) -> list[str]:
    """What is noted of ports that are free beside a rule that names none of them."""
    script = f'ip link set lo up && ip address add {HERE}/24 dev lo && {rule} && exec "$@"'
    unshare = shutil.which("unshare") or unavailable("unshare is missing")
    inside = (unshare, "--net", "sh", "-c", f"PATH={PATH}; {script}", "sh")
    told = ultra("resolve", "--json", "--no-docker", "7001", "7002/udp", prefix=inside)
    assert told.status == 0, told.stdout + told.stderr
    notes: list[str] = told.json["notes"]
    return notes


def said(inside: tuple[str, ...], ports: Collection[int]) -> dict[int, list[dict[str, Any]]]:
    """Who holds each port, of TCP."""
    told = ultra("who", "--json", "--no-docker", *map(str, ports), prefix=inside)
    return {port: told.port(f"{port}/tcp")["holders"] for port in ports}


def connected(inside: tuple[str, ...], ports: Collection[int]) -> list[int]:
    """Where somebody answers."""
    words = [*inside, sys.executable, "-c", CONNECT, HERE, *map(str, ports)]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    return [int(line) for line in done.stdout.split()]
