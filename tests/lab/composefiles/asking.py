"""Compose itself and our reader, asked the same: the runner, and what of an answer has to agree."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from resolver.compose.model import ComposeArguments
from resolver.errors import CommandFailedError
from resolver.model import Completed
from tests.lab.processes import unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from resolver.compose.model import ComposeService

VERSION = ("docker", "compose", "version", "--short")
CONFIG = ("docker", "compose", "config", "--format", "json")
ENVIRON = {"HOME": "/nonexistent", "PATH": os.environ["PATH"]}
"""What commands have beside the environment of a case: no variable of the corpus."""


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs commands where a case is, in its environment."""

    cwd: Path
    environ: Mapping[str, str]
    patience_seconds: float = 60.0

    def __call__(self, argv: Sequence[str], *, timeout_seconds: float, **_: object) -> Completed:
        """The protocol's; which version answers is asked once, and not by each of the cases."""
        if tuple(argv) == VERSION and "PATH" not in self.environ:
            return version()
        try:
            done = subprocess.run(
                list(argv),
                cwd=self.cwd,
                env={**ENVIRON, **self.environ},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=min(timeout_seconds, self.patience_seconds),
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CommandFailedError(str(error)) from error
        return Completed(done.returncode, done.stdout, done.stderr)


@cache
def version() -> Completed:
    """What the plug-in of this machine says; where there is none, the test cannot run."""
    try:
        done = subprocess.run(VERSION, capture_output=True, text=True, check=False)
    except OSError as error:
        unavailable(f"the docker command is missing: {error}")
    if done.returncode:
        unavailable("the compose plug-in is missing")
    return Completed(done.returncode, done.stdout, done.stderr)


def arguments(*words: str) -> ComposeArguments:
    """What `-f`, `--profile` and `-p` say."""
    pairs = list(zip(words[::2], words[1::2], strict=True))
    return ComposeArguments(
        tuple(value for option, value in pairs if option == "-f"),
        tuple(value for option, value in pairs if option == "--profile"),
        "".join(value for option, value in pairs if option == "-p"),
    )


def essence(services: Sequence[ComposeService]) -> dict[str, object]:
    """What has to agree."""
    return {
        each.name: (
            each.replicas,
            each.network_mode,
            Counter(
                (
                    entry.target,
                    entry.first,
                    entry.last,
                    entry.address,
                    entry.transport,
                    entry.trouble,
                )
                for entry in each.published
            ),
        )
        for each in services
    }
