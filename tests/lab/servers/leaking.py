"""A server whose listener is inherited by what it starts, as that of many C programs is."""

from __future__ import annotations

import argparse
import os
import subprocess

from tests.lab.servers.common import Endpoint, answer, bound, hold_signals, next_signal, ready


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log")
    parser.add_argument("port", type=int)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    server = bound(Endpoint("tcp", "127.0.0.1", options.port))
    server.set_inheritable(True)
    subprocess.run(options.command, close_fds=False, check=True)
    hold_signals()
    answer(server)
    ready()
    next_signal(options.log, "server")
    os._exit(0)


if __name__ == "__main__":
    main()
