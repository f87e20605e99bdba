"""One question over a unix socket: every form of answer, and every way to cut it off."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.errors import EngineError
from resolver.host.engine_http import get

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BODY = b'[{"Id": "a"}]\n'
SIZED = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKS = (
    b"5\r\n" + BODY[:5] + b"\r\n%x;name=value\r\n" % len(BODY[5:]) + BODY[5:] + b"\r\n0\r\n\r\n"
)
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS
UNTIL_CLOSED = HEAD + b"\r\n" + BODY


@contextlib.contextmanager
def answering(folder: Path, answer: bytes, *, closes: bool) -> Iterator[str]:
    """An engine that says this to the first who asks, and then hangs up or just stays."""
    path = str(folder / "engine.sock")
    over = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError), server.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(answer)
            if not closes:
                over.wait(60)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("answer", [SIZED, CHUNKED])
@pytest.mark.parametrize("closes", [True, False])
def test_an_answer_is_over_when_it_says_so(tmp_path: Path, answer: bytes, *, closes: bool) -> None:
    with answering(tmp_path, answer, closes=closes) as path:
        assert get(path, "/containers/json", 20) == (200, BODY)


def test_one_without_a_length_is_over_when_the_connection_is(tmp_path: Path) -> None:
    with answering(tmp_path, UNTIL_CLOSED, closes=True) as path:
        assert get(path, "/", 20) == (200, BODY)
    (tmp_path / "engine.sock").unlink()
    with (
        answering(tmp_path, UNTIL_CLOSED, closes=False) as path,
        pytest.raises(EngineError, match="did not answer in"),
    ):
        get(path, "/", 0.3)


@settings(max_examples=60)
@given(whole=st.sampled_from([SIZED, CHUNKED]), share=st.floats(0, 1, exclude_max=True))
def test_half_an_answer_is_none(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, share: float
) -> None:
    half = whole[: int((len(whole) - 2) * share)]  # the last line break is nobody's loss
    folder = tmp_path_factory.mktemp("cut")
    with answering(folder, half, closes=True) as path, pytest.raises(EngineError):
        get(path, "/", 20)
