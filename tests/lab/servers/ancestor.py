"""A server that runs a command about its own port, through a shell, and tells what came of it."""

from __future__ import annotations

import argparse
import signal
import subprocess

from tests.lab.servers.common import Endpoint, answer, bound, ready


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log")
    parser.add_argument("port", type=int)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    answer(bound(Endpoint("tcp", "127.0.0.1", options.port)))
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@"; exit $?', "sh", *options.command],
        capture_output=True,
        text=True,
        check=False,
    )
    ready(status=done.returncode, stdout=done.stdout, stderr=done.stderr)
    signal.pause()


if __name__ == "__main__":
    main()
