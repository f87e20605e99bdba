"""Runs managers' commands: no shell, no terminal, a deadline, bounded output, as the right user."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import subprocess
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from resolver.errors import CommandFailedError, TimedOutError
from resolver.host import trust
from resolver.model import Account, Completed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


# A question must not open a pager, ask for a password, or answer in another language.
_QUIET = {"LC_ALL": "C.UTF-8", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0", "PAGER": "cat"}
NOTHING_MORE: Mapping[str, str] = MappingProxyType({})
LONGEST_OUTPUT = 64 << 20  # bytes that a command may print, on both streams together


def run_command(
    argv: Sequence[str],
    *,
    timeout_seconds: float,
    account: Account | None = None,
    folder: str | None = None,
    environment: Mapping[str, str] = NOTHING_MORE,
) -> Completed:
    """Runs `argv` and returns its output, whatever its status.

    Args:
        argv: the program, which has to be one that `trust.program` finds, and its arguments.
        timeout_seconds: for everything.
        account: the user as whom it is run: without the caller's groups, environment and session.
        folder: the working directory; None is the caller's.
        environment: variables beside, and before, the caller's.

    Raises:
        TimedOutError: it did not end in time.
        CommandFailedError: it does not exist, may not be run, or printed more than anybody would
            read.
    """
    program = trust.program(argv[0])
    try:
        child = subprocess.Popen(
            [argv[0], *argv[1:]],
            executable=program,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **_as_caller(environment) if account is None else _as_user(account),
        )
    except (OSError, ValueError) as error:  # ValueError: a word that no command can be given
        why = error.strerror if isinstance(error, OSError) else "a word of it is no text"
        raise CommandFailedError(f"{argv[0]}: {why}") from error
    with child:
        try:
            stdout, stderr = _output(child, argv[0], timeout_seconds)
        except BaseException:
            if child.returncode is None:  # not reaped: the number is still its own
                _kill_group(child.pid)
            raise
    log = logging.getLogger(__name__)
    log.debug("%s: exit status %s", " ".join(argv), child.returncode)
    return Completed(
        child.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace")
    )


def _as_caller(environment: Mapping[str, str]) -> dict[str, Any]:
    """In a process group of its own, to be ended with its children, such as plug-ins of docker."""
    return {"env": {**os.environ, **environment, **_QUIET}, "process_group": 0}


def _as_user(account: Account) -> dict[str, Any]:
    """Nothing of the caller's gets there: neither groups nor variables, nor its terminal."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": account.home,
        "USER": account.name,
        "LANG": "C.UTF-8",
        **_QUIET,
        **dict(account.environment),
    }
    return {
        "env": environment,
        "user": account.uid,
        "group": account.gid,
        "extra_groups": [],
        "umask": 0o077,
        "start_new_session": True,
    }


def _output(
    child: subprocess.Popen[bytes], name: str, timeout_seconds: float
) -> tuple[bytes, bytes]:
    """What the command prints on each stream until it ends.

    Raises:
        TimedOutError: it takes too long.
        CommandFailedError: it prints too much.
    """
    deadline = time.monotonic() + timeout_seconds
    assert child.stdout is not None and child.stderr is not None  # noqa: S101, PT018 - both piped
    printed = {child.stdout.fileno(): bytearray(), child.stderr.fileno(): bytearray()}
    with selectors.DefaultSelector() as streams:
        for descriptor in printed:
            streams.register(descriptor, selectors.EVENT_READ)
        while streams.get_map():
            for key, _ in streams.select(_left(deadline, name, timeout_seconds)):
                block = os.read(key.fd, 1 << 16)
                printed[key.fd] += block
                if not block:
                    streams.unregister(key.fd)
            if sum(map(len, printed.values())) > LONGEST_OUTPUT:
                raise CommandFailedError(f"{name} printed more than {LONGEST_OUTPUT} bytes")
    try:
        child.wait(_left(deadline, name, timeout_seconds))
    except subprocess.TimeoutExpired as error:
        raise _late(name, timeout_seconds) from error
    stdout, stderr = printed.values()
    return bytes(stdout), bytes(stderr)


def _left(deadline: float, name: str, timeout_seconds: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise _late(name, timeout_seconds)
    return left


def _late(name: str, timeout_seconds: float) -> TimedOutError:
    return TimedOutError(f"{name} did not answer in {timeout_seconds:g} s")


def _kill_group(leader: int) -> None:
    """Ends a command that is not reaped yet, and what it has started in its group."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
