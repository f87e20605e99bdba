"""`ultra-ports resolve` and `ultra-ports who`: what they do once the command line is read."""

from __future__ import annotations

import os
import sys

from resolver.cli.output import show
from resolver.cli.progress import Terminal
from resolver.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STREAM = "-"


def resolve(
    ports: list[str],
    *,
    everything: bool = False,
    dry_run: bool = False,
    plan_out: str | None = None,
    json: bool = False,
    grace: float = 5.0,
    settle: float = 1.0,
    stop_services: bool = False,
    force: bool = False,
    interactive: bool = False,
    no_docker: bool = False,
    docker_timeout: float = 2.0,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Frees the ports, prints the report, and returns the exit status."""
    from resolver import api  # noqa: PLC0415 - Ctrl-C is handled from the start

    if plan_out == STREAM and json:
        raise UsageError("--json and --plan-out - both want stdout")
    wanted = _wanted(ports, everything=everything)
    terminal = Terminal(asks=interactive)
    options: dict[str, Any] = {
        "dry_run": dry_run,
        "grace_seconds": grace,
        "settle_seconds": settle,
        "stop_services": stop_services,
        "force": force,
        "use_docker": not no_docker,
        "docker_timeout_seconds": docker_timeout,
        "again": command_line(),
    }
    try:
        if plan_out is not None:
            report, text = api.plan(*wanted, **options)
            from resolver.cli.files import save  # noqa: PLC0415 - seldom

            save(text, plan_out)
        else:
            report = api.resolve(*wanted, observer=terminal, **options)
    except KeyboardInterrupt:
        terminal.interrupted()
        return 130
    show(report, json=json, quiet=quiet or plan_out == STREAM, verbose=verbose)
    return int(report.exit_status)


def who(
    ports: list[str],
    *,
    json: bool = False,
    complete: bool = False,
    no_docker: bool = False,
    docker_timeout: float = 2.0,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Says who holds the ports, and returns the exit status."""
    from resolver import api  # noqa: PLC0415 - after the command line was read

    report = api.who(
        *_given(ports),
        complete=complete,
        use_docker=not no_docker,
        docker_timeout_seconds=docker_timeout,
        again=command_line(),
    )
    show(report, json=json, quiet=quiet, verbose=verbose)
    return int(report.exit_status)


def _wanted(ports: list[str], *, everything: bool) -> list[str]:
    if not everything:
        if not ports:
            raise UsageError("no PORT was given", "ultra-ports resolve -h shows what can be")
        return _given(ports)
    from resolver.project.names import everything as every_service  # noqa: PLC0415 - seldom

    return [*_given(ports), *every_service()]


def _given(ports: list[str]) -> list[str]:
    if any(not port for port in ports):
        raise UsageError("'' is not a port: it is empty")
    return ports


def command_line() -> tuple[str, ...]:
    """This command line as it can be typed behind sudo, which has a search path of its own."""
    name = "ultra-ports"
    path = None
    if os.geteuid() != 0:
        from shutil import which  # noqa: PLC0415 - root is seldom told to use sudo

        path = which(name)
    if path is None and sys.argv[0].endswith(name):
        path = os.path.abspath(sys.argv[0])  # noqa: PTH100 - a link in a search path stays a link
    if path and not path.startswith(("/usr/bin/", "/usr/local/bin/")):
        name = path
    return (name, *sys.argv[1:])
