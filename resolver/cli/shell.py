"""`ultra-ports shell-init`: functions.sh, for `eval` in a shell's start-up file."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from resolver.cli.options import PRINT_EPILOG

EPILOG = PRINT_EPILOG

SOURCE = Path(__file__).with_name("functions.sh")
_FIRST = "\\unalias clear_port kill_api_ports 2>/dev/null || :"
"""zsh reads all that it evaluates before it runs any of it, and aliases are replaced in reading:
the functions come in an evaluation of their own, when there are no such aliases any more."""


def shell_init() -> int:
    """Examples:

    \b
      eval "$(ultra-ports shell-init)"          in ~/.bashrc or ~/.zshrc
      clear_port 8085
      kill_api_ports

    Prints shell functions for bash, zsh, dash and every other POSIX shell. They hand their
    arguments to `ultra-ports resolve`, return its exit status, and leave the shell as it is.
    """  # noqa: D415, D301 - a help text
    print(_FIRST)
    print("\\eval", quote(SOURCE.read_text(encoding="utf-8")))
    return 0
