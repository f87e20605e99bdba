"""The commonest command lines, read without typer, whose loading takes longer than the answer.

`resolve` and `who` with ports and plain options only. Whatever else there is (help, a cluster of
options, a mistake, another command) is typer's to read: then there is no answer here. Where there
is one, typer would read the same.
"""

from __future__ import annotations

from resolver.settings import LONGEST_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_SELDOM = 50_000  # objects that came and stayed, before the first look for garbage
_SHARED = {
    "--json": "json",
    "--no-docker": "no_docker",
    "--quiet": "quiet",
    "-q": "quiet",
    "--verbose": "verbose",
    "-v": "verbose",
}
_FLAGS = {
    "who": _SHARED | {"--complete": "complete"},
    "resolve": _SHARED
    | {
        "--dry-run": "dry_run",
        "-n": "dry_run",
        "--force": "force",
        "--interactive": "interactive",
        "-i": "interactive",
        "--stop-services": "stop_services",
    },
}
_SECONDS = {
    "who": {"--docker-timeout": "docker_timeout"},
    "resolve": {
        "--docker-timeout": "docker_timeout",
        "--grace": "grace",
        "--settle": "settle",
    },
}


def read(argv: Sequence[str]) -> tuple[str, list[str], dict[str, Any]] | None:
    """The command, its ports and its options; None where typer has to read the line."""
    command = argv[0] if argv else ""
    if command not in _FLAGS:
        return None
    ports: list[str] = []
    options: dict[str, Any] = {}
    words = iter(argv[1:])
    for word in words:
        if not word.startswith("-"):
            ports.append(word)
        elif name := _FLAGS[command].get(word):
            options[name] = True
        elif name := _SECONDS[command].get(word):
            seconds = _time(next(words, ""))
            if seconds is None:
                return None
            options[name] = seconds
        else:
            return None
    return (command, ports, options) if ports else None


def _time(text: str) -> float | None:
    """A plain number of seconds; None where it is not one."""
    digits = text.replace(".", "", 1)
    if not (digits.isascii() and digits.isdecimal()):
        return None
    seconds = float(text)
    return seconds if seconds <= LONGEST_SECONDS else None


def run(argv: Sequence[str]) -> int | None:
    """Runs the command and returns its exit status; None where typer has to read the line."""
    found = read(argv)
    if found is None:
        return None
    import gc  # noqa: PLC0415 - built in

    gc.set_threshold(_SELDOM)  # looking for garbage takes milliseconds, and there is hardly any
    from resolver.cli import answers  # noqa: PLC0415 - once the line is known to be ours

    command, ports, options = found
    act = answers.resolve if command == "resolve" else answers.who
    return act(ports, **options)
