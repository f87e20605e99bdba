"""Frees a port, and in the middle of it gives the PID of the holder to a newcomer.

Run it as the first process of a PID namespace, where /proc/sys/kernel/ns_last_pid decides which PID
comes next (proc_sys_kernel(5)). It tells what became of the newcomer, in one line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import NoReturn

from resolver import pipeline
from resolver.api import Silent
from resolver.gather import list_sockets
from resolver.host.runner import run_command
from resolver.model import Policy, PortNumber, PortRequest
from resolver.strategies import Effects
from tests.lab.servers.common import ENDING
from tests.lab.witness import Calls

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
HEARING_SECONDS = 0.3  # for a signal that was sent before, to be heard


class Stage:
    """The holder, and a newcomer in its place from the first call of `moment` after `plan`."""

    def __init__(self, port: int, plan: str, moment: str) -> None:
        self.port = port
        self.plan = plan
        self.moment = moment
        self.planned = False
        self.heard, self._hearing = os.pipe()
        self.holder = self._fork(ignores=False)
        self.start = _start_time(self.holder)
        self.newcomer = 0

    def _fork(self, *, ignores: bool) -> int:
        told, telling = os.pipe()
        child = os.fork()
        if child == 0:
            sys.setprofile(None)
            signal.pthread_sigmask(signal.SIG_BLOCK, ENDING if ignores else set())
            server = socket.create_server(("127.0.0.1", self.port))
            os.write(telling, b".")
            self._listen(server)
        os.read(told, 1)
        os.close(told)
        os.close(telling)
        return child

    def _listen(self, server: socket.socket) -> NoReturn:
        while True:
            info = signal.sigwaitinfo(ENDING)
            os.write(self._hearing, f"{signal.Signals(info.si_signo).name}\n".encode())
            server.close()
            os._exit(0)

    def hears(self, function: str, _count: int) -> None:
        """Of each call into the package."""
        self.planned |= function == self.plan
        if self.planned and function == self.moment and not self.newcomer:
            os.kill(self.holder, signal.SIGKILL)
            os.waitpid(self.holder, 0)
            LAST_PID.write_text(str(self.holder - 1), encoding="ascii")
            self.newcomer = self._fork(ignores=True)

    def lives(self) -> bool:
        """Whether the newcomer still runs."""
        return os.waitpid(self.newcomer, os.WNOHANG) == (0, 0)


def _start_time(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return int(stat.rpartition(")")[2].split()[19])


def main() -> None:
    port, force = int(sys.argv[1]), sys.argv[4] == "force"
    stage = Stage(port, plan=sys.argv[2], moment=sys.argv[3])
    time.sleep(0.05)  # start times are counted in hundredths of a second
    policy = Policy(grace_seconds=0.5, settle_seconds=0.1, rounds=1, use_docker=False, force=force)
    effects = Effects(time, run_command, Silent(), list_sockets)
    with Calls(stage.hears):
        report = pipeline.resolve([PortRequest(PortNumber(port))], policy, effects)
    time.sleep(HEARING_SECONDS)
    os.set_blocking(stage.heard, False)
    lives = stage.lives()
    facts = {
        "status": int(report.exit_status),
        "verdict": report.ports[0].verdict,
        "outcomes": [each.outcome.result for each in report.ports[0].holders if each.outcome],
        "reused": stage.newcomer == stage.holder,
        "another": lives and _start_time(stage.newcomer) != stage.start,
        "lives": lives,
        "heard": _heard(stage.heard),
    }
    print(json.dumps(facts), flush=True)


def _heard(pipe: int) -> str:
    try:
        return os.read(pipe, 4096).decode()
    except BlockingIOError:
        return ""


if __name__ == "__main__":
    main()
