"""Job control as the kernel shows it: process groups, and whose the terminal is (proc_pid_stat(5)).

What cannot be seen is 0: where there is no /proc, no shell is known to go on.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from resolver.host.files import stat_field

if TYPE_CHECKING:
    from resolver.model import Pid

_STATE, _PGRP, _TTY, _TPGID = 3, 5, 7, 8  # proc_pid_stat(5)
_FIRST_PTS, _LAST_PTS = 136, 143  # UNIX98_PTY_SLAVE_MAJOR of linux/major.h


def has_ended(pid: Pid) -> bool:
    """Whether it is a zombie: it has ended, and its parent has not asked for its status yet."""
    return stat_field(pid, _STATE) == "Z"


def group(pid: Pid) -> int:
    """The process group that it is in; 0 where it is not seen."""
    return int(stat_field(pid, _PGRP) or 0)


def terminal_group(pid: Pid) -> int:
    """The foreground process group of its terminal; -1 where it has none, 0 where it is unseen."""
    return int(stat_field(pid, _TPGID) or 0)


def terminal(pid: Pid) -> int | None:
    """The number of the /dev/pts that controls it (pts(4)); None for any other, or none."""
    number = int(stat_field(pid, _TTY) or 0)
    major = os.major(number)
    is_pts = _FIRST_PTS <= major <= _LAST_PTS
    return (major - _FIRST_PTS) * 256 + os.minor(number) if is_pts else None


def has_terminal(pid: Pid) -> bool:
    """Whether it is in the foreground of its terminal, as a shell is at its prompt."""
    return group(pid) == terminal_group(pid)
