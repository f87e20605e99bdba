"""Plan files on disk and on the standard streams: read with a limit, written as a whole or not."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from resolver.errors import UsageError

STREAM = "-"
LONGEST = 8 << 20  # characters of a plan file that anybody could mean


def save(text: str, target: str) -> None:
    """Writes the text to a file, which is replaced in one step; `-` is stdout.

    Raises:
        UsageError: it cannot be written; an earlier file is untouched.
    """
    if target == STREAM:
        sys.stdout.write(text)
        return
    try:
        path = Path(target).resolve()
        if path.exists() and not path.is_file():  # /dev/stderr, a pipe: nothing to replace
            path.write_text(text, encoding="utf-8")
        else:
            _replace(path, text)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {target!a}: {_why(error)}") from error


def _replace(path: Path, text: str) -> None:
    """Writes a file beside it first, so that a full disk or a Ctrl-C leaves the earlier one."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


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
