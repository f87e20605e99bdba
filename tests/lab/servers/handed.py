"""A server that is given its sockets, and finds them as sd_listen_fds(3) tells it to.

It says what it was given, and which descriptors it has besides.
"""

from __future__ import annotations

import argparse
import os
import socket

from tests.lab.servers.common import answer, hold_signals, next_signal, ready

FIRST = 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log")
    options = parser.parse_args()
    hold_signals()
    descriptors = sorted(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
    listing = descriptors.pop()  # the one that listed them
    assert not os.path.exists(f"/proc/self/fd/{listing}")  # noqa: PTH110
    meant = os.environ["LISTEN_PID"] == str(os.getpid())
    names = os.environ["LISTEN_FDNAMES"].split(":")
    sockets = [socket.socket(fileno=FIRST + n) for n in range(int(os.environ["LISTEN_FDS"]))]
    for each in sockets:
        answer(each)
    ready(meant=meant, names=names, descriptors=descriptors)
    next_signal(options.log, "server")
    os._exit(0)


if __name__ == "__main__":
    main()
