"""A daemon that is handed a listening socket by somebody else, and keeps it (unix(7), SCM_RIGHTS).

With `--send PATH` it is that somebody: it binds the port and hands it to the daemon at the path.
"""

from __future__ import annotations

import argparse
import os
import socket

from tests.lab.servers.common import Endpoint, bound, hold_signals, next_signal, ready


def send(path: str, port: int, log: str | None) -> None:
    hold_signals()
    server = bound(Endpoint("tcp", "127.0.0.1", port))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        socket.send_fds(client, [b"x"], [server.fileno()])
        client.recv(1)
    ready()
    next_signal(log, "sender")


def receive(path: str, log: str | None) -> None:
    hold_signals()
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)
        os.chmod(path, 0o777)  # noqa: PTH101, S103 - strangers are the point
        door.listen()
        ready()
        connection, _ = door.accept()
    kept = socket.recv_fds(connection, 1, 1)
    connection.sendall(b"x")
    next_signal(log, "daemon")
    assert kept


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log")
    parser.add_argument("--send", type=int, metavar="PORT")
    parser.add_argument("path")
    options = parser.parse_args()
    if options.send:
        send(options.path, options.send, options.log)
    else:
        receive(options.path, options.log)


if __name__ == "__main__":
    main()
