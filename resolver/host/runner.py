"""Runs managers' commands: no shell, no terminal, a deadline."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from resolver import log
from resolver.errors import CommandFailedError
from resolver.model import Completed

if TYPE_CHECKING:
    from collections.abc import Sequence

# A question must not open a pager, ask for a password, or answer in another language.
_QUIET = {"LC_ALL": "C.UTF-8", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0", "PAGER": "cat"}


def run_command(argv: Sequence[str], *, timeout_seconds: float) -> Completed:
    """Runs `argv` and returns its output, whatever its status.

    Raises:
        CommandFailedError: it does not exist, may not be run, or did not end in time.
    """
    import subprocess  # noqa: PLC0415 - mostly nothing is run

    try:
        done = subprocess.run(
            list(argv),
            env={**os.environ, **_QUIET},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_seconds,
            check=False,
        )
    except OSError as error:
        raise CommandFailedError(f"{argv[0]}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise CommandFailedError(f"{argv[0]} did not answer in {timeout_seconds:g} s") from error
    log.debug("%s: exit status %s", " ".join(argv), done.returncode)
    return Completed(
        done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )
