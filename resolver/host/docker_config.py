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
from typing import BinaryIO

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


def is_ours(path: str) -> bool:
    """Whether a file is this user's or root's, and can be read to its end."""
    try:
        return _is_ours(os.stat(path))
    except (OSError, ValueError):
        return False


def is_plain(path: str) -> bool:
    """Whether a file can be read to its end, whoever wrote it."""
    try:
        return _is_plain(os.stat(path))
    except (OSError, ValueError):
        return False


def _is_ours(found: os.stat_result) -> bool:
    return _is_plain(found) and found.st_uid in {0, os.geteuid()}


def _is_plain(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_size <= _LARGEST


def _text_of(path: str) -> str:
    """The text of a file of ours; empty where there is none.

    It is looked at before it is opened, since opening alone can have effects, and afterwards, since
    it may be another one by then.
    """
    if not is_ours(path):
        return ""
    try:
        with open(path, "rb", opener=_open) as file:
            return _whole(file)
    except (OSError, ValueError):
        return ""


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _whole(file: BinaryIO) -> str:
    found = file.read(_LARGEST + 1) if _is_ours(os.fstat(file.fileno())) else b""
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
