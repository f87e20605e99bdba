"""What `systemctl show` says of a unit: when it is started, and by whom. No command is run here."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRIGGERS = (".socket", ".path", ".timer")
_ARGUMENTS = r"argv\[\]=(.*?) ; "
# Where D-Bus looks for what it may start (dbus-daemon(1)), and what a name is (its specification)
_BUS_FOLDERS = tuple(
    f"{folder}/dbus-1/{kind}services"
    for folder in ("/etc", "/run", "/usr/local/share", "/usr/share", "/lib")
    for kind in ("system-", "")
)
_BUS_NAME = r"[A-Za-z_-][\w-]*(?:\.[\w-]+)+"


def properties(block: str) -> dict[str, str]:
    """The `key=value` lines of one unit; what is there several times is joined."""
    found: dict[str, str] = {}
    for line in block.splitlines():
        key, _, value = line.partition("=")
        found[key] = f"{found[key]} {value}" if key in found else value
    return found


def triggers_of(facts: Mapping[str, str]) -> list[str]:
    """The units that start one, and are stopped with it (systemd.unit(5)).

    Its sockets, paths and timers; and the targets that uphold it, but no service that does: with
    that, more would be lost.
    """
    above = [each for each in facts.get("UpheldBy", "").split() if each.endswith(".target")]
    triggers = facts.get("TriggeredBy", "").split()
    return [*(each for each in triggers if each.endswith(_TRIGGERS)), *above]


def policy_of(facts: Mapping[str, str]) -> str:
    """When systemd starts a unit again, and who else asks for it; `Restart=no` for never."""
    policy = f"Restart={facts.get('Restart', 'no')}"
    if triggers := facts.get("TriggeredBy"):
        policy += f", activated by {triggers}"
    if name := _bus_name(facts):
        policy += f", activated by D-Bus name {name}"
    if above := facts.get("UpheldBy"):
        policy += f", upheld by {above}"
    return policy


def is_transient(facts: Mapping[str, str]) -> bool:
    """Whether systemd-run(1) or a program made the unit: it has no file, and goes with its end."""
    return "/systemd/transient/" in facts.get("FragmentPath", "")


def command_of(facts: Mapping[str, str]) -> str:
    """The first command line of `ExecStart`; empty where there is none."""
    found = re.search(_ARGUMENTS, facts.get("ExecStart", ""))
    return found[1] if found else ""


def _bus_name(facts: Mapping[str, str]) -> str:
    """The name for which D-Bus starts the unit (dbus-daemon(1), "Service activation")."""
    name = facts.get("BusName", "")
    files = (f"{folder}/{name}.service" for folder in _BUS_FOLDERS)
    return name if re.fullmatch(_BUS_NAME, name) and any(map(os.path.exists, files)) else ""
