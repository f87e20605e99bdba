"""A server on the socket that systemd hands over as descriptor 3 (sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket

from tests.lab.servers.common import answer, hold_signals, next_signal


def main() -> None:
    hold_signals()
    answer(socket.socket(fileno=3))
    next_signal(None, "server")
    os._exit(0)


if __name__ == "__main__":
    main()
