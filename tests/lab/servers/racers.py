"""Processes that all try to hold one of some ports at the same moment; it tells which were got."""

from __future__ import annotations

import argparse
import os
import struct
from contextlib import suppress

from resolver.errors import UltraPortsError
from resolver.model import PortNumber, PortRequest
from resolver.reservations.hold import Hold
from tests.lab.servers.common import ready

RACERS = 64
_PORT = struct.Struct("=H")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("ports", type=int, nargs="+")
    parser.add_argument("--log")
    ports: list[int] = parser.parse_args().ports
    start, starting = os.pipe()
    finish, finishing = os.pipe()
    told, telling = os.pipe()
    for _ in range(RACERS):
        if os.fork() == 0:
            os.close(starting)
            os.close(finishing)
            os.read(start, 1)
            try:
                hold = _first(ports)
                os.write(telling, _PORT.pack(hold.request.port if hold else 0))
                os.read(finish, 1)
            finally:
                os._exit(0)
    os.close(finish)
    os.close(starting)
    answers = b""
    while len(answers) < RACERS * _PORT.size:
        answers += os.read(told, RACERS * _PORT.size)
    os.close(finishing)
    for _ in range(RACERS):
        os.wait()
    ready(held=[port for (port,) in _PORT.iter_unpack(answers) if port])


def _first(ports: list[int]) -> Hold | None:
    """A hold on the first of the ports that is to be had; all racers try them in one order."""
    for port in ports:
        with suppress(UltraPortsError):
            return Hold.take(PortRequest(PortNumber(port)))
    return None


if __name__ == "__main__":
    main()
