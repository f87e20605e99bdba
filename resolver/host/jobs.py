"""Job control as the kernel shows it: process groups, and whose the terminal is (proc_pid_stat(5)).

What cannot be seen is 0: where there is no /proc, no shell is known to go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.host.files import text_of

if TYPE_CHECKING:
    from resolver.model import Pid

# proc_pid_stat(5) counts from 1, and two fields precede the last ")"
_STATE, _PGRP, _TPGID = 3 - 3, 5 - 3, 8 - 3


def has_ended(pid: Pid) -> bool:
    """Whether it is a zombie: it has ended, and its parent has not asked for its status yet."""
    return _fields(pid)[_STATE : _STATE + 1] == ["Z"]


def group(pid: Pid) -> int:
    """The process group that it is in; 0 where it is not seen."""
    return _field(pid, _PGRP)


def terminal_group(pid: Pid) -> int:
    """The foreground process group of its terminal; -1 where it has none, 0 where it is unseen."""
    return _field(pid, _TPGID)


def has_terminal(pid: Pid) -> bool:
    """Whether it is in the foreground of its terminal, as a shell is at its prompt."""
    return group(pid) == terminal_group(pid)


def _field(pid: Pid, number: int) -> int:
    fields = _fields(pid)
    return int(fields[number]) if len(fields) > number else 0


def _fields(pid: Pid) -> list[str]:
    return text_of(f"/proc/{pid}/stat").rpartition(")")[2].split()
