"""A child that shares our process group and terminal: started, signalled along, and waited for.

Signals that concern it are blocked here and taken one by one, with their origin (sigwaitinfo(2)):

* What the terminal sends, as for Ctrl-C, Ctrl-Z or another window size, it sends to the whole
  group: the child has it already, and to send it again would make two of one.
* What somebody sends to this process by kill(2) is passed on, unless that was the child itself
  (`kill 0` of a shell), or it is ignored here (nohup(1)).
* When the child is stopped by job control, so is this process, so that the shell notices; SIGCONT
  wakes both.

Nothing here prints, or knows of ports.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Self

from resolver.errors import UltraPortsError
from resolver.reservations.holding.handover import arrange, listen_variables

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

NOT_FOUND, NOT_EXECUTABLE, BY_SIGNAL = 127, 126, 128  # as shells have it (POSIX, 2.8.2)
_PR_SET_PDEATHSIG = 1  # prctl(2)
_SI_KERNEL = 0x80  # sigaction(2), si_code

_PASSED_ON = {
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT),
}
_OF_THE_TERMINAL = {signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH}
_JOB_CONTROL = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
_TAKEN = {*_PASSED_ON, signal.SIGCHLD, signal.SIGALRM}


class NotStartedError(UltraPortsError):
    """The program could not be executed; `shell_status` is what a shell would return."""

    def __init__(self, message: str, shell_status: int) -> None:
        super().__init__(message)
        self.shell_status = shell_status


class Ended(NamedTuple):
    """How a child ended.

    `status` is its exit status, or 128 and the number of the signal that ended it. `by_itself`:
    neither by a signal nor after one was sent to it. `seconds` is how long it ran.
    """

    status: int
    by_itself: bool
    seconds: float


class Program(NamedTuple):
    """What to execute: it is sought in the PATH of `environ`.

    `passed` are sockets to be given to it as sd_listen_fds(3) has it, each under its name; without
    any, it inherits what this process inherited.
    """

    argv: Sequence[str]
    environ: Mapping[str, str]
    passed: Mapping[str, socket.socket] | None = None


class Child:
    """A running child, which only `wait` reaps. `say` is told in a line what went wrong beside."""

    def __init__(self, pid: int, say: Callable[[str], None]) -> None:
        self.pid = pid
        self._say = say
        self._began = time.monotonic()
        self._stopped = False
        self._changes = 0
        self._signalled = False

    @classmethod
    def start(cls, program: Program, signals: Signals, say: Callable[[str], None]) -> Self:
        """Starts a program, with the signals that were blocked and ignored before `signals`.

        On Linux it gets a SIGTERM when this process ends before it, be it by SIGKILL.

        Raises:
            NotStartedError: it does not exist, or cannot be executed.
        """
        prepare = _bound_to_parent()
        reading, writing = os.pipe()  # closed by a successful execve(2)
        pid = os.fork()
        if pid == 0:
            _become(program, writing, signals, prepare)
        os.close(writing)
        with open(reading, "rb") as trouble:  # noqa: PTH123 - a descriptor
            number = int(trouble.read() or b"0")
        if number:
            os.waitpid(pid, 0)
            raise _not_started(program.argv[0], number)
        return cls(pid, say)

    def wait(self, tick: Callable[[], float]) -> Ended:
        """Passes signals on until the child has ended, and reaps it.

        As the first process of a container, this one reaps orphans too.

        Args:
            tick: is called at once and returns after how many seconds to call it again; 0: never.
        """
        signal.setitimer(signal.ITIMER_REAL, tick())
        while True:
            number, by_terminal, sender = _next_signal()
            if number == signal.SIGALRM:
                signal.setitimer(signal.ITIMER_REAL, tick())
            elif number in {signal.SIGCHLD, signal.SIGCONT}:
                known = self._changes
                status = self._reap()
                if status is not None:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    return self._ended(status)
                if number == signal.SIGCONT and self._stopped and self._changes == known:
                    self._pass_on(number)  # it woke us alone
            else:
                self._got(number, by_terminal=by_terminal, sender=sender)

    def _ended(self, status: int) -> Ended:
        code = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - self._began
        if code < 0:
            return Ended(BY_SIGNAL - code, by_itself=False, seconds=seconds)
        return Ended(code, by_itself=not self._signalled, seconds=seconds)

    def _reap(self) -> int | None:
        """The wait status of the child where it has ended."""
        ended = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            if pid == self.pid:
                self._changes += 1
                if os.WIFSTOPPED(status):
                    self._has_stopped(os.WSTOPSIG(status))
                elif os.WIFCONTINUED(status):
                    self._stopped = False
                else:
                    ended = status

    def _has_stopped(self, number: int) -> None:
        """Stops as well where that was job control; a debugger's SIGSTOP is the child's alone."""
        self._stopped = True
        woken = signal.SIGCONT in signal.sigpending()  # both were stopped, and the child wakes now
        if number in _JOB_CONTROL and not woken:
            signal.pthread_sigmask(signal.SIG_BLOCK, {number})
            os.kill(os.getpid(), number)  # one with the terminal's, where that has not been taken
            before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
            if number in _TAKEN:  # somebody has woken us
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _got(self, number: signal.Signals, *, by_terminal: bool, sender: int) -> None:
        self._signalled |= number not in {signal.SIGWINCH, signal.SIGTSTP}
        if not by_terminal and sender != self.pid:
            self._pass_on(number)

    def _pass_on(self, number: signal.Signals) -> None:
        if signal.getsignal(number) is signal.SIG_IGN:
            return
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            self._say(f"{number.name} cannot be passed on to {self.pid}: it is another user's")


class Signals(contextlib.AbstractContextManager["Signals"]):
    """While this lasts, signals are kept for `Child.wait`; `before` is the mask until then."""

    def __enter__(self) -> Self:
        # SIGCHLD may have been ignored by whoever started us: then there would be nothing to reap
        self._chld = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._alrm = signal.signal(signal.SIGALRM, signal.SIG_DFL)
        self.before = signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN)
        return self

    def __exit__(self, *_: object) -> None:
        while (
            left := signal.sigpending() & _TAKEN
        ):  # they were meant for the child, which has ended
            signal.sigwait(left)
        signal.signal(signal.SIGCHLD, self._chld or signal.SIG_DFL)
        signal.signal(signal.SIGALRM, self._alrm or signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.before)


def _next_signal() -> tuple[signal.Signals, bool, int]:
    """The next signal, whether the terminal sent it, and the sender's PID or 0."""
    if sys.platform == "darwin":  # which has no sigwaitinfo(2): guess by who is in the foreground
        number = signal.Signals(signal.sigwait(_TAKEN))
        return number, number in _OF_THE_TERMINAL and _in_the_foreground(), 0
    found = signal.sigwaitinfo(_TAKEN)
    return signal.Signals(found.si_signo), found.si_code == _SI_KERNEL, found.si_pid


