"""READ FIRST for `up`: preflight → free → `docker compose up -d` → check; as one value."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from resolver.compose import freeing, proof, up_arguments
from resolver.compose.findings import Code, Preflight
from resolver.compose.preflight import preflight
from resolver.model import ExitStatus, Report, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from resolver.compose.command import ComposeCommand
    from resolver.compose.model import ComposeArguments
    from resolver.compose.proof import PortProof
    from resolver.protocols import Observer

NAME_VARIABLE = "COMPOSE_PROJECT_NAME"


class Launch(Struct, frozen=True):
    """How far it went: what was not begun is None or empty.

    `refusal` says why nothing was started. `command` is compose's, and `compose_status` what it
    ended with. `taken_by` is who holds the project's ports after it failed. `dry_run`: nothing was
    freed or started, and that is what would be.
    """

    preflight: Preflight
    exit_status: ExitStatus
    refusal: str = ""
    freed: Report | None = None
    command: tuple[str, ...] = ()
    compose_status: int | None = None
    checked: tuple[PortProof, ...] = ()
    taken_by: Report | None = None
    dry_run: bool = False


def launch(
    compose: ComposeCommand,
    arguments: Sequence[str],
    start: Callable[[Sequence[str]], int],
    observer: Observer,
    wait_seconds: float,
    hint: str,
    **options: Any,  # noqa: ANN401 - as for `api.resolve`
) -> Launch:
    """Frees what the project needs, starts it, and checks that it answers.

    Args:
        compose: reads the project, and starts it.
        arguments: for `docker compose up`.
        start: runs a command to its end, and returns its exit status.
        observer: as for `api.resolve`.
        wait_seconds: how long a server may take until it answers.
        hint: the command that frees what outsiders hold.
        options: fields of `Policy`.

    Raises:
        UsageError: there is no compose, or the project or an argument makes no sense; nothing was
            touched.
        EngineError: the engine does not say what runs; it was started.
    """
    up = up_arguments.parse(arguments)
    compose.selected(up)
    compose.check_up_options(arguments)
    found = preflight(compose, up, hint, **_read_only(options))
    if reason := _refused(found, compose.arguments):
        return Launch(found, found.exit_status or ExitStatus.ADVISED, reason)
    silent, freed = "", None
    if found.engine.error:  # other engines do not matter then
        silent = f"nothing can be started: {found.engine.error}"
    if found.taken:
        acting = {**options, "dry_run": True} if silent else options
        freed = freeing.free(found, observer, **acting)
        advised = freed.exit_status in {ExitStatus.ADVISED, ExitStatus.HIDDEN}
        if freed.exit_status and (advised or not silent):
            why = "not every port of the project could be freed"
            return Launch(found, _status(freed), why, freed)
    if silent:
        return Launch(found, ExitStatus.UNDECIDED, silent)
    argv = compose.up(arguments)
    if options.get("dry_run"):
        return Launch(found, ExitStatus.FREE, "", freed, argv, dry_run=True)
    observer.did(f"began {' '.join(argv)}")
    done = Launch(found, ExitStatus.FREE, "", freed, argv, start(argv))
    return _checked(done, wait_seconds, observer, options)


def _status(freed: Report) -> ExitStatus:
    """Its exit status; where nobody was ended because somebody said no, that of a conflict."""
    outcomes = [each.outcome for port in freed.ports for each in port.holders if each.outcome]
    if outcomes and all(each.result is Result.SKIPPED for each in outcomes):
        return ExitStatus.ADVISED if freed.exit_status is ExitStatus.HELD else freed.exit_status
    return freed.exit_status


def _refused(found: Preflight, given: ComposeArguments) -> str:
    """Why nothing is begun; empty where it may be."""
    if found.unfreeable:
        return "freeing ports would not help"
    if found.exit_status is ExitStatus.UNDECIDED:
        return "it is not known whether the project's own containers hold its ports"
    named = given.project or os.environ.get(NAME_VARIABLE)
    if not named and any(each.code is Code.PROJECT_NAME for each in found.findings):
        return (
            "another directory's containers would be replaced; --project NAME says which is meant"
        )
    return ""


def _checked(
    done: Launch, wait_seconds: float, observer: Observer, options: dict[str, Any]
) -> Launch:
    look = _read_only(options)
    if done.compose_status:
        return replace(
            done, exit_status=ExitStatus.HELD, taken_by=proof.takers(done.preflight, **look)
        )
    checked = proof.check(done.preflight, wait_seconds, observer.waiting, **look)
    return replace(done, checked=checked, exit_status=proof.exit_status(checked))


def _read_only(options: dict[str, Any]) -> dict[str, Any]:
    """The options that matter to somebody who only looks."""
    return {
        name: each
        for name, each in options.items()
        if name in {"use_docker", "docker_timeout_seconds", "rerun_command"}
    }
