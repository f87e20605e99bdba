"""Whether any NAT rule is there: the kernel is asked before the tools that list the rules."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from resolver.gather.holders import holders
from resolver.gather.redirects import parse_ipvs
from resolver.model import (
    Binding,
    Container,
    Pid,
    PortNumber,
    PortRequest,
    ProcessIdentity,
    Redirect,
    Snapshot,
    Transport,
)
from tests.lab.cli import ultra
from tests.lab.namespaces import network_namespace, pid_in, run
from tests.lab.ports import free_port
from tests.lab.processes import unavailable, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab

pytestmark = pytest.mark.root

ASK = "from resolver.host.netfilter import nat_rules; print(nat_rules().may_redirect)"
# Each runs in an empty network namespace of its own.
SILENT = {
    "nothing": "true",
    "no NAT": "iptables-nft -A INPUT -p tcp --dport 8085 -j ACCEPT",
    "what leaves": "iptables-nft -t nat -A POSTROUTING -s 10.9.0.0/16 -j MASQUERADE",
}
TELLING = {
    "DNAT": "iptables-nft -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to 10.9.0.1:80",
    "IPv6": "ip6tables-nft -t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8080",
    "TPROXY": "iptables-nft -t mangle -A PREROUTING -p tcp --dport 80 -j TPROXY --on-port 9",
    "nft's own": "nft add table ip lab && nft add chain ip lab pre && "
    "nft add rule ip lab pre tcp dport 80 tproxy to :9",
    "the old tables": "iptables-legacy -t nat -A OUTPUT -p tcp --dport 80 -j DNAT --to 10.9.0.1",
}


def alone(script: str, *argv: str) -> str:
    """What a command prints in a network namespace of its own, in which the script has run."""
    unshare = shutil.which("unshare") or unavailable("unshare is missing")
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    done = subprocess.run(
        [unshare, "--net", "sh", "-c", f'{script} && exec "$@"', "sh", *argv],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("what", SILENT)
def test_no_rule_sends_a_port_elsewhere(what: str) -> None:
    assert alone(SILENT[what], sys.executable, "-c", ASK) == "False"


@pytest.mark.parametrize("what", TELLING)
def test_a_rule_may(what: str) -> None:
    assert alone(TELLING[what], sys.executable, "-c", ASK) == "True"


def test_without_the_privilege_nothing_is_known() -> None:
    setpriv = shutil.which("setpriv") or unavailable("setpriv is missing")
    words = (setpriv, "--inh-caps=-net_admin", "--bounding-set=-net_admin", sys.executable)
    assert alone(TELLING["DNAT"], *words, "-c", ASK) == "None"


def test_no_tool_is_run_where_there_is_no_rule() -> None:
    port = free_port()
    shown = {"ULTRA_PORTS_LOG": "debug"}
    run = ultra("resolve", str(port), "--no-docker", env=shown, prefix=namespace("true"))
    assert run.status == 0, run.stdout + run.stderr
    assert "iptables" not in run.stderr
    told = ultra("resolve", "80", "--no-docker", env=shown, prefix=namespace(TELLING["DNAT"]))
    assert "iptables-save" in told.stderr
    assert told.status == 3, told.stdout + told.stderr


def namespace(script: str) -> tuple[str, ...]:
    """A command that runs another in such a namespace, with a loopback that is up."""
    unshare = shutil.which("unshare") or unavailable("unshare is missing")
    return (unshare, "--net", "sh", "-c", f'ip link set lo up && {script} && exec "$@"', "sh")


def test_a_rule_of_the_other_backend_is_named_with_its_tool() -> None:
    """The default iptables is one of two, and does not show the other's rules (xtables-nft(8))."""
    iptables = shutil.which("iptables") or unavailable("iptables is missing")
    default = subprocess.run([iptables, "-V"], capture_output=True, text=True, check=True).stdout
    other = "iptables-legacy" if "nf_tables" in default else "iptables-nft"
    if shutil.which(other) is None:
        unavailable(f"{other} is missing")
    port = free_port()
    rule = f"PREROUTING -p tcp -m tcp --dport {port} -j REDIRECT --to-ports 9"
    inside = namespace(f"{other} -t nat -A {rule}")

    run = ultra("resolve", str(port), "--json", "--no-docker", prefix=inside)

    assert run.status == 3, run.stdout + run.stderr
    [holder] = run.port(f"{port}/tcp")["holders"]
    assert holder["step"]["command_lines"] == [f"{other} -t nat -D {rule}"]


