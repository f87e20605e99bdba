"""A NAT rule that captures the port: nobody listens, and yet connections go somewhere else.

A rule that leads to something alive is the business of whoever that is; one that leads nowhere is a
leftover, and gets the command that removes it. Whose it is may not be told where several namespaces
have its address: then it gets neither.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.ancestry import stop_of_container
from resolver.model import UNATTENDED, Classification, Command, Kind, Respawn

if TYPE_CHECKING:
    from resolver.model import Holder, Process, Redirect, Snapshot
    from resolver.protocols import CommandRunner


class _Maker(Struct, frozen=True):
    """Who puts a rule back that somebody else removed: known by its chain's or table's name."""

    names: str
    name: str
    command: tuple[str, ...]


# As documented: kubernetes.io (virtual IPs), firewall-cmd(1), Incus (proxy devices),
# Istio (application requirements)
_MAKERS = (
    _Maker(
        r"\bKUBE-|\bkube-proxy\b", "Kubernetes", ("kubectl", "get", "services", "-A", "-o", "wide")
    ),
    _Maker(
        r"\bfirewalld\b|\bPRE_\w+_allow\b", "firewalld", ("firewall-cmd", "--list-forward-ports")
    ),
    _Maker(r"\b(?:lxd|incus)\b", "Incus or LXD", ("incus", "list", "-c", "ns4")),
    _Maker(r"\bISTIO_", "Istio", ("istioctl", "proxy-status")),
)
_SERVICE = r"([\w][\w-]*)/([\w][\w-]*)(?::[\w-]+)?\Z"  # kube-proxy's comments


def classify(holder: Holder, snapshot: Snapshot, _run: CommandRunner) -> Classification | None:
    """A rule without a container that publishes the port."""
    rule = holder.redirect
    if rule is None:
        return None
    receiver = snapshot.process(dict(snapshot.receivers).get(rule.leads))
    whose, commands = _whose(holder, rule, receiver)
    if rule.leads in snapshot.unclear:
        whose, commands = _unclear(rule, whose, commands)
    return Classification(
        holder,
        Kind.REDIRECT,
        respawn=Respawn.UNKNOWN,
        chain=(rule.where, f"sends it to {rule.target}", *([whose] if whose else [])),
        evidence=tuple(_evidence(rule, receiver, snapshot)),
        reason=f"a NAT rule ({rule.where}) sends this port to {rule.target}"
        + (f", {whose}" if whose else ""),
        commands=commands,
    )


def _evidence(rule: Redirect, receiver: Process | None, snapshot: Snapshot) -> list[str]:
    found = ["the port can be bound, and what arrives from outside still goes elsewhere"]
    if rule.comment:
        found.append(f"its maker says: {rule.comment}")
    if receiver is not None and not rule.leads.startswith("port "):
        found.append(f"{rule.leads} is an address of the network namespace of {receiver}")
    elif rule.leads in snapshot.unclear:
        found.append(f"{rule.leads} is an address of network namespaces here, maybe of another's")
    elif receiver is None and rule.leads:
        found.append(f"nothing that runs here has {rule.leads}")
    return found


def _unclear(
    rule: Redirect, whose: str, commands: tuple[Command, ...]
) -> tuple[str, tuple[Command, ...]]:
    """What is said where nobody knows who gets it: its maker's command, else the way that it takes.

    To remove the rule could cut off somebody who lives.
    """
    if whose:
        return whose, commands
    command = Command(("ip", "route", "get", rule.leads), "the way there: who lives behind it?")
    return f"and who has {rule.leads} there cannot be told from here", (command,)


def _whose(
    holder: Holder, rule: Redirect, receiver: Process | None
) -> tuple[str, tuple[Command, ...]]:
    """Whose business the rule is, and the commands for that; a leftover is removed."""
    maker = next((e for e in _MAKERS if re.search(e.names, f"{rule.where} {rule.target}")), None)
    container = holder.container
    if container is not None and receiver is not None:
        who = container.title if container.engine else f"container {container.name}"
        runs = container.state if container.state == UNATTENDED else "which runs"
        return f"of {who}, {runs}", stop_of_container(" ".join(receiver.cgroups), container)
    if maker is not None:
        return f"a rule of {maker.name}", (_makers_command(rule, maker),)
    if receiver is not None:
        return f"where {receiver} gets it", (_deletion(rule, f"takes it off {receiver}"),)
    return "", (_deletion(rule),)


def _deletion(rule: Redirect, *notes: str) -> Command:
    """The command that removes the rule, which may be about other ports, too."""
    shared = ["the rule has other ports, too"] if rule.shared else []
    return Command(rule.delete, "; ".join((*notes, *shared)))


def _makers_command(rule: Redirect, maker: _Maker) -> Command:
    service = re.match(_SERVICE, rule.comment)
    if service and maker.command[0] == "kubectl":
        words = ("kubectl", "-n", service[1], "get", "service", service[2])
        return Command(words, "whose node port it is")
    return Command(maker.command, f"{maker.name} would put the rule back")
