"""A StartupMessage, and what pg_isready(1) would make of the answer.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import struct

from resolver.health.probes.peer import Peer, ProbeResult, Question, failed, misunderstood, quoted

_PROTOCOL_3 = 196608
_LONGEST_MESSAGE = 30_000  # bytes of an ErrorResponse that libpq believes in
_HEAD = struct.Struct("!cI")
_NOT_NOW = b"57P03"  # cannot_connect_now: it is starting, or shutting down
_FULL = b"53300"  # too_many_connections
_NAME = "as PostgreSQL"


async def ask(peer: Peer, _question: Question) -> ProbeResult:
    """Good where it begins to authenticate.

    Any refusal but `cannot_connect_now` and `too_many_connections` comes from a server that works,
    such as one for a role that it does not know.
    """
    await peer.open()
    body = struct.pack("!I", _PROTOCOL_3) + b"user\0postgres\0database\0postgres\0\0"
    await peer.send(struct.pack("!I", len(body) + 4) + body)
    if not await peer.has(_HEAD.size):
        return misunderstood(peer.heard, _NAME)
    kind, length = _HEAD.unpack_from(peer.heard)
    if kind == b"R" and 8 <= length <= _LONGEST_MESSAGE:  # noqa: PLR2004 - Authentication…
        await peer.send(b"X\0\0\0\4")  # Terminate
        return ProbeResult(speaks=True, good=True, reason="PostgreSQL accepts connections")
    known = kind == b"E" and 5 <= length <= _LONGEST_MESSAGE  # noqa: PLR2004
    if not known or not await peer.has(1 + length):
        return misunderstood(peer.heard, _NAME)
    return _refused(bytes(peer.heard[_HEAD.size : 1 + length]))


def _refused(body: bytes) -> ProbeResult:
    """What an ErrorResponse comes to: fields of a letter and a text, with a zero byte behind."""
    fields = {field[:1]: field[1:] for field in body.split(b"\0") if field}
    code, message = fields.get(b"C", b""), quoted(fields.get(b"M", b""))
    if not code:
        return failed(f"answers, and not {_NAME}: {message}")
    good = code not in {_NOT_NOW, _FULL}
    says = "PostgreSQL answers" if good else "PostgreSQL takes no connection"
    return ProbeResult(speaks=True, good=good, reason=f"{says}: {message}")
