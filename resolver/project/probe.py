"""The grammar of `health` in a project file: a word, a path, a URL, a command, or a table."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from resolver.errors import UsageError
from resolver.project.checked import checked, shown
from resolver.project.model import Probe
from resolver.settings import LONGEST_SECONDS

_WORDS = frozenset({"tcp", "http", "https", "redis", "postgres"})
_HOST = r"[A-Za-z0-9._:-]+"  # hostname has no brackets
_PATH = r"/[!-~]*"
_EXAMPLES = 'such as "tcp", "/healthz", "https://localhost/healthz", "redis" or ["cmd", "arg"]'
_Status = Annotated[int, Meta(ge=100, le=599)]
_Seconds = Annotated[float, Meta(gt=0, le=LONGEST_SECONDS)]


class _Table(Struct, frozen=True):
    """`{ probe = …, status = 204, timeout = 1 }`."""

    probe: str | list[str]
    status: _Status | list[_Status] = []
    timeout: _Seconds = Probe("tcp").timeout_seconds


def read_probe(value: object, where: str = "health") -> Probe:
    """What stands behind `health =`, or `where` else.

    Raises:
        UsageError: it is no probe.
    """
    if not isinstance(value, dict):
        return _simple(checked(value, str | list[str], where), where)
    table: _Table = checked(value, _Table, where)
    probe = _simple(table.probe, f"{where}.probe")
    statuses = table.status if isinstance(table.status, list) else [table.status]
    return Probe(probe.kind, probe.host, probe.path, tuple(statuses), probe.command, table.timeout)


def _simple(value: Any, where: str) -> Probe:  # noqa: ANN401 - a text or a list of them
    if isinstance(value, list):
        if not any(value[:1]) or any("\0" in word for word in value):
            raise UsageError(f"{where}: a command is a list of words, not {shown(value)}")
        return Probe("command", command=tuple(value))
    if value in _WORDS:
        return Probe(value)
    if re.fullmatch(_PATH, value):
        return Probe("http", path=value)
    return _url(value, where)


def _url(text: str, where: str) -> Probe:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{where}: {shown(text)}: {error}") from error
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    right = parts.scheme in {"http", "https"} and "@" not in parts.netloc
    if not (right and re.fullmatch(_HOST, parts.hostname or "") and re.fullmatch(_PATH, path)):
        raise UsageError(f"{where}: {shown(text)} is no probe: {_EXAMPLES}")
    if port is not None:
        raise UsageError(f"{where}: {shown(text)} has a port: a probe asks the service's own")
    return Probe(parts.scheme, host=parts.hostname or "", path=path)
