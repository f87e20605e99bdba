"""Becomes another program: same PID, same parent, same terminal, and every signal is its own."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from resolver.errors import UltraPortsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as shells have it (POSIX, 2.8.2)
_IGNORED_BY_PYTHON = ("SIGPIPE", "SIGXFSZ")  # and by whatever inherits that


class NotStartedError(UltraPortsError):
    """The program could not be executed; the `status` is what a shell would return."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def execute(argv: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Replaces this process by the program, which is sought in the PATH of `environ`.

    It inherits the descriptors that are inheritable (PEP 446), the signal mask, and what is
    ignored, but for what Python ignores by itself. Our handlers end with us (execve(2)).

    Raises:
        NotStartedError: it does not exist, or cannot be executed; we are still here.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads it any more
            stream.flush()
    before = {
        number: signal.signal(number, signal.SIG_DFL)
        for name in _IGNORED_BY_PYTHON
        if (number := getattr(signal, name, None))
    }
    try:
        os.execvpe(argv[0], [*argv], environ)  # noqa: S606 - no shell is wanted
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotStartedError(f"{argv[0]!a}: command not found", NOT_FOUND) from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise NotStartedError(f"{argv[0]!a}: {why}", NOT_EXECUTABLE) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
