"""Runs the installed `ultra-ports` command as a user would, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab import contracts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FAST = ("--settle", "0.3", "--grace", "2")
COMMAND = str(Path(sys.executable).with_name("ultra-ports"))


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of the command gave back, or of a program that ran it."""

    status: int
    stdout: str
    stderr: str

    def __post_init__(self) -> None:
        contracts.check(self.stdout)

    @property
    def json(self) -> Any:  # noqa: ANN401 - the envelope's shape is asserted by each test
        """The envelope on stdout; fails the test where stdout is anything else."""
        return json.loads(self.stdout)

    def port(self, label: str) -> Any:  # noqa: ANN401
        """The report of one request, by its label: `8085/tcp`, `127.0.0.1:8085/tcp`."""
        return next(port for port in self.json["ports"] if port["label"] == label)


def reported(run: Run, port: int, status: int, verdict: str) -> Any:  # noqa: ANN401
    """The report of a port, when the exit status and the verdict are these."""
    report = run.port(f"{port}/tcp")
    assert (run.status, report["verdict"]) == (status, verdict), run.stdout + run.stderr
    return report


def holders(run: Run, port: int | str) -> list[dict[str, Any]]:
    """The holders of a port, by its number or label; there is at least one."""
    found: list[dict[str, Any]] = run.port(port if isinstance(port, str) else f"{port}/tcp")[
        "holders"
    ]
    assert found
    return found


def holder(run: Run, port: int | str) -> dict[str, Any]:
    """The one holder of a port."""
    (found,) = holders(run, port)
    return found


def advised(
    run: Run, port: int, manager: str, name: str, policy: str = "", respawn: str = "yes"
) -> dict[str, Any]:
    """The one holder of a port that was left to this manager, which confirmed it."""
    assert run.status == 3, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "advised"
    found = holder(run, port)
    assert (found["kind"], found["respawn"], found["confidence"]) == (
        "service", respawn, "confirmed",
    )  # fmt: skip
    assert (found["manager"]["kind"], found["manager"]["name"]) == (manager, name)
    assert policy in {"", found["manager"]["policy"]}
    return found


def stopped(run: Run, port: int) -> dict[str, Any]:
    """The one holder of a port whose manager has stopped it."""
    assert run.status == 0, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "freed"
    found = holder(run, port)
    assert (found["step"]["kind"], found["outcome"]["result"]) == ("stop-service", "done")
    return found


def ultra(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    stdin: str | None = None,
    cwd: Path | None = None,
    timeout: float = 60.0,
) -> Run:
    """Runs `ultra-ports ARGUMENTS`; `prefix` is a command that runs it (`setpriv …`, `ip netns …`).

    A traceback on stderr fails the test: none ever reaches a user.
    """
    done = subprocess.run(
        [*prefix, COMMAND, *arguments],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        input="" if stdin is None else stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return _calm(done.returncode, done.stdout, done.stderr)


@cache
def may_run(prefix: tuple[str, ...]) -> bool:
    """Whether the command starts behind a prefix, as which user that may be; asked once."""
    return ultra("--version", prefix=prefix).status == 0


def ultra_each(
    lines: Iterable[Sequence[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> list[Run]:
    """As `ultra` without a stdin, for many command lines that end with a message.

    Each has a process of its own, forked from one that has loaded the command: that takes a fifth
    of the time.
    """
    asked = [list(words) for words in lines]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-P", Path(__file__).with_name("forked.py"), folder],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            timeout=60.0,
            check=True,
        )
        told = [
            [Path(folder, f"{number}.{name}").read_text("utf-8") for name in ("out", "err")]
            for number in range(len(asked))
        ]
    statuses = json.loads(done.stdout)
    return [_calm(status, *texts) for status, texts in zip(statuses, told, strict=True)]


def refused(
    cases: Iterable[tuple[Sequence[str], str]],
    *command: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> list[Run]:
    """Asserts that each of these is answered with status 2, and one line that says the text.

    `cases` are the words behind the `command`, and what is said of them.
    """
    known = list(cases)
    runs = ultra_each(([*command, *words] for words, _ in known), env=env, cwd=cwd)
    for (words, said), run in zip(known, runs, strict=True):
        assert (run.status, run.stdout) == (2, ""), (words, run)
        assert said in run.stderr, (words, run)
        assert len(run.stderr.splitlines()) == 1, (words, run)
    return runs


def _calm(status: int, stdout: str, stderr: str) -> Run:
    assert "Traceback" not in stderr, stderr
    assert "internal error" not in stderr, stderr
    return Run(status, stdout, stderr)


def resolve(port: int, *arguments: str, env: Mapping[str, str] | None = None) -> Run:
    """`resolve --json` of one port, with little patience."""
    return ultra("resolve", *FAST, "--json", *arguments, str(port), env=env)
