"""Which unit a cgroup is of, and what `systemctl show` says of it. No command is run here."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from resolver.model import ANY_IPV6, Binding, PortNumber, Transport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_UNITS = (".service", ".scope")
_LISTEN = r"\[?([0-9A-Fa-f:.]+?)\]?:(\d+) \((Stream|Datagram)\)"
_TRIGGERS = (".socket", ".path", ".timer")
_ARGUMENTS = r"argv\[\]=(.*?) ; "
# Where D-Bus looks for what it may start (dbus-daemon(1)), and what a name is (its specification)
_BUS_FOLDERS = tuple(
    f"{folder}/dbus-1/{kind}services"
    for folder in ("/etc", "/run", "/usr/local/share", "/usr/share", "/lib")
    for kind in ("system-", "")
)
_BUS_NAME = r"[A-Za-z_-][\w-]*(?:\.[\w-]+)+"


def service_in(paths: Iterable[str]) -> tuple[str, str] | None:
    """The service that one of these cgroup paths belongs to, and that path; None for a session's.

    Scopes are sessions and containers. Below a unit its own program may have made further cgroups,
    and has chosen their names: none of them becomes an option.
    """
    for path in paths:
        parts = path.split("/")
        units = [part for part in parts if part.endswith(_UNITS) and not part.startswith("-")]
        if units and units[-1].endswith(".service"):
            return units[-1], path
    return None


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


def dependents_of(facts: Mapping[str, str]) -> list[str]:
    """The services that are stopped with one, be they active or not (systemd.unit(5)).

    Those that are bound to it, however it ends; and where it would be stopped by systemctl(1),
    those that require it, or are a part of it, too.
    """
    on_stop = () if policy_of(facts) == "Restart=no" else ("RequiredBy", "ConsistsOf")
    found = dict.fromkeys(" ".join(facts.get(key, "") for key in ("BoundBy", *on_stop)).split())
    return [each for each in found if each.endswith(".service") and not each.startswith("-")]


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


def listens(text: str, like: Binding) -> Iterator[Binding]:
    """The bindings in `Listen=` values such as `[::]:8085 (Stream)`; `*` has become `[::]`."""
    for match in re.finditer(_LISTEN, text):
        transport = Transport.TCP if match[3] == "Stream" else Transport.UDP
        found = Binding(transport, match[1].lower(), PortNumber(int(match[2])))
        yield found
        if found.address == ANY_IPV6 and like.address == "0.0.0.0":  # noqa: S104 - IPv6 switched off
            yield Binding(transport, like.address, found.port)


def number_of(text: str | None) -> int:
    """A number such as a PID; 0 where there is none."""
    return int(text) if text and text.isdigit() else 0


def evidence_of(facts: Mapping[str, str]) -> Iterator[str]:
    """What is worth a line of it."""
    yield f"systemctl show: MainPID={facts.get('MainPID')}, Restart={facts.get('Restart')}"
    if number_of(facts.get("NRestarts")):
        yield f"it was restarted {facts['NRestarts']} times"
    if facts.get("FragmentPath"):
        yield f"unit file {facts['FragmentPath']}"
    if facts.get("UnitFileState") == "enabled":
        yield f"{facts.get('Id')} is enabled: it comes back at boot"


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
