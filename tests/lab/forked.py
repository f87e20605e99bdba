"""Command lines of `ultra-ports`, each in a process of its own, forked from one that has loaded it.

    python -P tests/lab/forked.py FOLDER < LINES

LINES is a JSON list of lists of words. What line N writes is in FOLDER/N.out and FOLDER/N.err;
the statuses are printed as a JSON list.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from pathlib import Path

from resolver import cli
from resolver.cli.app import load
from resolver.cli.commands import COMMANDS


def start(words: list[str], output: str) -> int:
    """The PID of a new process; in that process it does not return."""
    if pid := os.fork():
        return pid
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{output}.{name}", os.O_WRONLY | os.O_CREAT, 0o600), number)
    sys.argv = ["ultra-ports", *words]
    try:
        cli.main()
    except SystemExit as end:  # at once: to take the interpreter down would be most of the time
        atexit._run_exitfuncs()  # noqa: SLF001 - coverage has one
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(end.code or 0))
    raise AssertionError("it ends by itself")


def main() -> None:
    """Loads the commands, and runs the lines one after the other."""
    folder, lines = Path(sys.argv[1]), json.load(sys.stdin)
    for name in {words[0] for words in lines if words} & set(COMMANDS):
        load(name)
    statuses = []
    for number, words in enumerate(lines):
        _, status = os.waitpid(start(words, str(folder / str(number))), 0)
        statuses.append(os.waitstatus_to_exitcode(status))
    print(json.dumps(statuses))


if __name__ == "__main__":
    main()
