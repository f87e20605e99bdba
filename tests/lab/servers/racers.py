"""Processes that all try to hold one port at the same moment; it tells how many got it."""

from __future__ import annotations

import os
import sys

from resolver.errors import UltraPortsError
from resolver.model import PortNumber, PortRequest
from resolver.reservations.holding.hold import Hold
from tests.lab.servers.common import ready

RACERS = 64


def main() -> None:
    request = PortRequest(PortNumber(int(sys.argv[-1])))
    start, starting = os.pipe()
    finish, finishing = os.pipe()
    told, telling = os.pipe()
    for _ in range(RACERS):
        if os.fork() == 0:
            os.close(starting)
            os.close(finishing)
            os.read(start, 1)
            try:
                with Hold.take(request):
                    os.write(telling, b"+")
                    os.read(finish, 1)
            except UltraPortsError:
                os.write(telling, b"-")
            finally:
                os._exit(0)
    os.close(finish)
    os.close(starting)
    answers = b""
    while len(answers) < RACERS:
        answers += os.read(told, RACERS)
    os.close(finishing)
    for _ in range(RACERS):
        os.wait()
    ready(holders=answers.count(b"+"), refused=answers.count(b"-"))


if __name__ == "__main__":
    main()
