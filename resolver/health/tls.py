"""TLS for `https` probes, loaded for these alone.

Certificates are not verified: a server that is asked on loopback mostly has one for another name,
or its own. Nothing secret is sent, and the answer counts for what it is: that TLS and HTTP are
spoken.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from resolver.health.line import Line, NotYetError
from resolver.health.talks import READ, WRITE, Wait

if TYPE_CHECKING:
    import socket
    from collections.abc import Generator


class SecureLine(Line):
    """A connected socket with TLS over it; errors of TLS are OSErrors."""

    def __init__(self, connection: socket.socket, host: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            self._secure = context.wrap_socket(
                connection, server_hostname=host or None, do_handshake_on_connect=False
            )
        except ValueError:  # a name that TLS cannot say (RFC 6066): without one, then
            self._secure = context.wrap_socket(connection, do_handshake_on_connect=False)
        super().__init__(self._secure)

    def shake_hands(self) -> Generator[Wait]:
        """Agrees on the keys.

        Raises:
            OSError: the peer does not speak TLS, or none that is spoken here.
        """
        while True:
            try:
                self._secure.do_handshake()
            except ssl.SSLWantReadError:
                yield Wait(self._secure.fileno(), READ)
            except ssl.SSLWantWriteError:
                yield Wait(self._secure.fileno(), WRITE)
            else:
                return

    def _send(self, data: memoryview) -> int:
        try:
            return self._secure.send(data)
        except ssl.SSLWantReadError:
            raise NotYetError(READ) from None
        except ssl.SSLWantWriteError:
            raise NotYetError(WRITE) from None

    def _receive(self, most: int) -> bytes:
        try:
            return self._secure.recv(most)
        except ssl.SSLWantReadError:
            raise NotYetError(READ) from None
        except ssl.SSLWantWriteError:
            raise NotYetError(WRITE) from None


def why(error: OSError) -> str:
    """What is wrong with TLS, in OpenSSL's own words, which are no peer's."""
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else type(error).__name__
