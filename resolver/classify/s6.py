"""s6: services of an s6-supervise.

Suspected from an s6-supervise that is the nearest supervisor above, confirmed by `s6-svstat` on the
service directory (skarnet.org/software/s6: s6-supervise, s6-svstat, s6-svc). Whether a service is
started again is the state that is wanted: up, or down after `s6-svc -o`. The file `down` only says
what happens when s6-supervise starts.
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

RANK = 53

_PROGRAMS = frozenset({"s6-supervise"})
_STATUS = pattern(r"up \(pid (?P<pid>\d+)[^)]*\) \d+ seconds?(?P<words>.*)")
_WAIT = ("-wD", "-T", "60000")  # until it is really down, its finish script included; in ms


@value
class _State:
    """What `s6-svstat` says of a service that runs."""

    pid: int
    want_up: bool
    words: str


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A service that s6-supervise started, and may start again."""
    found = supervised(holder, snapshot, _PROGRAMS)
    if found is None:
        return None
    folder = service_directory(found, snapshot)
    control = tool("s6-svc", found.supervisor)
    if folder is None:
        why = "the service directory is hidden from this user"
        return classification(holder, found, _suspected(control, None, why))
    try:
        state = _ask(folder, found, run)
    except CommandFailedError as error:
        return classification(holder, found, _suspected(control, folder, str(error)))
    return classification(holder, found, _confirmed(control, folder, state))


def _ask(folder: str, found: Supervised, run: CommandRunner) -> _State:
    control = tool("s6-svstat", found.supervisor)
    answer = run((control, folder), timeout_seconds=COMMAND_TIMEOUT_SECONDS)
    state = status(answer.stdout)
    if state is None or state.pid != found.root.pid:
        said = (answer.stdout.strip() or answer.stderr.strip()).partition("\n")[0]
        raise CommandFailedError(f"s6-svstat said: {said}")
    return state


def status(said: str) -> _State | None:
    """`up (pid 7) 1 seconds, normally down, want down`, newer with `pgid`; None where not up."""
    match = _STATUS.match(said)
    if match is None:
        return None
    words = match["words"].strip(", ")
    return _State(int(match["pid"]), "want down" not in words, words)


def _confirmed(control: str, folder: str, state: _State) -> Service:
    evidence = [f"s6-svstat {folder}: pid {state.pid}, {state.words or 'want up'}"]
    if "normally down" in state.words:
        evidence.append(f"{folder}/down exists: it is not started at boot")
    return Service(
        manager="s6",
        name=service_name(folder),
        policy="want up" if state.want_up else "want down, as after `s6-svc -o`",
        respawn=Respawn.YES if state.want_up else Respawn.NO,
        confidence=Confidence.CONFIRMED,
        evidence=tuple(evidence),
        stop=(control, *_WAIT, "-d", folder),
        start=(control, "-u" if state.want_up else "-o", folder),
    )


def _suspected(control: str, folder: str | None, why: str) -> Service:
    return Service(
        manager="s6",
        name=service_name(folder),
        policy="restart policy unknown",
        respawn=Respawn.UNKNOWN,
        confidence=Confidence.SUSPECTED,
        evidence=("its nearest supervisor is an s6-supervise", f"s6 could not be asked: {why}"),
        stop=(control, *_WAIT, "-d", folder) if folder else (),
        start=(control, "-u", folder) if folder else (),
    )
