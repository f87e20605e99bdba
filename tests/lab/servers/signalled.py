"""Serves nothing, and keeps a log of every signal that it gets; SIGTERM ends it."""

from __future__ import annotations

import argparse
import os
import signal

from tests.lab.servers.common import ready, record

KEPT = {
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log")
    options = parser.parse_args()
    before = {each.name for each in KEPT if signal.getsignal(each) is signal.SIG_IGN}
    blocked = {signal.Signals(each).name for each in signal.pthread_sigmask(signal.SIG_BLOCK, KEPT)}
    ready(ignored=sorted(before), blocked=sorted(blocked), group=os.getpgrp())
    while True:
        info = signal.sigwaitinfo(KEPT)
        name = signal.Signals(info.si_signo).name
        record(options.log, "server", name, sender=info.si_pid)
        if name == "SIGTERM":
            os._exit(0)


if __name__ == "__main__":
    main()
