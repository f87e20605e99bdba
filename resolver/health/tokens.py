"""The token by which `serve` shows everything: made at the start, or kept in a file."""

from __future__ import annotations

import hmac
import os
import re
import secrets
import stat
from typing import TYPE_CHECKING

from resolver.errors import UsageError
from resolver.project.reading import open_regular, user

if TYPE_CHECKING:
    from pathlib import Path

_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]{16,512}=*")  # b64token of RFC 6750, not to be guessed
_LONGEST = 1024  # bytes of the file
_HINT = "openssl rand -hex 32 makes a token, and chmod 600 keeps it"


def made() -> bytes:
    """A new token."""
    return secrets.token_urlsafe(32).encode("ascii")


def read(path: Path) -> bytes:
    """The token that a file holds.

    The file has to be this user's or root's: whoever else made it knows what is in it.

    Raises:
        UsageError: it cannot be read, is another user's, others may read it, or it has no token.
    """
    try:
        with open_regular(path) as file:
            seen = os.fstat(file.fileno())
            raw = file.read(_LONGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read the token file {path}: {why}") from error
    if seen.st_uid not in {0, os.geteuid()}:
        raise UsageError(f"the token file {path} belongs to {user(seen.st_uid)}", _HINT)
    if seen.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise UsageError(f"the token file {path} is open to other users", _HINT)
    token = raw.strip()
    if len(raw) > _LONGEST or not _TOKEN.fullmatch(token):
        raise UsageError(
            f"the token file {path} has no token: 16 to 512 of A-Z a-z 0-9 . _ ~ + / -", _HINT
        )
    return token


def is_right(token: bytes, given: bytes) -> bool:
    """Whether the token was given, told in constant time; where there is none, none is right."""
    return bool(token) and hmac.compare_digest(token, given)
