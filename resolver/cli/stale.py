"""`resolve --stale`: ends what was left behind, after the plan was shown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from resolver import api
from resolver.cli.output import say, show

if TYPE_CHECKING:
    from resolver.cli.progress import Terminal
    from resolver.model import Report


def resolve_stale(terminal: Terminal, policy: dict[str, Any], *, yes: bool, quiet: bool) -> Report:
    """What came of the ports that are held by what was left behind.

    The plan is shown on stderr's side of a question on a terminal; elsewhere, without `yes`, it is
    all that there is.
    """
    found = api.stale(**{name: policy[name] for name in ("use_docker", "rerun_command")})
    ports = [str(port.request) for port in found.ports]
    if not ports or policy["dry_run"] or yes:
        return api.resolve(*ports, observer=terminal, **policy) if ports else found
    if not sys.stdin.isatty():
        say(["nothing was ended: --yes ends what is listed here"])
        return api.resolve(*ports, **{**policy, "dry_run": True})
    if not quiet:
        show(found, json=False, quiet=False, verbose=False)
    print(f"end what holds {', '.join(ports)}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in {"y", "yes"}:
        return api.resolve(*ports, observer=terminal, **policy)
    return api.resolve(*ports, **{**policy, "dry_run": True})
