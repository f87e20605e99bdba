"""A connection is all that is wanted; a forwarder makes one, and may hang up at once."""

from __future__ import annotations

import asyncio

from resolver.health.probes.peer import Peer, ProbeResult, Question, failed

_PATIENCE_SECONDS = 0.3  # for a forwarder to hang up, where nothing listens behind it


async def ask(peer: Peer, question: Question) -> ProbeResult:
    """Good, unless a forwarder hangs up."""
    accepts = ProbeResult(speaks=False, good=True, reason="accepts connections")
    if not question.forwarded:
        return accepts
    await peer.open()
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            greets = await peer.more()
    except TimeoutError:
        return accepts
    if greets:
        return ProbeResult(speaks=False, good=True, reason="accepts connections, and greets")
    return failed("accepts the connection, and ends it at once")
