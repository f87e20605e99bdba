"""PING (https://redis.io/docs/latest/develop/reference/protocol-spec/)."""

from __future__ import annotations

import re

from resolver.health.probes.peer import Peer, ProbeResult, Question, misunderstood, quoted

# Refusals of a PING that was understood: it works, and this is nobody it knows
# (https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/)
_REFUSALS = (b"-NOAUTH ", b"-NOPERM ")


async def ask(peer: Peer, _question: Question) -> ProbeResult:
    """Good where it answers PONG, or wants a password first."""
    await peer.open()
    await peer.send(b"*1\r\n$4\r\nPING\r\n")
    answer, _ = await peer.line()
    if answer == b"+PONG":
        return ProbeResult(speaks=True, good=True, reason="PONG")
    if answer.startswith(_REFUSALS):
        return ProbeResult(speaks=True, good=True, reason="Redis answers, and wants a password")
    if re.match(rb"-[A-Z]+ ", answer):
        return ProbeResult(speaks=True, good=False, reason=f"Redis says {quoted(answer)}")
    return misunderstood(answer, "as Redis")
