"""The client of an engine, on both ways: whom it talks to, and how much it listens to."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest
import requests
from certifi import where

from resolver.errors import EngineAbsentError, EngineError, StateChangedError
from resolver.gather import containers
from resolver.host import docker_config
from resolver.host.engine_client import EngineClient
from resolver.host.engine_sdk import BoundedClient
from resolver.host.engine_socket import DeadlineSocket
from resolver.model import EngineState, PortNumber, PortRequest
from tests.lab.processes import unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ID = "0123456789abcdef" * 4
VERSION = b"Api-Version: 1.41"
NONSENSE = "does not answer as an engine"
OTHER = 65533  # nobody who runs tests


def said(body: bytes, *head: bytes, status: bytes = b"200 OK") -> Iterator[bytes]:
    length = b"Content-Length: %d" % len(body)
    yield b"\r\n".join((b"HTTP/1.1 " + status, length, *head, b"", b""))
    yield body


def without_end(text: bytes = b" " * (1 << 16)) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n\r\n["
    while True:
        yield text


def chunks_without_end() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"10000\r\n" + b" " * (1 << 16) + b"\r\n"


def drop_by_drop() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n\r\n["
    while True:
        time.sleep(0.1)
        yield b" "


def heads_without_end() -> Iterator[bytes]:
    while True:
        yield b"HTTP/1.1 100 Continue\r\n\r\n"
        time.sleep(0.01)


class Engine:
    """Says to every question what it was given to say; `asked` has the request lines.

    `proven` has for each of them whether the client showed a certificate.
    """

    def __init__(
        self, listener: socket.socket, endpoint: str, tls: ssl.SSLContext | None = None
    ) -> None:
        self.endpoint = endpoint
        self.asked: list[str] = []
        self.proven: list[bool] = []
        self.reply: Callable[[], Iterator[bytes]] = lambda: said(b"[]")
        self.pong: Callable[[], Iterator[bytes]] = lambda: said(b"OK", VERSION)
        self._listener = listener
        self._tls = tls

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            while line := lines.readline():
                while lines.readline().strip():
                    pass
                question = line.decode().strip()
                ping = "/_ping" in question
                if not ping:
                    self.asked.append(question)
                    shown = isinstance(connection, ssl.SSLSocket) and connection.getpeercert()
                    self.proven.append(bool(shown))
                for part in self.pong() if ping else self.reply():
                    connection.sendall(part)


@pytest.fixture(params=["unix", "tcp"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine behind a unix socket, which is read without the SDK, and one behind TCP."""
    if request.param == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "e.sock"))
        listener.listen()
        endpoint = f"unix://{tmp_path}/e.sock"
    else:
        listener, endpoint = listening_on_tcp()
    with served(listener, endpoint) as found:
        yield found


def listening_on_tcp() -> tuple[socket.socket, str]:
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, f"tcp://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def served(
    listener: socket.socket, endpoint: str, tls: ssl.SSLContext | None = None
) -> Iterator[Engine]:
    with listener:
        found = Engine(listener, endpoint, tls)
        thread = threading.Thread(target=found.serve)
        thread.start()
        yield found
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def bounded(engine: Engine, seconds: float = 20.0) -> BoundedClient:
    """The SDK's client, over either kind of endpoint."""
    return BoundedClient(engine.endpoint, seconds)


@pytest.mark.parametrize("reply", [without_end, chunks_without_end])
def test_an_answer_without_end_is_none(
    engine: Engine, reply: Callable[[], Iterator[bytes]]
) -> None:
    engine.reply = reply
    with EngineClient(engine.endpoint, 30) as client, pytest.raises(EngineError, match=NONSENSE):
        client.containers()
    with contextlib.closing(bounded(engine)) as api, pytest.raises(ValueError, match="too long"):
        api.containers()


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'[{"a":' * 100_000, b"[" + b"{}," * 2_000_000 + b"{}]", b"4", b"\xff"]
)
def test_what_cannot_be_decoded_is_no_answer(engine: Engine, body: bytes) -> None:
    engine.reply = lambda: said(body)
    with EngineClient(engine.endpoint, 30) as client, pytest.raises(EngineError, match=NONSENSE):
        client.containers()


