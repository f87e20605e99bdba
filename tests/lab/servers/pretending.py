"""A process that calls itself a manager, above a server that says it is managed: a stranger's lie.

`--name` is what it calls itself (proc_pid_comm(5)); `--variable NAME=TEXT` is put into the server's
environment. `--copy FILE` runs all of it by a copied interpreter, `--home DIR` makes of it what pm2
leaves there. Further arguments are there to be read in its command line, and mean nothing.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.lab.servers.common import hold_signals, next_signal


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log")
    parser.add_argument("--name", required=True)
    parser.add_argument("--variable", action="append", default=[])
    parser.add_argument("--folder", default="/")
    parser.add_argument("--copy")
    parser.add_argument("--home", type=Path)
    parser.add_argument("port")
    options, _ = parser.parse_known_args()
    if options.copy and sys.executable != options.copy:
        words = [options.copy, "-S", "-m", "tests.lab.servers.pretending", *sys.argv[1:]]
        os.execve(options.copy, words, {**os.environ, "PYTHONHOME": sys.base_prefix})  # noqa: S606
    Path("/proc/self/comm").write_text(options.name, encoding="ascii")
    os.chdir(options.folder)
    hold_signals()
    door = socket.socket(socket.AF_UNIX)
    if options.home:
        (options.home / "pm2.pid").write_text(str(os.getpid()), encoding="ascii")
        door.bind(str(options.home / "rpc.sock"))
        door.listen()
    variables = dict(text.partition("=")[::2] for text in options.variable)
    words = [sys.executable, "-S", "-m", "tests.lab.servers.answering", options.port]
    subprocess.Popen(words, env={**os.environ, **variables})  # it tells that it is ready
    next_signal(options.log, "pretender")


if __name__ == "__main__":
    main()
