"""The grammar of `health` in a project file: a word, a path, a URL, a command, or a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from resolver.errors import UsageError
from resolver.project.model import Probe
from resolver.settings import LONGEST_SECONDS

_WORDS = frozenset({"tcp", "http", "https", "redis", "postgres"})
_KEYS = frozenset({"probe", "status", "timeout"})
_EXAMPLES = 'such as "tcp", "/healthz", "https://localhost/healthz", "redis" or ["cmd", "arg"]'


def read_probe(value: object) -> Probe:
    """What stands behind `health =`.

    Raises:
        UsageError: it is no probe.
    """
    if isinstance(value, dict):
        return _table(value)
    if isinstance(value, list):
        if not value or not all(isinstance(word, str) for word in value):
            raise UsageError("a command is a list of words")
        return Probe("command", command=tuple(value))
    if not isinstance(value, str):
        raise UsageError(f"{value!a} is no probe: {_EXAMPLES}")
    if value in _WORDS:
        return Probe(value)
    if value.startswith("/"):
        return Probe("http", path=_path(value))
    return _url(value)


def _url(text: str) -> Probe:
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise UsageError(f"{text!a}: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
        raise UsageError(f"{text!a} is no probe: {_EXAMPLES}")
    path = parts.path or "/"
    return Probe(
        parts.scheme,
        host=parts.hostname,
        path=_path(f"{path}?{parts.query}" if parts.query else path),
    )


def _path(text: str) -> str:
    if not text.isascii() or any(mark <= " " or mark == "\x7f" for mark in text):
        raise UsageError(f"{text!a} is no path of a URL")
    return text


def _table(table: dict[str, Any]) -> Probe:
    for key in table:
        if key not in _KEYS:
            raise UsageError(f"there is no {key!a} (there are: {', '.join(sorted(_KEYS))})")
    probe = read_probe(table.get("probe"))
    status, timeout = table.get("status", []), table.get("timeout", probe.timeout_seconds)
    statuses = status if isinstance(status, list) else [status]
    if not all(type(each) is int and 100 <= each <= 599 for each in statuses):  # noqa: PLR2004 - HTTP
        raise UsageError(f"{status!a} is no HTTP status")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise UsageError(f"{timeout!a} is no time in seconds")
    if not 0 < timeout <= LONGEST_SECONDS:
        raise UsageError(f"{timeout!a} is no time in seconds")
    return replace(probe, statuses=tuple(statuses), timeout_seconds=float(timeout))
