"""Plan files on disk and on the standard streams: read with a limit, written as a whole or not."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from resolver.errors import UsageError
from resolver.host.paths import reach

STREAM = "-"
LONGEST = 8 << 20  # characters of a plan file that anybody could mean


def save(text: str, target: str) -> None:
    """Writes the text to a file, which is replaced in one step; `-` is stdout.

    Raises:
        UsageError: it cannot be written, or is a stranger's; an earlier file is untouched.
    """
    if target == STREAM:
        sys.stdout.write(text)
        return
    try:
        with reach(target) as place:
            found = place.status()
            if found is None or stat.S_ISREG(found.st_mode):
                place.replace(text.encode())
            else:  # /dev/stderr, a pipe: nothing to replace
                opened = place.open(os.O_WRONLY)
                os.set_blocking(opened, True)
                with os.fdopen(opened, "wb") as file:
                    file.write(text.encode())
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {target!a}: {_why(error)}") from error


def load(source: str) -> str:
    """The text of a file; `-` is stdin.

    Raises:
        UsageError: it cannot be read, or is no text.
    """
    try:
        if source == STREAM:
            text = sys.stdin.read(LONGEST + 1)
        else:
            with Path(source).open(encoding="utf-8") as file:
                text = file.read(LONGEST + 1)
    except UnicodeDecodeError as error:
        raise UsageError(f"{source!a} is not a plan file: it is not text") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {source!a}: {_why(error)}") from error
    if len(text) > LONGEST:
        raise UsageError(f"{source!a} is not a plan file: it is too long")
    return text


def _why(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
