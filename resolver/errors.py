"""The error tree, which is also the table of exit statuses.

UltraPortsError                 status, message, hint
├── UsageError            2     a PORT or an option that makes no sense
├── EngineError           5     an engine that did not answer, or answered nonsense
│   ├── EngineAbsentError       there is no engine at that endpoint
│   └── EngineNotPermittedError   this user may not talk to it
├── CommandFailedError    1     a manager's command could not be run or did not answer
│   └── UntrustedError          whose it is forbids to run, open or believe it
├── StateChangedError     1     a process is no longer the one that was planned for
├── ReservedError         1     a port is somebody else's, or there is none left to assign
├── PortNotPermittedError 4     this user may not bind the port
├── StoreError            1     the store of reservations cannot be reached or written
└── PlanChangedError      3     a stored plan is not what would be done now; nothing was touched
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.model import ExitStatus

if TYPE_CHECKING:
    from resolver.model import Report


class UltraPortsError(Exception):
    """Anything that this package raises on purpose: one line that says what and which.

    `hint` is the next command to run, or empty.
    """

    status: int = ExitStatus.HELD

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(UltraPortsError):
    """The request itself is wrong; nothing was touched."""

    status = ExitStatus.USAGE


class EngineError(UltraPortsError):
    """A container engine did not answer, or not in a way that can be understood."""

    status = ExitStatus.UNDECIDED


class EngineAbsentError(EngineError):
    """Nothing exists at the endpoint."""


class EngineNotPermittedError(EngineError):
    """The endpoint exists, and this user may not use it."""


class CommandFailedError(UltraPortsError):
    """A manager's own command is missing, failed, or did not answer in time."""


class TimedOutError(CommandFailedError):
    """A manager's own command did not answer in time."""


class UntrustedError(CommandFailedError):
    """A manager, a program or a file is in other hands than those that may be relied upon."""


class StateChangedError(UltraPortsError):
    """A process ended, or its PID now belongs to another one."""


class ReservedError(UltraPortsError):
    """A port belongs to somebody else's living lease, or none is left to assign."""


class PortNotPermittedError(UltraPortsError):
    """This user may not bind the port."""

    status = ExitStatus.HIDDEN


class StoreError(UltraPortsError):
    """The store of reservations cannot be reached or written; nothing was reserved by guessing."""


class PlanChangedError(UltraPortsError):
    """A stored plan does not fit this machine as it is now; `report` says so for each port."""

    status = ExitStatus.ADVISED

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message, "make a new plan: ultra-ports resolve --plan-out FILE PORT...")
        self.report = report
