"""A server that runs a command about its own port, many processes further down.

Only the server holds the port. It tells what came of the command, and lives on.
"""

from __future__ import annotations

import argparse
import os
import signal

from tests.lab.servers.common import Endpoint, answer, bound, ready


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log")
    parser.add_argument("port", type=int)
    parser.add_argument("levels", type=int)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    server = bound(Endpoint("tcp", "127.0.0.1", options.port))
    told, telling = os.pipe()
    child = os.fork()
    if child == 0:
        server.close()
        os.close(told)
        os.dup2(telling, 1)
        os._exit(_descend(options.levels - 1, options.command))
    os.close(telling)
    answer(server)
    with os.fdopen(told) as said:
        stdout = said.read()
    ready(status=_status(child), stdout=stdout)
    signal.pause()


def _descend(levels: int, command: list[str]) -> int:
    """The command's exit status, through so many more processes."""
    if levels == 0:
        os.execv(command[0], command)  # noqa: S606 - the test's own words, without a shell
    child = os.fork()
    return _status(child) if child else _descend(levels - 1, command)


def _status(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main()
