"""The flip hold: one process keeps a port in the kernel until its server takes it.

Bind `[::]:P` for both families *without* SO_REUSEADDR, do not listen, and then set SO_REUSEADDR on
that very socket. What follows was measured on Linux 6.18, and is held by the tests:

* Whoever binds the port plainly is refused (EADDRINUSE), and so is any other hold: of 64 processes
  that race for the same ports, no two get the same one.
* The kernel gives the port to nobody as an ephemeral one, by bind(2) of port 0 or by connect(2).
* A server that sets SO_REUSEADDR, as most do, binds and listens *under* the hold, on any address.
* The hold ends with the last process that has it, by whatever signal (`inherited` passes it on).

It guarantees nothing against a program that names this very port and sets SO_REUSEADDR: to the
kernel that is the server for which the port is kept. Among those who take leases, the lease tells
them apart. A server that binds plainly is refused under the hold like everybody: the hold has to
be released just before it starts.

For UDP there is no such thing: two sockets that set SO_REUSEADDR share a port, and only one of them
gets the datagrams (socket(7)). There the hold is a plain bind, to be released before the server
starts, and nothing is probed with SO_REUSEADDR. What BSD kernels, and so macOS, make of the flip is
not known here: `admits_servers` asks the kernel there, instead of believing this text.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Self

from resolver.errors import ReservedError
from resolver.gather import list_sockets
from resolver.leases.token_carriers import descriptor_name
from resolver.model import PortRequest, SocketState, Transport
from resolver.reservations.bind import bound, error_of, taken

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from resolver.leases.model import Lease

_CONNECTIONS = {SocketState.CONNECTED, SocketState.CLOSING}


class Hold:
    """A port that this process keeps; a context manager that lets it go at the end.

    `lingering` says what was left on the port of its last server, and is empty mostly.
    """

    def __init__(self, request: PortRequest, *kept: socket.socket, lingering: str = "") -> None:
        self.request = request
        self.lingering = lingering
        self._kept = kept

    @classmethod
    def take(cls, request: PortRequest, *, patient: bool = True) -> Self:
        """Takes the port for this process.

        Args:
            request: an address of None stands for every address, of IPv4 alone where the machine
                has no IPv6.
            patient: also takes a TCP port on which only connections of its last server are left
                (TIME_WAIT, up to 60 s), where the kernel shows that there is nothing else.

        Raises:
            ReservedError: somebody has the port.
            UsageError: the address is none of this machine's.
            PortNotPermittedError: this user may not bind it.
        """
        try:
            held = bound(request)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and patient and request.transport is Transport.TCP:
                return cls._beside_connections(request)
            raise error_of(request, error) from error
        if request.transport is Transport.TCP:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return cls(request, held)

    @classmethod
    def _beside_connections(cls, request: PortRequest) -> Self:
        """Binds with SO_REUSEADDR. Two could do so at once, so only one at a time may try."""
        if sys.platform != "linux":  # no names that end with their process
            raise taken(request)
        held = None
        try:
            gate = _gate(request)
        except OSError as error:
            said = f"{request} has closed connections on it, and somebody else tries to hold it"
            raise ReservedError(said) from error
        try:
            held = bound(request, reuse=True)
            if (left := _connections_beside(held, request)) is not None:
                return cls(request, held, gate, lingering=left)
        except OSError as error:
            _close(gate, held)
            raise error_of(request, error) from error
        _close(gate, held)
        raise taken(request)

    @property
    def socket(self) -> socket.socket:
        """The socket that is bound to the port, as long as it is held."""
        return self._kept[0]

    @property
    def admits_servers(self) -> bool:
        """Whether a server that sets SO_REUSEADDR can bind under this hold, as it can on Linux."""
        if self.request.transport is Transport.UDP or not self._kept:
            return False
        if sys.platform != "linux":
            try:
                bound(self.request, reuse=True).close()
            except OSError:
                return False
        return True

    def release(self) -> None:
        """Lets the port go; a second time changes nothing."""
        _close(*self._kept)
        self._kept = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _gate(request: PortRequest) -> socket.socket:
    """A lock that ends with its process: a name in the abstract namespace of unix(7).

    Like ports, such names belong to a network namespace.

    Raises:
        OSError: EADDRINUSE while another process has it.
    """
    gate = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        gate.bind(f"\0ultra-ports/hold/{request.port}/{request.transport}")
    except OSError:
        gate.close()
        raise
    return gate


def _connections_beside(held: socket.socket, request: PortRequest) -> str | None:
    """What connections are on the port beside our own socket; None where there is more than that.

    A kernel before 6.8 does not show sockets that are bound without listening, such as ours: then
    another hold could not be seen either, and the answer is None.
    """
    inode = os.fstat(held.fileno()).st_ino
    found = list_sockets([request], connections=True)
    others = [entry for entry in found if entry.inode != inode]
    if len(others) == len(found) or any(entry.state not in _CONNECTIONS for entry in others):
        return None
    if still_open := [entry.peer for entry in others if entry.state is SocketState.CONNECTED]:
        return f"open connections (to {still_open[0]}) are left on it"
    return "closed connections linger on it (TIME_WAIT, up to 60 s)" if others else ""


def _close(*sockets: socket.socket | None) -> None:
    for each in sockets:
        if each is not None:
            each.close()


FIRST = 3  # SD_LISTEN_FDS_START
_BEYOND_SCRIPTS = 10  # `exec 3>file` would close the hold; a shell puts its own out of the way


@contextmanager
def inherited(holds: Iterable[Hold], leases: Iterable[Lease] = ()) -> Iterator[None]:
    """Meanwhile, a program that this process becomes inherits the holds, and a mark of each lease.

    It knows nothing of a hold's descriptor, and whatever it starts inherits it, so that the port is
    kept until the last of them has closed it or ended (execve(2)).

    The mark is by what the lease knows who carries it on (`leases.token_carriers`).
    """
    with ExitStack() as stack:
        for each in holds:
            stack.callback(os.close, _inheritable(each.socket.fileno()))
        for lease in leases if sys.platform == "linux" else ():
            made = os.memfd_create(descriptor_name(lease))
            try:
                stack.callback(os.close, _inheritable(made))
            finally:
                os.close(made)
        yield


def _inheritable(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD, _BEYOND_SCRIPTS)


@contextmanager
def passed(sockets: Collection[socket.socket]) -> Iterator[None]:
    """Meanwhile, the sockets listen, and are where a program looks for those it was passed.

    By the protocol of sd_listen_fds(3): descriptors from 3 up; `listen_variables` tells of them.
    """
    end = FIRST + len(sockets)
    aside = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, end) for each in sockets]
    ours = {}
    for place in range(FIRST, end):
        with suppress(OSError):  # nothing is there
            ours[place] = fcntl.fcntl(place, fcntl.F_DUPFD_CLOEXEC, end)
    for each in sockets:
        if each.type == socket.SOCK_STREAM:
            each.listen(socket.SOMAXCONN)
    for place, descriptor in enumerate(aside, FIRST):
        os.dup2(descriptor, place)
    try:
        yield
    finally:
        for place, descriptor in ours.items():
            os.dup2(descriptor, place, inheritable=False)


def listen_variables(names: Collection[str]) -> dict[str, str]:
    """What tells this very process, whatever it becomes, of the sockets that it was passed."""
    return {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(names)),
        "LISTEN_FDNAMES": ":".join(names),
    }
