"""A request → a bound socket, and what an error of bind(2) means to the user."""

from __future__ import annotations

import errno
import socket

from resolver import verify
from resolver.errors import PortNotPermittedError, ReservedError, UltraPortsError, UsageError
from resolver.model import ANY_IPV4, ANY_IPV6, PortRequest


def bound(request: PortRequest, *, reuse: bool = False) -> socket.socket:
    """A socket on the requested endpoint, close-on-exec (PEP 446).

    An address of None is `[::]` for both families, and `0.0.0.0` where the machine has no IPv6.

    Args:
        request: one port.
        reuse: with SO_REUSEADDR.

    Raises:
        OSError: of socket(2) or bind(2).
    """
    if request.address is None and socket.has_ipv6:
        try:
            return verify.bound(request, socket.AF_INET6, ANY_IPV6, reuse=reuse)
        except OSError as error:
            if error.errno not in verify.NO_SUCH_FAMILY:
                raise
    address = request.address or ANY_IPV4
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return verify.bound(request, family, address, reuse=reuse)


def error_of(request: PortRequest, error: OSError) -> UltraPortsError:
    """The error to raise for one of bind(2)."""
    if error.errno == errno.EADDRINUSE:
        return taken(request)
    if error.errno in {errno.EACCES, errno.EPERM}:
        return PortNotPermittedError(
            f"this user may not bind port {request.port} (privileged)",
            "see ip_unprivileged_port_start in ip(7)",
        )
    if error.errno in verify.NO_SUCH_FAMILY:
        return UsageError(f"{request.address} is not an address of this machine")
    if error.errno == errno.EINVAL and ":" in (request.address or ""):
        return UsageError(f"{request.address} would need a zone (%eth0), which is not supported")
    return UltraPortsError(f"{request} cannot be bound: {error.strerror or error}")


def taken(request: PortRequest) -> ReservedError:
    """Somebody has the port."""
    return ReservedError(f"{request} is taken", f"ultra-ports who {request.typed}")