def test_rules_that_no_tool_lists_are_said() -> None:
    inside = (*namespace(TELLING["DNAT"]), "env", "PATH=/nowhere")

    run = ultra("resolve", str(free_port()), "--json", "--no-docker", prefix=inside)

    assert run.status == 0, run.stdout + run.stderr
    assert any("no tool here lists all" in note for note in run.json["notes"])


RULES = {
    "iptables-legacy": "iptables-legacy -t nat -A PREROUTING -p tcp --dport {port} "
    "-j DNAT --to-destination {address}:80",
    "iptables-nft": "iptables-nft -t nat -A PREROUTING -p tcp --dport {port} "
    "-j DNAT --to-destination {address}:80",
    "nft": "nft add table ip lab && "
    "nft add chain ip lab pre '{{ type nat hook prerouting priority -100; }}' && "
    "nft add rule ip lab pre tcp dport {port} dnat to {address}:80",
    "a map": "nft add table ip lab && "
    "nft add chain ip lab pre '{{ type nat hook prerouting priority -100; }}' && "
    "nft add rule ip lab pre dnat to tcp dport map '{{ {port} : {address}, 9 : 10.9.0.1 }}'",
    "a named map": "nft add table ip lab && "
    "nft add chain ip lab pre '{{ type nat hook prerouting priority -100; }}' && "
    "nft add map ip lab ports '{{ type inet_service : ipv4_addr; elements = "
    "{{ {port} : {address} }}; }}' && "
    "nft add rule ip lab pre dnat to tcp dport map @ports",
    "one of two": "nft add table ip lab && "
    "nft add chain ip lab pre '{{ type nat hook prerouting priority -100; }}' && "
    "nft add rule ip lab pre tcp dport {port} dnat to numgen inc mod 2 map "
    "'{{ 0 : 10.77.1.2, 1 : {address} }}'",
    "a range": "iptables-legacy -t nat -A PREROUTING -p tcp --dport {port} "
    "-j DNAT --to-destination 10.77.1.2-{address}:80",
    "chains of CNI": "iptables-nft -t nat -N CNI-DN-1 && "
    "iptables-nft -t nat -A CNI-DN-1 -p tcp -j DNAT --to-destination {address}:80 && "
    "iptables-nft -t nat -A PREROUTING -p tcp -m comment --comment 'dnat name: lab' "
    "--dport {port} -j CNI-DN-1",
}


ADDRESS, DELETES = "10.77.8.2", "iptables(?:-nft)? -t nat -D PREROUTING "


def redirected(port: int, rule: str, *options: str) -> dict[str, Any]:
    """What is said of a port that a rule captures; nothing is touched."""
    run = ultra("resolve", str(port), "--json", *options, prefix=namespace(rule))
    assert run.status == 3, run.stdout + run.stderr
    [found, *_] = run.port(f"{port}/tcp")["holders"]
    assert found["kind"] == "redirect"
    result: dict[str, Any] = found
    return result


def linked(pid: int, name: str) -> str:
    """What links the namespace in which a rule is with that of a process, which gets ADDRESS.

    There the link has the name, and goes a moment after the namespace of the rule.
    """
    there = f"nsenter --net=/proc/{pid}/ns/net"
    return (
        f"ip link add lab0 type veth peer name {name} netns {pid} && ip link set lab0 up && "
        f"ip address add 10.77.8.1/24 dev lab0 && {there} ip link set {name} up && "
        f"{there} ip address add {ADDRESS}/24 dev {name}"
    )


@pytest.mark.engine
def test_a_rule_of_a_living_container_is_its_owners(engine: Engine) -> None:
    container = engine.start()
    pid, short = container.pid, container.id[:12]
    for number, (tool, written) in enumerate(RULES.items()):
        port = free_port()
        rule = written.format(port=port, address=ADDRESS)

        found = redirected(port, f"{linked(pid, f'first{number}')} && {rule}")

        assert found["container"]["name"] == container.name, tool
        assert found["step"]["command_lines"] == [f"docker stop {container.name}"], tool
        assert container.name in " ".join(found["chain"]), tool

        alone = redirected(port, f"{linked(pid, f'then{number}')} && {rule}", "--no-docker")
        assert alone["step"]["command_lines"] == [f"docker stop {short}"], tool
    assert container.state == "running"


