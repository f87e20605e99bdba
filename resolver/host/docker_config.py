"""Docker's own configuration, read only where its author is this user or root.

`sudo -E` and `su` may leave another user's HOME: what is written there says nothing for root, and a
FIFO of that name would never end.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

_LARGEST = 1 << 20  # bytes of a file


def context_host() -> str | None:
    """The endpoint of the chosen docker context; None for the default one."""
    name = os.environ.get("DOCKER_CONTEXT") or _field(f"{folder()}/config.json", "currentContext")
    if not isinstance(name, str) or name in {"", "default"}:
        return None
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    meta = f"{folder()}/contexts/meta/{digest}/meta.json"
    host = _field(meta, "Endpoints", "docker", "Host")
    return host if isinstance(host, str) else None


def folder() -> Path:
    """Where the Docker CLI keeps this user's configuration, contexts and plug-ins."""
    return Path(os.environ.get("DOCKER_CONFIG") or f"{home()}/.docker").absolute()


def home() -> str:
    """This user's home; nowhere for one who has none (no HOME, and a uid without a name)."""
    found = os.path.expanduser("~")
    return found.rstrip("/") if found.startswith("/") else "/nonexistent"


def is_ours(file: str | int) -> bool:
    """Whether a file, by its path or descriptor, is this user's or root's, and `is_plain`."""
    return _owner(file) in {0, os.geteuid()}


def is_plain(path: str) -> bool:
    """Whether a file can be read to its end, whoever wrote it."""
    return _owner(path) is not None


def _owner(file: str | int) -> int | None:
    """Whose a regular file of a bounded length is; None for anything else."""
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None
    return found.st_uid if stat.S_ISREG(found.st_mode) and found.st_size <= _LARGEST else None


def _text_of(path: str) -> str:
    """The text of a file of ours; empty where there is none.

    It is looked at before it is opened, since opening alone can have effects, and afterwards, since
    it may be another one by then.
    """
    if not is_ours(path):
        return ""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY), "rb") as file:
            found = file.read(_LARGEST + 1) if is_ours(file.fileno()) else b""
    except (OSError, ValueError):
        return ""
    return found.decode(errors="replace") if len(found) <= _LARGEST else ""


def _field(path: str, *keys: str) -> object:
    """One value out of a JSON file; None where the file or the value is missing."""
    text = _text_of(path)
    if not text:
        return None
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