def _in_the_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)


def _bound_to_parent() -> Callable[[], None]:
    """What makes the kernel end a child with its parent; to be called in the child."""
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it ended before that
            os._exit(BY_SIGNAL + signal.SIGTERM)

    return bind


def _become(
    program: Program, trouble: int, signals: Signals, prepare: Callable[[], None]
) -> NoReturn:
    """In the child: becomes the program, or writes why not to the pipe `trouble`, and ends."""
    number = errno.EINVAL
    try:
        environ = program.environ
        for each in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
            signal.signal(each, signal.SIG_DFL)
        prepare()
        if program.passed is not None:
            trouble = arrange(program.passed.values(), trouble)
            environ = {**environ, **listen_variables(program.passed)}
        signal.pthread_sigmask(signal.SIG_SETMASK, signals.before)
        os.execvpe(program.argv[0], [*program.argv], environ)  # noqa: S606 - no shell is wanted
    except OSError as error:
        number = error.errno or number
    finally:
        os.write(trouble, str(number).encode())
        os._exit(NOT_FOUND)


def _not_started(program: str, number: int) -> NotStartedError:
    if number in {errno.ENOENT, errno.ENOTDIR}:
        return NotStartedError(f"{program!a}: command not found", NOT_FOUND)
    return NotStartedError(f"{program!a}: {os.strerror(number)}", NOT_EXECUTABLE)