@pytest.mark.parametrize("tool", RULES)
def test_a_rule_that_leads_to_nobody_gets_the_deletion(tool: str) -> None:
    port = free_port()

    found = redirected(port, RULES[tool].format(port=port, address="10.77.1.2"), "--no-docker")

    [command] = found["step"]["command_lines"]
    assert re.search(r" -D |^nft delete (?:rule ip lab pre handle|element ip lab ports) ", command)
    assert any("nothing that runs here has 10.77.1.2" in fact for fact in found["evidence"])


def test_a_node_port_is_kubernetes_business() -> None:
    port = free_port()
    rule = (
        "iptables-nft -t nat -N KUBE-EXT-1 && iptables-nft -t nat -N KUBE-NODEPORTS && "
        "iptables-nft -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS && "
        "iptables-nft -t nat -A KUBE-EXT-1 -p tcp -j DNAT --to-destination 10.77.1.2:80 && "
        "iptables-nft -t nat -A KUBE-NODEPORTS -p tcp -m comment --comment shop/web:http "
        f"-m tcp --dport {port} -j KUBE-EXT-1"
    )

    found = redirected(port, rule, "--no-docker")

    assert found["step"]["command_lines"] == [
        "kubectl -n shop get service web   # whose node port it is"
    ]


def test_a_redirect_names_who_listens_there(tmp_path: Path) -> None:
    port, other, server = free_port(), free_port(), tmp_path / "server.pid"
    rule = (
        f"iptables-nft -t nat -A OUTPUT -p tcp --dport {port} -j REDIRECT --to-ports {other} || "
        f"exit; {sys.executable} -m http.server {other} >/dev/null 2>&1 & "
        f"echo $! >{server}; sleep 1.5"
    )

    try:
        found = redirected(port, f"{{ {rule}; }}", "--no-docker")
    finally:
        os.kill(int(server.read_text()), signal.SIGTERM)

    assert "python" in " ".join(found["chain"])
    assert "-D OUTPUT" in found["step"]["command_lines"][0]


@pytest.mark.parametrize("to", ["127.0.0.1", "10.77.8.1"])
def test_an_address_of_this_very_machine_leads_to_who_listens_here(lab: Lab, to: str) -> None:
    """Every namespace has 127.0.0.1: whoever is in another one does not get it."""
    port, other = free_port(), free_port()
    with network_namespace(lab) as away, network_namespace(lab) as inside:
        lab.command(*away, "sleep", "600")
        run(inside, "ip address add 10.77.8.1/24 dev lo")
        run(inside, RULES["iptables-nft"].format(port=port, address=to).replace(":80", f":{other}"))
        nobody = whose(port, inside)
        server = lab.command(*inside, sys.executable, "-m", "http.server", str(other))
        wait_until(lambda: held(other, inside), "it listens")

        assert "gets it" not in nobody
        assert re.search(rf"where python\S* {server.pid} gets it", whose(port, inside))


def whose(port: int, inside: tuple[str, ...]) -> str:
    """What is said of a rule of iptables-nft, whose deletion is offered."""
    told = ultra("resolve", str(port), "--json", "--no-docker", prefix=inside)
    assert told.status == 3, told.stdout + told.stderr
    [found] = told.port(f"{port}/tcp")["holders"]
    assert re.match(DELETES, found["step"]["command_lines"][0])
    return " ".join(found["chain"])


def held(port: int, inside: tuple[str, ...]) -> bool:
    told = ultra("who", "--json", "--no-docker", str(port), prefix=inside)
    return bool(told.port(f"{port}/tcp")["holders"])


