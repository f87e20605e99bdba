"""Runs managers' commands: no shell, no terminal, a deadline."""

from __future__ import annotations

import os

from resolver import log
from resolver.errors import CommandFailedError
from resolver.model import Completed

TYPE_CHECKING = False
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
        child = subprocess.Popen(
            list(argv),
            env={**os.environ, **_QUIET},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,  # to be ended with its children, such as plug-ins of docker
        )
    except OSError as error:
        raise CommandFailedError(f"{argv[0]}: {error.strerror}") from error
    with child:
        try:
            stdout, stderr = child.communicate(timeout=timeout_seconds)
        except BaseException as error:
            if child.returncode is None:  # not reaped: the number is still its own
                _kill_group(child.pid)
            if isinstance(error, subprocess.TimeoutExpired):
                said = f"{argv[0]} did not answer in {timeout_seconds:g} s"
                raise CommandFailedError(said) from error
            raise
    log.debug("%s: exit status %s", " ".join(argv), child.returncode)
    return Completed(
        child.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace")
    )


def _kill_group(leader: int) -> None:
    """Ends a command that is not reaped yet, and what it has started in its group."""
    import signal  # noqa: PLC0415 - slow to load, and mostly a command ends by itself

    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
