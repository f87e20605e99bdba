"""A connection that is asked one harmless question, and heard to a limit and no further.

Nothing that it says is believed; what is quoted of it is in ASCII, and cut.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    import socket

    from resolver.project.model import Probe

LONGEST = 64 << 10  # bytes that are read of one answer
_QUOTED = 60  # bytes of an answer
_LAST_WORDS_SECONDS = 0.2


class Question(Struct, frozen=True):
    """What one address is asked, within how many seconds from the attempt to connect.

    `probe` None: for a connection alone. `forwarded`: a forwarder may accept for a program.
    """

    address: str
    port: int
    probe: Probe | None
    seconds: float
    forwarded: bool = False


class ProbeResult(Struct, frozen=True):
    """What came of a question.

    `speaks` says whether the answer was in the protocol's own terms, and `good` whether it is the
    one that is wanted. `status` is HTTP's, 0 without.
    """

    speaks: bool
    good: bool
    reason: str
    status: int = 0


def failed(reason: str) -> ProbeResult:
    """Nothing that was wanted, and not in the protocol's terms."""
    return ProbeResult(speaks=False, good=False, reason=reason)


class TooLongError(Exception):
    """The peer has sent more than anybody wants to know."""


class Peer:
    """A connected socket; `heard` is all that was read, `silence` what is said where that is none.

    Its methods raise OSError where the peer has hung up.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.heard = bytearray()
        self.silence = "says nothing"
        self._connection = connection
        self._reader = asyncio.StreamReader()
        self._writer: asyncio.StreamWriter | None = None

    async def open(self, **tls: Any) -> None:  # noqa: ANN401 - as asyncio.open_connection has it
        """Begins to speak, with TLS where its options are given."""
        self._reader, self._writer = await asyncio.open_connection(
            sock=self._connection, limit=LONGEST, **tls
        )

    async def send(self, data: bytes) -> None:
        """Sends all of it."""
        if self._writer:
            self._writer.write(data)
            await self._writer.drain()

    async def more(self) -> bool:
        """Waits for more to be heard; False where the peer has nothing to add.

        Raises:
            TooLongError: that is enough.
        """
        if len(self.heard) >= LONGEST:
            raise TooLongError
        block = await self._reader.read(LONGEST - len(self.heard))
        self.heard += block
        return bool(block)

    async def line(self, at: int = 0) -> tuple[bytes, int]:
        """The line that begins there, without its end, and where the next one begins."""
        while (end := self.heard.find(b"\n", at)) < 0:
            if not await self.more():
                return bytes(self.heard[at:]).rstrip(b"\r"), len(self.heard)
        return bytes(self.heard[at:end]).rstrip(b"\r"), end + 1

    async def has(self, count: int) -> bool:
        """Whether so many bytes come."""
        while len(self.heard) < count:
            if not await self.more():
                return False
        return True

    async def hear_out(self) -> None:
        """Hears what is left of a short answer, so that no server is cut short."""
        with contextlib.suppress(OSError, TooLongError):
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                while await self.more():
                    pass

    def close(self) -> None:
        """Hangs up."""
        if self._writer:
            self._writer.transport.abort()


def quoted(answer: bytes | bytearray) -> str:
    """An answer as a message quotes it."""
    text = ascii(answer[:_QUOTED].decode("utf-8", "backslashreplace"))
    return f"{text}..." if len(answer) > _QUOTED else text


def misunderstood(answer: bytes | bytearray, protocol: str) -> ProbeResult:
    """What ends without an answer in the protocol's terms."""
    if not answer:
        return failed("hangs up without an answer")
    return failed(f"answers, and not {protocol}: {quoted(answer)}")