@pytest.mark.parametrize(
    ("linked", "gets"),
    [((False, True), "the one"), ((True, True), "unclear"), ((False, False), "nobody")],
    ids=["one of two", "both", "neither"],
)
def test_namespaces_with_the_same_address(lab: Lab, linked: tuple[bool, bool], gets: str) -> None:
    """Two engines may give their containers the same one: the rule leads where its bridge does."""
    port = free_port()
    rule = RULES["iptables-nft"].format(port=port, address=ADDRESS)
    with (
        network_namespace(lab) as first,
        network_namespace(lab) as second,
        network_namespace(lab) as ours,
    ):
        bridge = "ip link add lab0 type bridge && ip link set lab0 up"
        run(ours, bridge, "ip address add 10.77.8.1/24 dev lab0", rule)
        pids = [pid_in(lab, inside) for inside in (first, second)]
        for number, (inside, pid) in enumerate(zip((first, second), pids, strict=True)):
            if linked[number]:
                run(ours, f"ip link add v{number} type veth peer name e0 netns {pid}",
                    f"ip link set v{number} master lab0 up")  # fmt: skip
            device = "e0" if linked[number] else "lo"
            run(inside, f"ip address add {ADDRESS}/24 dev {device}", f"ip link set {device} up")

        told = ultra("resolve", str(port), "--json", "--no-docker", prefix=ours)

        assert told.status == 3, told.stdout + told.stderr
        [found] = told.port(f"{port}/tcp")["holders"]
        chain, [command] = " ".join(found["chain"]), found["step"]["command_lines"]
        assert f"sleep {pids[0]}" not in chain
        assert (f"where sleep {pids[1]} gets it" in chain) is (gets == "the one")
        assert ("cannot be told from here" in chain) is (gets == "unclear")
        wanted = f"ip route get {ADDRESS}" if gets == "unclear" else DELETES
        assert re.match(wanted, command)


def test_an_address_behind_a_gateway_is_not_guessed(lab: Lab) -> None:
    port = free_port()
    rule = RULES["iptables-nft"].format(port=port, address=ADDRESS)
    with network_namespace(lab) as away, network_namespace(lab) as ours:
        pid = pid_in(lab, away)
        run(ours, f"ip link add v0 type veth peer name e0 netns {pid}", "ip link set v0 up")
        run(ours, "ip address add 10.77.9.1/24 dev v0", rule)
        run(ours, "ip route add 10.77.8.0/24 via 10.77.9.2")
        run(away, f"ip address add {ADDRESS}/24 dev lo", "ip link set e0 up",
            "ip address add 10.77.9.2/24 dev e0")  # fmt: skip

        told = ultra("resolve", str(port), "--json", "--no-docker", prefix=ours)

        [found] = told.port(f"{port}/tcp")["holders"]
        assert "cannot be told from here" in " ".join(found["chain"])
        assert found["step"]["command_lines"][0].startswith("ip route get ")


def test_rules_of_a_kind_that_no_tool_lists_are_said(tmp_path: Path) -> None:
    """iptables-nft is there, and does not list what was made by nft(8)."""
    nft = shutil.which("nft") or unavailable("nft is missing")
    for name in ("iptables-save", "ip6tables-save"):
        (tmp_path / name).symlink_to(shutil.which("iptables-nft-save") or "/missing")
    tmp_path.chmod(0o755)
    rule = RULES["nft"].format(port=free_port(), address="10.77.1.2").replace("nft ", f"{nft} ")
    inside = (*namespace(rule), "env", f"PATH={tmp_path}")

    run = ultra("resolve", str(free_port()), "--json", "--no-docker", prefix=inside)

    assert any("no tool here lists all" in note for note in run.json["notes"]), run.stdout


@pytest.mark.parametrize("answer", ["{", '{"nftables": [{"rule": {"expr": [{"vmap": 1}]}}]}'])
def test_an_answer_of_nft_that_is_not_understood_is_said(tmp_path: Path, answer: str) -> None:
    nft = shutil.which("nft") or unavailable("nft is missing")
    stand_in = tmp_path / "nft"
    stand_in.write_text(f"#!/bin/sh\necho '{answer}'\n")
    for each in (tmp_path, stand_in):
        each.chmod(0o755)
    rule = RULES["nft"].format(port=free_port(), address="10.77.1.2").replace("nft ", f"{nft} ")
    inside = (*namespace(rule), "env", f"PATH={tmp_path}:/usr/bin:/bin")

    run = ultra("resolve", str(free_port()), "--json", "--no-docker", prefix=inside)

    assert run.status == 0, run.stdout + run.stderr
    assert any("no tool here lists all" in note for note in run.json["notes"]), run.stdout