@pytest.mark.parametrize("engine", ["unix"], indirect=True)
@pytest.mark.parametrize("reply", [drop_by_drop, heads_without_end])
def test_an_answer_that_never_comes_to_an_end_is_late(
    engine: Engine, reply: Callable[[], Iterator[bytes]]
) -> None:
    """Over TCP, the SDK's limit is for each read; what asks there is given up by its caller."""
    engine.reply = reply
    begun = time.monotonic()
    with EngineClient(engine.endpoint, 0.5) as client, pytest.raises(EngineError):
        client.containers()
    with (
        contextlib.closing(bounded(engine, 0.5)) as api,
        pytest.raises((requests.exceptions.Timeout, requests.exceptions.ConnectionError)),
    ):
        api.stop(ID, timeout=0)
    assert time.monotonic() - begun < 10


def in_chunks(*chunks: bytes) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for chunk in chunks:
        yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
    yield b"0\r\n\r\n"


def test_events_come_as_lines_however_they_are_cut(engine: Engine) -> None:
    told = (b'{"a": 1}\n{"a"', b": 2}\n4\n", b"[" * 100_000 + b"\nno\n", b'{"a": 3}\n{"a": 4')
    engine.reply = lambda: in_chunks(*told)
    with EngineClient(engine.endpoint, 30) as client:
        assert [*client.events({"type": ["container"]})] == [{}, {"a": 1}, {"a": 2}, {"a": 3}]


