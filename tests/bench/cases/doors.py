"""What people wait for without having asked: completion, and the hook after a failed command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.bench import Contender, UnavailableError
from tests.bench.cases.quiet import lab_of
from tests.bench.rows import compared
from tests.lab.cli import COMMAND
from tests.lab.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.bench import Bench
    from tests.bench.rows import Row

COMPLETION_SECONDS, HOOK_SECONDS = 0.15, 0.3
ABOUT_NO_PORT = "Error response from daemon: pull access denied for nothing"
TAKEN = "failed to bind host port for 0.0.0.0:{port}:172.17.0.2:80/tcp: address already in use"


def completion(bench: Bench) -> Iterator[Row]:
    """<TAB>: a command, its options, the ports that are held, services, and reservations."""
    with lab_of(bench) as lab:
        port = free_port()
        lab.start("answering", port)
        for typed in ("res", "resolve --", "env ", "release "):
            yield from _within(bench, "completion", _tab(typed, set()), COMPLETION_SECONDS)
        held = _tab(f"resolve {str(port)[:2]}", {port})
        yield from _within(bench, "completion", held, COMPLETION_SECONDS)


def hook(bench: Bench) -> Iterator[Row]:
    """What the Docker CLI waits for after each `docker run`: about no port, and about one."""
    with lab_of(bench) as lab:
        port = free_port()
        owner = lab.start("answering", port).pid
        for message in ("", ABOUT_NO_PORT):
            yield from _within(bench, "hook", _asked(message, set()), HOOK_SECONDS)
        taken = _asked(TAKEN.format(port=port), {owner, port})
        yield from _within(bench, "hook", taken, None)


def _within(bench: Bench, case: str, ours: Contender, seconds: float | None) -> Iterator[Row]:
    """Beside the yardstick, and beside the time that it may take.

    Raises:
        UnavailableError: it gave a wrong answer.
    """
    if wrong := bench.complaint(ours):
        raise UnavailableError(f"{ours.label}: {wrong}")
    yardstick = bench.python()
    runs, beside = bench.in_turn([ours, yardstick])
    yield compared((case, ours.label, yardstick.label), runs, beside, None)
    if seconds is not None:
        yield compared((case, ours.label, f"{seconds:g} s"), runs, [seconds] * len(runs), 1.0)


def _tab(typed: str, found: set[int]) -> Contender:
    env = {
        "_ULTRA_PORTS_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": f"ultra-ports {typed}",
    }
    return Contender(f"ultra-ports {typed}<TAB>", (COMMAND,), env=env, names=lambda: found)


def _asked(message: str, named: set[int]) -> Contender:
    call = {"RootCmd": "run", "Flags": {}, "CommandError": message}
    plugin = str(Path(COMMAND).with_name("docker-ports"))
    argv = (plugin, "ports", "docker-cli-plugin-hooks", json.dumps(call))
    return Contender(f"the hook, of {message!r}", argv, names=lambda: named)
