"""How steps ended, and what is true of each port in the end."""

from __future__ import annotations

from enum import IntEnum, StrEnum

from msgspec import Struct

from resolver.model.holders import Classification, Command, Holder
from resolver.model.machine import EngineState, Process, Scan
from resolver.model.plans import Step, Verdict
from resolver.model.ports import Binding, PortRequest


class ExitStatus(IntEnum):
    """The command's exit statuses; public API."""

    FREE = 0
    HELD = 1
    USAGE = 2
    ADVISED = 3
    HIDDEN = 4
    UNDECIDED = 5
    INTERRUPTED = 130


class Result(StrEnum):
    """How one step ended."""

    DONE = "done"
    GONE = "gone"
    NOT_PERMITTED = "not-permitted"
    FAILED = "failed"
    SKIPPED = "skipped"


class Outcome(Struct, frozen=True):
    """How a step ended, why, and what was done, in order, in words."""

    step: Step
    result: Result
    reason: str = ""
    actions: tuple[str, ...] = ()


class Proof(Struct, frozen=True):
    """What came of binding the requested addresses.

    `free` True: bound. `free` False: EADDRINUSE, on `where`. `free` None: this user or machine
    cannot tell, for the `reason`. `lingering`: it was bound with SO_REUSEADDR only, since these
    connections are still on the port; empty where it was bound plainly.
    """

    free: bool | None
    reason: str = ""
    where: str = ""
    lingering: str = ""


class HolderReport(Struct, frozen=True):
    """One holder from gathering to outcome; `outcome` is None where nothing was applied."""

    classification: Classification
    step: Step | None = None
    outcome: Outcome | None = None

    @property
    def holder(self) -> Holder:
        """Who it is."""
        return self.classification.holder


class Successor(Struct, frozen=True):
    """What came in the place of an ended process, and not on its port.

    `binding` is where it listens, None where it does not yet. `starter` is above both, or else its
    parent. `alike`: it has the same command line, but for numbers; `same`: to the letter.
    """

    process: Process
    binding: Binding | None
    starter: Process | None
    alike: bool
    same: bool

    def __str__(self) -> str:
        by = f", started by {self.starter}" if self.starter else ""
        if self.binding is None:
            return f"it was started again as {self.process}{by}, which serves no port so far"
        where = f"{self.binding.port}/{self.binding.transport}"
        if not self.alike:
            return f"{self.starter}, which had started it, then started {self.process} on {where}"
        verb = "came back" if self.same else "seems to have come back"
        return f"it {verb} on {where} as {self.process}{by}"


class NearestFree(Struct, frozen=True):
    """A free port beside one that stays held.

    `service` is what the held one is for, empty where no program is to be run on this one.
    """

    request: PortRequest
    service: str


class PortReport(Struct, frozen=True):
    """The end of the story for one requested port.

    `services` are the names by which it was asked for. `successors` came in the place of what was
    ended for it, on other ports: this one is free all the same.
    `details` are notes that matter to who wants to know more of a holder, or where there is none.
    `to_keep` takes it, and whatever else was asked for, out of the ephemeral range.
    `nearest_free` is set by whoever answers a conflict, and only where the port stays held.
    """

    request: PortRequest
    verdict: Verdict
    reason: str = ""
    holders: tuple[HolderReport, ...] = ()
    retaken_by: tuple[HolderReport, ...] = ()
    notes: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    successors: tuple[Successor, ...] = ()
    details: tuple[str, ...] = ()
    to_keep: Command | None = None
    nearest_free: NearestFree | None = None

    @property
    def title(self) -> str:
        """The request as people read it: `8085/tcp (api)` where it was asked for by name."""
        return (
            f"{self.request} ({', '.join(self.services)})" if self.services else f"{self.request}"
        )


class Report(Struct, frozen=True):
    """The answer to one call: a report for each requested port, in the order of the request."""

    command: str
    ports: tuple[PortReport, ...] = ()
    notes: tuple[str, ...] = ()
    verbose_notes: tuple[str, ...] = ()  # what only a verbose reader wants
    dry_run: bool = False
    exit_status: ExitStatus = ExitStatus.FREE
    engines: tuple[EngineState, ...] = ()  # how each one answered
    scan: Scan = Scan.COMPLETE


class Completed(Struct, frozen=True):
    """What a command gave back."""

    status: int
    stdout: str
    stderr: str
