"""`ultra-ports selftest`: proves here that the hold works, and says what else there is to use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from resolver import __version__
from resolver.cli.options import Json
from resolver.cli.output import print_json, say
from resolver.errors import UltraPortsError
from resolver.gather import list_sockets, sock_diag
from resolver.gather.asking import ask_engines
from resolver.host import own_files
from resolver.host.paths import ForeignFileError
from resolver.host.runner import run_command
from resolver.leases.state import state_directory
from resolver.model import Policy, PortNumber, PortRequest
from resolver.project.names import current
from resolver.report.escape import escape
from resolver.reservations.holding.endpoint import bound
from resolver.reservations.holding.selftest import checks, comparison

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.reservations.holding.selftest import Check

EPILOG = """\b
Exit status:
  0  every promise was proved
  1  one is not kept here, or could not be found out"""

SCHEMA = "ultra-ports.selftest/1"
_WORDS = {True: "ok", False: "NOT", None: "?"}


def selftest(json: Json = False) -> int:
    """Examples:

    \b
      ultra-ports selftest
      ultra-ports selftest --json

    Proves on this machine that a held port is kept from others, with 64 racing
    processes and ports that it picks itself. Touches nothing else.
    """  # noqa: D415, D301 - a help text
    done = list(_shown(checks(), quiet=json))
    status = 0 if all(check.passed for check in done) else 1
    instead, around = comparison(), dict(_surroundings())
    if json:
        _print_json(done, instead, around, status)
        return status
    print(f"      for comparison: to bind a port and let it go again: {instead}")
    print()
    for name, found in around.items():
        print(f"{name:<10} {escape(found)}")
    if status:
        say(["not everything is as promised here"])
    return status


def _shown(found: Iterator[Check], *, quiet: bool) -> Iterator[Check]:
    for check in found:
        if not quiet:
            print(f"{_WORDS[check.passed]:<5} {check.promise}", f"      {check.found}", sep="\n")
        yield check


def _print_json(done: list[Check], instead: str, around: dict[str, str], status: int) -> None:
    envelope = {
        "schema": SCHEMA,
        "tool": {"name": "ultra-ports", "version": __version__},
        "command": "selftest",
        "exit_status": status,
        "checks": [
            {
                "name": check.name,
                "promise": check.promise,
                "passed": check.passed,
                "found": check.found,
            }
            for check in done
        ],
        "comparison": instead,
        "surroundings": around,
    }
    print_json(envelope)


def _surroundings() -> Iterator[tuple[str, str]]:
    """What other commands would have to use here; nothing is made."""
    yield "kernel", " ".join(os.uname()[::2][:2])
    yield "sockets", _gatherer()
    yield "engine", _engine()
    yield "compose", _compose()
    yield "state", _state()


def _gatherer() -> str:
    """Which way to list sockets there is, and whether it shows those that are only held."""
    try:
        sock_diag.list_sockets([PortRequest(PortNumber(1))])
        way = "sock_diag"
    except OSError as error:
        way = f"psutil (no sock_diag: {error.strerror})"
    with bound(PortRequest(PortNumber(0))) as held:
        port = PortNumber(held.getsockname()[1])
        inode = os.fstat(held.fileno()).st_ino
        seen = any(each.inode == inode for each in list_sockets([PortRequest(port)]))
    return f"{way}; sockets that do not listen are {'shown' if seen else 'not shown'}"


def _engine() -> str:
    try:
        _, asked = ask_engines([PortRequest(PortNumber(1))], (), (), Policy())
    except UltraPortsError as error:
        return f"none answers: {error}"
    told = [f"{each.endpoint} {each.trouble or 'answers'}" for each in asked if not each.absent]
    return "; ".join(told) or "none"


def _compose() -> str:
    try:
        done = run_command(("docker", "compose", "version", "--short"), timeout_seconds=5)
    except UltraPortsError as error:
        return f"no plug-in: {error}"
    return f"docker compose {done.stdout.strip()}" if done.status == 0 else "no plug-in"


def _state() -> str:
    try:
        found = state_directory(os.environ, lambda: current().root)
    except UltraPortsError as error:
        return str(error)
    if found.reason:
        return f"none: {found.reason}"
    path = found.path
    try:
        own_files.folder(path).close()
    except ForeignFileError as error:
        return f"{path} is not used: {error.strerror}"
    except OSError:  # it is made when it is needed
        pass
    there = next(each for each in (path, *path.parents) if os.path.exists(each))  # noqa: PTH110
    able = os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK)  # noqa: PTH112
    return f"{path} {'can be written' if able else f'cannot be written (see {there})'}"
