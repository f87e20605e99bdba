"""`resolve --stale`: ends what was left behind, after the plan was shown, and nothing else.

What is ended is what was listed: the plan is kept, and applied only if it still is the same.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

from resolver import api
from resolver.cli import say
from resolver.cli.output import ask, is_yes, show
from resolver.errors import StateChangedError
from resolver.stale import left_behind

if TYPE_CHECKING:
    from resolver.cli.progress import Terminal
    from resolver.model import Report

_APPLYING = ("grace_seconds", "settle_seconds", "docker_timeout_seconds", "use_docker")


def resolve_stale(terminal: Terminal, policy: dict[str, Any], *, yes: bool, quiet: bool) -> Report:
    """What came of the ports that are held by what was left behind.

    On a terminal it is shown, and ended after a yes; elsewhere it is all that there is without
    `yes`.

    Raises:
        typer.Exit: it was shown, and nothing is to be ended.
        StateChangedError: what holds the ports changed while it was looked at; nothing was touched.
    """
    found = api.stale(use_docker=policy["use_docker"], rerun_command=policy["rerun_command"])
    ports = [str(port.request) for port in found.ports]
    if not ports:
        return found
    planned, plan = api.plan(*ports, **{**policy, "dry_run": False})
    still = left_behind(planned)
    if [port.request for port in still.ports] != [port.request for port in planned.ports]:
        raise StateChangedError(
            "what was left behind has changed just now, and nothing was touched"
        )
    if policy["dry_run"]:
        return still
    if not yes and not _is_agreed(still, quiet=quiet):
        return still
    return api.apply(plan, observer=terminal, **{name: policy[name] for name in _APPLYING})


def _is_agreed(still: Report, *, quiet: bool) -> bool:
    """Whether somebody has said yes to what is shown; elsewhere than on a terminal nobody does."""
    if not sys.stdin.isatty():
        say(["nothing was ended: --yes ends what is listed here"])
        return False
    if not quiet:
        show(still, json=False, quiet=False, verbose=False)
    ports = ", ".join(str(port.request) for port in still.ports)
    if is_yes(ask(f"end what holds {ports}? [y/N]")):
        return True
    say(["nothing was ended"])
    if not quiet:  # it is on the screen
        raise typer.Exit(int(still.exit_status))
    return False
