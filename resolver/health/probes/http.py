"""One GET; its status is the answer (RFC 9112). Redirects are not followed.

Certificates are not verified: a server that is asked on loopback mostly has one for another name,
or its own. Nothing secret is sent, and the answer counts for what it is: that TLS and HTTP are
spoken.
"""

from __future__ import annotations

import re
import ssl

from resolver import __version__
from resolver.health.probes.peer import Peer, ProbeResult, Question, failed, misunderstood
from resolver.project.model import Probe

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: |\r?$)")
_HEALTHY = range(200, 400)
_STANDARD_PORTS = {"http": 80, "https": 443}


async def ask(peer: Peer, question: Question) -> ProbeResult:
    """Good where the status is one of the probe's, or from 200 to 399."""
    await peer.open()
    return await _get(peer, question.probe or Probe("http"), question.port)


async def ask_securely(peer: Peer, question: Question) -> ProbeResult:
    """The same over TLS."""
    probe = question.probe or Probe("https")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    silence, peer.silence = peer.silence, "says nothing of TLS"
    try:
        await peer.open(
            ssl=context,
            server_hostname=_server_name(context, probe.host),
            ssl_handshake_timeout=question.seconds + 1,  # the question's own deadline is sooner
        )
    except OSError as error:
        return failed(f"accepts the connection, and TLS fails: {_why(error)}")
    peer.silence = silence
    return await _get(peer, probe, question.port)


def _server_name(context: ssl.SSLContext, host: str) -> str:
    """The name for TLS; empty where TLS cannot say it (RFC 6066)."""
    try:
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=host or None)
    except ValueError:
        return ""
    return host


def _why(error: OSError) -> str:
    """What is wrong with TLS, in OpenSSL's own words, which are no peer's."""
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else type(error).__name__


async def _get(peer: Peer, probe: Probe, port: int) -> ProbeResult:
    name = f"[{probe.host}]" if ":" in probe.host else probe.host or "localhost"
    host = name if port == _STANDARD_PORTS[probe.kind] else f"{name}:{port}"
    await peer.send(
        f"GET {probe.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: ultra-ports/{__version__}\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n".encode("ascii")
    )
    line = await _status_line(peer)
    match = _STATUS.match(line)
    if match is None:
        return misunderstood(line, "in HTTP")
    status = int(match[1])
    if status in (probe.statuses or _HEALTHY):
        return ProbeResult(speaks=True, good=True, reason=f"HTTP {status}", status=status)
    wanted = ", ".join(map(str, probe.statuses)) or "200 to 399"
    reason = f"HTTP {status}; {wanted} is wanted"
    return ProbeResult(speaks=True, good=False, reason=reason, status=status)


async def _status_line(peer: Peer) -> bytes:
    """The status line of the answer proper; informational ones (1xx) come before it."""
    line, at = await peer.line()
    while (match := _STATUS.match(line)) and match[1].startswith(b"1"):
        while line:  # its fields, up to the blank line
            line, at = await peer.line(at)
        line, at = await peer.line(at)
    return line
