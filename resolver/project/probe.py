"""The grammar of `health` in a project file: a word, a path, a URL, a command, or a table."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from resolver.errors import UsageError
from resolver.project.model import Probe
from resolver.settings import LONGEST_SECONDS

_WORDS = frozenset({"tcp", "http", "https", "redis", "postgres"})
_KEYS = frozenset({"probe", "status", "timeout"})
_HOST = re.compile(r"[A-Za-z0-9._:-]+", re.ASCII)  # hostname has no brackets
_LONGEST = 80  # characters of a quoted value
_EXAMPLES = 'such as "tcp", "/healthz", "https://localhost/healthz", "redis" or ["cmd", "arg"]'


def read_probe(value: object) -> Probe:
    """What stands behind `health =`.

    Raises:
        UsageError: it is no probe.
    """
    return _table(value) if isinstance(value, dict) else _simple(value)


def shown(value: object) -> str:
    """A value as a message quotes it: in ASCII, and cut."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # a number of 5000 digits, a table of 5000 levels
        return "such a value"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _simple(value: object) -> Probe:
    if isinstance(value, list):
        return Probe("command", command=_words(value))
    if not isinstance(value, str):
        raise UsageError(f"{shown(value)} is no probe: {_EXAMPLES}")
    if value in _WORDS:
        return Probe(value)
    if value.startswith("/"):
        return Probe("http", path=_path(value))
    return _url(value)


def _words(value: list[Any]) -> tuple[str, ...]:
    if not all(isinstance(word, str) and "\0" not in word for word in value) or not any(value[:1]):
        raise UsageError(f"a command is a list of words, not {shown(value)}")
    return tuple(value)


def _url(text: str) -> Probe:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{shown(text)}: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise UsageError(f"{shown(text)} is no probe: {_EXAMPLES}")
    if port is not None:
        raise UsageError(f"{shown(text)} has a port: a probe asks the service's own")
    if not _HOST.fullmatch(parts.hostname):
        raise UsageError(f"{shown(parts.hostname)} is no host of a URL")
    path = parts.path or "/"
    return Probe(
        parts.scheme,
        host=parts.hostname,
        path=_path(f"{path}?{parts.query}" if parts.query else path),
    )


def _path(text: str) -> str:
    if not text.isascii() or any(mark <= " " or mark == "\x7f" for mark in text):
        raise UsageError(f"{shown(text)} is no path of a URL")
    return text


def _table(table: dict[str, Any]) -> Probe:
    for key in table:
        if key not in _KEYS:
            raise UsageError(f"there is no {shown(key)} (there are: {', '.join(sorted(_KEYS))})")
    probe = _simple(table.get("probe"))
    status, timeout = table.get("status", []), table.get("timeout", probe.timeout_seconds)
    statuses = status if isinstance(status, list) else [status]
    if not all(type(each) is int and 100 <= each <= 599 for each in statuses):  # noqa: PLR2004 - HTTP
        raise UsageError(f"{shown(status)} is no HTTP status")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise UsageError(f"{shown(timeout)} is no time in seconds")
    if not 0 < timeout <= LONGEST_SECONDS:
        raise UsageError(f"{shown(timeout)} is no time in seconds")
    return replace(probe, statuses=tuple(statuses), timeout_seconds=float(timeout))
