"""PURE: what engines say when a port that they were to publish is taken."""

from __future__ import annotations

import re

_AT = r"(?P<address>\[[0-9a-f:.]*\]|[0-9.]*|::1?):(?P<port>\d+)"
_TRANSPORT = "(?P<transport>tcp|udp)"
_TAKEN = "address already in use"
_MESSAGES = (
    # 20.10 to 27, rootless engines, Docker Desktop, podman
    rf"listen {_TRANSPORT}[46]? {_AT}: bind: {_TAKEN}",
    # 28 and 29; 28 of a range, with what was tried last
    rf"failed to bind host port (?:for )?{_AT}(?::\S*)?/{_TRANSPORT}: {_TAKEN}",
    rf"failed to bind host port (?P<port>\d+) for (?P<address>\S+?):\d+-\S+/{_TRANSPORT}: {_TAKEN}",
    # every engine, of what its own containers have; nerdctl
    rf"bind for {_AT} failed: port is already allocated(?P<transport>)",
    # podman's pasta, since the end of 2025 and before
    rf"listen failed for host {_TRANSPORT} port (?P<address>\S+)/(?P<port>\d+): {_TAKEN}",
    rf"bind port (?P<port>\d+) \({_TAKEN}\) for option '-(?P<transport>[tu]) ((?P<address>\S+)/)?",
)


def taken_ports(message: str) -> tuple[str, ...]:
    """The port that an engine could not publish since it is taken, in the PORT grammar.

    Args:
        message: of an engine, such as `… listen tcp4 0.0.0.0:8085: bind: address already in use`.

    Returns:
        Empty where the message is about no such port; both transports where it names neither.
    """
    for pattern in _MESSAGES if " already " in message else ():
        if found := re.search(pattern, message, re.IGNORECASE):
            address = (found["address"] or "").strip("[]")
            at = f"[{address}]:" if ":" in address else f"{address}:"
            anywhere = address in {"", "*", "0.0.0.0", "::"}  # noqa: S104 - a text
            port = found["port"] if anywhere else f"{at}{found['port']}"
            transport = found["transport"][:1].lower()
            return {"t": (port,), "u": (f"{port}/udp",)}.get(transport, (port, f"{port}/udp"))
    return ()