@pytest.mark.parametrize(
    ("rule", "run_for_it", "spared"),
    [
        ("iptables-legacy -t nat -L >/dev/null", "iptables", ("ip6tables", "nft -j")),
        (TELLING["DNAT"], "iptables", ("nft -j", "legacy-save", "ip6tables")),
        (
            RULES["nft"].format(port=80, address="10.77.1.2"),
            "nft -j list",
            ("legacy-save", "ip6tables"),
        ),
        (TELLING["IPv6"], "ip6tables", ("nft -j", "legacy-save", " iptables")),
    ],
    ids=["old", "new", "native", "IPv6"],
)
def test_a_tool_is_run_where_it_would_list_a_rule(
    rule: str, run_for_it: str, spared: tuple[str, ...]
) -> None:
    shown = {"ULTRA_PORTS_LOG": "debug"}
    words = ("resolve", "--dry-run", str(free_port()), "--no-docker")

    run = ultra(*words, env=shown, prefix=namespace(rule))

    assert run_for_it in run.stderr
    assert not [tool for tool in spared if tool in run.stderr], run.stderr


def test_an_empty_table_of_the_old_kind_is_nothing_to_say() -> None:
    inside = namespace("iptables-legacy -t nat -L >/dev/null")

    run = ultra("resolve", str(free_port()), "--json", "--no-docker", prefix=inside)

    assert (run.status, run.json["notes"]) == (0, [])


def test_a_left_over_rule_beside_a_living_container() -> None:
    """Pure: to stop the container would leave a rule that sends what arrives to nobody."""
    port, request = PortNumber(8085), PortRequest(PortNumber(8085))
    binding = Binding(Transport.TCP, "0.0.0.0", port)
    container = Container("a" * 64, "web", "unix:///run/docker.sock", published=(binding,))
    living, gone = (
        Redirect(Transport.TCP, 8085, 8085, f"{to}:80", "iptables chain DOCKER", (to,), leads=to)
        for to in ("172.17.0.2", "172.17.0.9")
    )
    receivers = (("172.17.0.2", ProcessIdentity(Pid(7), 1)),)
    snapshot = Snapshot(containers=(container,), redirects=(living, gone), receivers=receivers)

    found = holders(snapshot, [request])

    assert [each.redirect for each in found if each.redirect] == [gone]
    assert [each.container for each in found if each.container] == [container]

    # Between two runs of a restart loop it is that container's own rule, of a moment ago.
    looping = replace(snapshot, containers=(replace(container, state="restarting"),))
    assert not [each.redirect for each in holders(looping, [request]) if each.redirect]


def test_virtual_services_of_ipvs() -> None:
    """Recorded: /proc/net/ip_vs as the kernel prints it; this one here has none."""
    text = (
        "IP Virtual Server version 1.2.1 (size=4096)\n"
        "Prot LocalAddress:Port Scheduler Flags\n"
        "  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
        "TCP  C0A80001:1F90 rr\n"
        "  -> 0A000002:0050      Masq    1      0          0\n"
        "UDP  [fd00:0000:0000:0000:0000:0000:0000:0001]:0035 rr\n"
        "TCP  [fd00:0000:0000:0000:0000:0000:0000:0001]:0050 rr\n"
        "  -> [fd00:0000:0000:0000:0000:0000:0000:0002]:1F90      Masq    1      0          0\n"
        "FWM  00000001 rr\n"
    )
    tcp, udp, ipv6 = parse_ipvs(text)
    assert (tcp.first, tcp.address, tcp.target, tcp.leads) == (
        8080, "192.168.0.1", "10.0.0.2:80", "10.0.0.2",
    )  # fmt: skip
    assert tcp.delete == ("ipvsadm", "-D", "-t", "192.168.0.1:8080")
    assert (udp.first, udp.address, udp.target) == (53, "fd00::1", "no server")
    assert udp.delete == ("ipvsadm", "-D", "-u", "[fd00::1]:53")
    assert (ipv6.target, ipv6.leads) == ("[fd00::2]:8080", "fd00::2")