@pytest.mark.parametrize(
    "reply",
    [
        chunks_without_end,
        without_end,
        lambda: iter([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40000000\r\n["]),
        lambda: said(b"[]"),
        lambda: said(b"{}", status=b"500 Trouble"),
    ],
    ids=["chunks", "no chunks", "a huge chunk", "a list", "an error"],
)
def test_events_without_end_are_none(engine: Engine, reply: Callable[[], Iterator[bytes]]) -> None:
    engine.reply = reply
    with EngineClient(engine.endpoint, 30) as client, pytest.raises(EngineError):
        list(client.events({}))


def test_a_compressed_answer_is_none(engine: Engine) -> None:
    bomb = gzip.compress(b" " * (1 << 24))
    engine.reply = lambda: said(bomb, b"Content-Encoding: gzip")
    with contextlib.closing(bounded(engine)) as api, pytest.raises(ValueError, match="compressed"):
        api.containers()


def test_an_engine_leads_nowhere_else(engine: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(0.2)
        place = b"Location: http://127.0.0.1:%d/" % elsewhere.getsockname()[1]
        engine.reply = lambda: said(b"[]", place, status=b"307 Temporary Redirect")
        with contextlib.closing(bounded(engine)) as api:
            api.containers()
        with pytest.raises(TimeoutError):
            elsewhere.accept()
    assert len(engine.asked) == 1


def test_what_an_engine_says_is_cut_to_a_message(engine: Engine) -> None:
    body = json.dumps({"message": "a" * 1_000_000}).encode()
    engine.reply = lambda: said(body, status=b"500 Internal Server Error")
    with EngineClient(engine.endpoint, 30) as client:
        for ask in (client.containers, lambda: client.stop(ID, 0)):
            with pytest.raises(EngineError, match="aaa") as raised:
                ask()
            assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    "name", ["", "x", "../../containers/x", f"{ID}/../x", f"{ID}\n", ID.upper(), f"{ID}?a=b"]
)
def test_no_id_that_is_none_gets_into_a_request(engine: Engine, name: str) -> None:
    with EngineClient(engine.endpoint, 30) as client:
        for ask in (client.inspect, client.unpause, lambda name: client.stop(name, 0)):
            with pytest.raises(EngineError, match="is no container's id"):
                ask(name)
    assert engine.asked == []


def test_an_id_gets_there(engine: Engine) -> None:
    engine.reply = lambda: said(b'{"message": "no"}', status=b"404 Not Found")
    with EngineClient(engine.endpoint, 30) as client:
        for ask in (client.inspect, client.unpause, lambda name: client.stop(name, 0)):
            with pytest.raises(StateChangedError):
                ask(ID)
    assert len(engine.asked) == 3


@pytest.mark.parametrize("engine", ["unix"], indirect=True)
def test_nothing_is_sent_to_another_listener(engine: Engine) -> None:
    """A path can lead to another socket by now: to root's engine, for instance."""
    with EngineClient(engine.endpoint, 30, OTHER) as client:
        for ask in (client.containers, client.identity, lambda: client.stop(ID, 0)):
            with pytest.raises(EngineError, match=f"user {os.geteuid()} listens there"):
                ask()
    assert engine.asked == []
    with EngineClient(engine.endpoint, 30, os.geteuid()) as client:
        assert client.containers() == []
        client.stop(ID, 0)
    assert len(engine.asked) == 2


def test_an_engine_that_is_absent_is_absent_for_the_sdk_too(tmp_path: Path) -> None:
    with EngineClient(f"unix://{tmp_path}/none.sock", 5) as client:
        with pytest.raises(EngineAbsentError):
            client.containers()
        with pytest.raises(EngineAbsentError):
            client.stop(ID, 0)


@pytest.mark.parametrize("changes", [{"Id": "a"}, {"Names": [1]}, {"Ports": [{"PublicPort": 1.5}]}])
def test_a_list_of_what_are_no_containers_is_no_answer(
    engine: Engine, changes: dict[str, object]
) -> None:
    row = {"Id": ID, "Names": ["/a"], "Ports": [{"PublicPort": 80, "Type": "tcp"}], **changes}
    bodies = iter([json.dumps([row]).encode(), b"{}"])
    engine.reply = lambda: said(next(bodies))
    with pytest.raises(EngineError, match="what no engine says"):
        containers.list_containers(EngineState(engine.endpoint), 30, [PortRequest(PortNumber(80))])


@pytest.mark.parametrize(
    ("pong", "told"),
    [
        (lambda: said(b"<h1>no</h1>", status=b"403 Forbidden"), "GET /_ping with status 403"),
        (lambda: said(b"<h1>no</h1>"), NONSENSE),
        (lambda: said(b"OK", b"Api-Version: ../../x"), NONSENSE),
        (lambda: said(b"", VERSION, status=b"500 Internal Server Error"), ""),
    ],
    ids=["a narrow proxy", "another server", "a strange version", "an engine in trouble"],
)
def test_what_answers_the_question_for_its_version(
    engine: Engine, pong: Callable[[], Iterator[bytes]], told: str
) -> None:
    engine.pong = pong
    with EngineClient(engine.endpoint, 30) as client:
        if told:
            with pytest.raises(EngineError, match=told):
                client.containers()
        else:
            assert client.containers() == []


@pytest.mark.parametrize("foreign", [False, True])
def test_only_an_engine_of_ours_knows_our_own_container(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, *, foreign: bool
) -> None:
    monkeypatch.setattr(containers, "own_container_id", lambda: ID)
    engine.reply = lambda: said(json.dumps([{"Id": ID, "Names": ["/own"]}]).encode())
    state = EngineState(engine.endpoint, foreign=foreign)
    found = containers.list_containers(state, 30, [PortRequest(PortNumber(80))])
    assert [each.name for each in found] == ([] if foreign else ["own"])


def test_a_timeout_is_for_everything_that_follows() -> None:
    near, far = socket.socketpair()
    with far, DeadlineSocket(fileno=near.detach()) as connection:
        connection.settimeout(0.3)
        far.sendall(b"a")
        assert connection.recv(1) == b"a"
        time.sleep(0.3)
        far.sendall(b"b")
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(5)
        assert connection.recv(1) == b"b"
        connection.settimeout(0)
        with pytest.raises(BlockingIOError):
            connection.recv(1)


# --- Docker's configuration -----------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "config.json"


@pytest.mark.root
def test_a_strangers_configuration_adds_nothing_to_a_request(engine: Engine, config: Path) -> None:
    config.write_text('{"HttpHeaders": {"X-Evil": "1"}, "currentContext": "evil"}')
    assert bounded(engine)._general_configs  # noqa: SLF001 - what the SDK has made of it
    os.chown(config, OTHER, OTHER)
    assert not docker_config.is_ours(str(config))
    with contextlib.closing(bounded(engine)) as api:
        assert not api._general_configs  # noqa: SLF001


def test_a_configuration_without_end_is_not_opened(engine: Engine, config: Path) -> None:
    os.mkfifo(config)
    assert docker_config.command_line_engine() == docker_config.CommandLineEngine()
    with (
        EngineClient(engine.endpoint, 5) as client,
        pytest.raises(EngineError, match="no regular file"),
    ):
        client.stop(ID, 0)
    assert engine.asked == []


@pytest.mark.parametrize("text", ["[" * 100_000, '{"currentContext": "%s"}' % ("a" * (1 << 20))])
def test_a_configuration_that_is_absurd_chooses_nothing(config: Path, text: str) -> None:
    config.write_text(text)
    assert docker_config.command_line_engine() == docker_config.CommandLineEngine()


# --- a context with TLS ---------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate that is its own authority, for 127.0.0.1 and for a client, and its key."""
    openssl = shutil.which("openssl") or unavailable("openssl is missing")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    names = ("-subj", "/CN=lab", "-addext", "subjectAltName=IP:127.0.0.1")
    files = (tmp_path / "cert.crt", tmp_path / "cert.key")
    out = ("-out", str(files[0]), "-keyout", str(files[1]))
    argv = [openssl, "req", "-x509", *key, "-days", "1", *names, *out]
    subprocess.run(argv, check=True, capture_output=True)
    return files


@pytest.fixture
def tls_engine(certificate: tuple[Path, Path]) -> Iterator[Engine]:
    """An engine that answers whom its own certificate authority knows, as with `--tlsverify`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificate[0]))
    context.load_cert_chain(*certificate)
    context.verify_mode = ssl.CERT_OPTIONAL
    with served(*listening_on_tcp(), context) as engine:
        yield engine


def chosen(context: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has docker's own command line make a context, and chooses it."""
    docker = shutil.which("docker") or unavailable("docker is missing")
    argv = [docker, "context", "create", "lab", f"--docker={context}"]
    subprocess.run(argv, check=True, capture_output=True)
    monkeypatch.setenv("DOCKER_CONTEXT", "lab")
    assert docker_config.command_line_engine().error == ""


def asked_over_tls(engine: Engine) -> object:
    with EngineClient(engine.endpoint, 20) as client:
        return client.containers()


@pytest.mark.parametrize("files", ["ca={0},cert={0},key={1}", "ca={0}", "skip-tls-verify=true"])
def test_a_context_brings_its_certificates(
    tls_engine: Engine,
    certificate: tuple[Path, Path],
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: str,
) -> None:
    assert not config.exists()  # where the SDK finds no context
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", where())  # counts for who says nothing else
    chosen(f"host={tls_engine.endpoint},{files.format(*certificate)}", monkeypatch)
    assert asked_over_tls(tls_engine) == []
    assert tls_engine.proven == ["key" in files]


def test_an_engine_that_another_authority_vouches_for_is_not_asked(
    tls_engine: Engine, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = where()
    chosen(f"host={tls_engine.endpoint},ca={other}", monkeypatch)
    assert not config.exists()
    with pytest.raises(EngineError, match=NONSENSE):
        asked_over_tls(tls_engine)
    assert tls_engine.asked == []


@pytest.mark.root
def test_a_strangers_certificate_is_not_used(
    tls_engine: Engine,
    certificate: tuple[Path, Path],
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen(f"host={tls_engine.endpoint},ca={certificate[0]}", monkeypatch)
    (authority,) = config.parent.glob("contexts/tls/*/docker/ca.pem")
    os.chown(authority, OTHER, OTHER)
    with pytest.raises(EngineError, match="is no file of this user's or root's"):
        asked_over_tls(tls_engine)
    assert tls_engine.asked == []
