"""runit: services of a runsv.

Suspected from a runsv that is the nearest supervisor above, confirmed by `sv status` with the path
of the service directory (runsv(8), sv(8)). Whether a service is started again is the state that was
asked for last: `sv up` or `sv once`. The file `down` only says what happens when runsv starts.
"""

from __future__ import annotations

from resolver.ancestry import (
    Service,
    Supervised,
    classification,
    service_directory,
    service_name,
    supervised,
    tool,
)
from resolver.errors import CommandFailedError
from resolver.model import Confidence, Respawn
from resolver.patterns import pattern
from resolver.settings import COMMAND_TIMEOUT_SECONDS
from resolver.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resolver.model import Classification, Holder, Snapshot
    from resolver.protocols import CommandRunner

RANK = 52

_PROGRAMS = frozenset({"runsv"})
_STATUS = pattern(r"run: (?P<name>.+?): \(pid (?P<pid>\d+)\) \d+s(?P<words>[^;\n]*)")
_WAIT_SECONDS = "60"  # for a service that takes its time to end; `sv stop` waits for it


@value
class _State:
    """What `sv status` says of one process of a service: the program's, or its log's."""

    folder: str
    pid: int
    want_up: bool
    words: str


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A service that runsv started, and may start again."""
    found = supervised(holder, snapshot, _PROGRAMS)
    if found is None:
        return None
    folder = service_directory(found, snapshot)
    control = tool("sv", found.supervisor)
    try:
        state = _ask(control, folder, found, run)
    except CommandFailedError as error:
        return classification(holder, found, _suspected(control, folder, str(error)))
    return classification(holder, found, _confirmed(control, state))


def _ask(control: str, folder: str | None, found: Supervised, run: CommandRunner) -> _State:
    """The state of the process that this runsv started: the service's own, or its log's."""
    if folder is None:
        raise CommandFailedError("the service directory is hidden from this user")
    answer = run((control, "status", folder), timeout_seconds=COMMAND_TIMEOUT_SECONDS)
    states = status(answer.stdout, folder)
    mine = next((state for state in states if state.pid == found.root.pid), None)
    if mine is None:
        said = (answer.stdout.strip() or answer.stderr.strip()).partition("\n")[0]
        raise CommandFailedError(f"sv status said: {said}")
    return mine


def status(said: str, folder: str) -> tuple[_State, ...]:
    """The processes that run: `run: DIR: (pid 7) 1s, want down; run: log: (pid 6) 1s`.

    runsv runs a log service of its own, which `sv` knows as `DIR/log`.
    """
    return tuple(
        _State(
            folder=f"{folder}/log" if match["name"] == "log" else folder,
            pid=int(match["pid"]),
            want_up="want down" not in match["words"],
            words=match["words"].strip(", "),
        )
        for match in _STATUS.finditer(said)
    )


def _confirmed(control: str, state: _State) -> Service:
    evidence = [f"sv status {state.folder}: pid {state.pid}, {state.words or 'want up'}"]
    if "normally down" in state.words:
        evidence.append(f"{state.folder}/down exists: it is not started at boot")
    return Service(
        manager="runit",
        name=service_name(state.folder),
        policy="want up" if state.want_up else "want down, as after `sv once`",
        respawn=Respawn.YES if state.want_up else Respawn.NO,
        confidence=Confidence.CONFIRMED,
        evidence=tuple(evidence),
        stop=(control, "-w", _WAIT_SECONDS, "stop", state.folder),
        start=(control, "up" if state.want_up else "once", state.folder),
    )


def _suspected(control: str, folder: str | None, why: str) -> Service:
    return Service(
        manager="runit",
        name=service_name(folder),
        policy="restart policy unknown",
        respawn=Respawn.UNKNOWN,
        confidence=Confidence.SUSPECTED,
        evidence=("its nearest supervisor is a runsv", f"runit could not be asked: {why}"),
        stop=(control, "-w", _WAIT_SECONDS, "stop", folder) if folder else (),
        start=(control, "up", folder) if folder else (),
    )
