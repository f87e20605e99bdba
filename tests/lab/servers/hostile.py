"""A server that answers everybody in one of many bad ways, or in a good one that is seldom seen."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import ssl
import threading
import time

from tests.lab.servers.common import Endpoint, bound, hold_signals, next_signal, ready

HEAD = b"HTTP/1.1 200 OK\r\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("manner", choices=sorted(MANNERS))
    parser.add_argument("port", type=int)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--certificate", help="PEM with its key: TLS is spoken")
    parser.add_argument("--log")
    options = parser.parse_args()
    hold_signals()
    server = bound(Endpoint("tcp", options.address, options.port))
    threading.Thread(target=_serve, args=(server, options), daemon=True).start()
    ready()
    next_signal(options.log, "server")
    os._exit(0)


def _serve(server: socket.socket, options: argparse.Namespace) -> None:
    context = None
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate)
    while True:
        connection, _ = server.accept()
        threading.Thread(
            target=_answer, args=(connection, options.manner, context), daemon=True
        ).start()


def _answer(connection: socket.socket, manner: str, context: ssl.SSLContext | None) -> None:
    with contextlib.suppress(OSError):
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True)
        with connection:
            MANNERS[manner](connection)


def mute(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def close(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def reset(connection: socket.socket) -> None:
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def drip(connection: socket.socket) -> None:
    """A byte now and then, and never the end of a line."""
    connection.sendall(b"HTTP/1.1 200")
    while True:
        connection.sendall(b" ")
        time.sleep(0.02)


def drip_header(connection: socket.socket) -> None:
    """A status, and then a header without an end."""
    connection.recv(4096)
    connection.sendall(HEAD)
    while True:
        connection.sendall(b"a")
        time.sleep(0.02)


def flood(connection: socket.socket) -> None:
    """One line that never ends."""
    while True:
        connection.sendall(b"x" * 65536)


def flood_header(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(HEAD)
    for _ in range(1 << 14):  # one GiB
        connection.sendall(b"a: " + b"x" * 65531 + b"\r\n")


def hints(connection: socket.socket) -> None:
    """Informational answers first (RFC 8297)."""
    connection.recv(4096)
    for _ in range(3):
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


def hints_for_ever(connection: socket.socket) -> None:
    connection.recv(4096)
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def redirect(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n")


def broken(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 503 \xff\xfe\x1b[31m\r\n\r\n")


def garbage(connection: socket.socket) -> None:
    """No protocol, no UTF-8, and what a terminal would obey."""
    connection.sendall(b"\xff\xfe\x1b]0;owned\x07\x1b[2J\xe2\x80\xae\x00" * 4 + b"\r\n")


def fine(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(HEAD + b"Content-Length: 2\r\nConnection: close\r\n\r\nok")


def loading(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b"-LOADING Redis is loading the dataset in memory\r\n")


MANNERS = {
    "mute": mute,
    "close": close,
    "reset": reset,
    "drip": drip,
    "drip-header": drip_header,
    "flood": flood,
    "flood-header": flood_header,
    "hints": hints,
    "hints-for-ever": hints_for_ever,
    "redirect": redirect,
    "broken": broken,
    "garbage": garbage,
    "fine": fine,
    "loading": loading,
}

if __name__ == "__main__":
    main()
