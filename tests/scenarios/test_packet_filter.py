"""Whether any NAT rule is there: the kernel is asked before the tools that list the rules."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.lab.cli import ultra
from tests.lab.ports import free_port
from tests.lab.processes import unavailable

pytestmark = pytest.mark.root

ASK = "from resolver.host.netfilter import may_redirect; print(may_redirect())"
# Each runs in an empty network namespace of its own.
SILENT = {
    "nothing": "true",
    "no NAT": "iptables-nft -A INPUT -p tcp --dport 8085 -j ACCEPT",
    "what leaves": "iptables-nft -t nat -A POSTROUTING -s 10.9.0.0/16 -j MASQUERADE",
}
TELLING = {
    "DNAT": "iptables-nft -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to 10.9.0.1:80",
    "IPv6": "ip6tables-nft -t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8080",
    "a chain of kube-proxy": "iptables-nft -t nat -N KUBE-SERVICES && "
    "iptables-nft -t nat -A PREROUTING -j KUBE-SERVICES",
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
    assert holder["step"]["commands"] == [f"{other} -t nat -D {rule}"]


def test_rules_that_no_tool_lists_are_said() -> None:
    inside = (*namespace(TELLING["DNAT"]), "env", "PATH=/nowhere")

    run = ultra("resolve", str(free_port()), "--json", "--no-docker", prefix=inside)

    assert run.status == 0, run.stdout + run.stderr
    assert any("no tool here lists any" in note for note in run.json["notes"])
