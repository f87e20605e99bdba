"""The plan file: a plan that is kept, read, and applied later if nothing has changed. PURE.

It may come from a stranger, so nothing in it is ever run or signalled. It only says which ports
were asked for, what held them, and what would have been done; `apply` makes a plan of its own, and
goes on only where the two are equal. Words that nobody compares are left out of the file: it cannot
tell its reader anything else than it tells the tool.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from resolver import json_text, portspec
from resolver.errors import UsageError
from resolver.host.machine import Machine
from resolver.json_text import Envelope, JsonError, entry
from resolver.model import (
    Binding,
    Container,
    KillStep,
    Manager,
    Process,
    ProcessIdentity,
    StopContainerStep,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from resolver.model import Plan, Planned, Policy, PortRequest, Step

SCHEMA = "ultra-ports.plan/1"
_FAMILY = SCHEMA.partition("/")[0]
_WORDS = {"why", "undo", "commands", "lenient"}  # parts of a step that change nothing


class StoredProcess(Struct, frozen=True, order=True, forbid_unknown_fields=True):
    """A process by what identifies it."""

    pid: int
    start_time: int
    name: str
    uid: int | None

    def __str__(self) -> str:
        return f"{self.name} {self.pid}"


class StoredContainer(Struct, frozen=True, forbid_unknown_fields=True):
    """A container by what identifies it, and what would start it again."""

    id: str
    name: str
    engine: str
    restart_policy: str


class StoredManager(Struct, frozen=True, forbid_unknown_fields=True):
    """A manager, and the commands that would be run."""

    kind: str
    name: str
    policy: str
    stop: tuple[tuple[str, ...], ...]
    start: tuple[tuple[str, ...], ...]


class StoredHolder(Struct, frozen=True, forbid_unknown_fields=True):
    """All that makes a holder the same one again, and the step that was chosen for it.

    What is stopped through its engine is its container, whatever forwards to it meanwhile.
    `step` has every field of the step but its words: a new one is compared without further ado.
    """

    binding: str
    state: str
    kind: str
    respawn: str
    confidence: str
    processes: tuple[StoredProcess, ...]
    started_by: tuple[ProcessIdentity, ...]
    inodes: tuple[int, ...]
    container: StoredContainer | None
    manager: StoredManager | None
    hidden: str | None
    collateral: tuple[str, ...]
    step: dict[str, Any]

    @property
    def identity(self) -> object:
        """Who it is, whatever it does."""
        if self.container:
            return self.container.id
        return [(each.pid, each.start_time) for each in self.processes[:1]]

    def __str__(self) -> str:
        if self.container:
            return f"container {self.container.name}"
        return str(self.processes[0]) if self.processes else "something hidden"


class PlanOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The part of a policy that shapes a plan."""

    stop_services: bool
    force: bool
    accept_loss: bool
    only_mine: bool
    take: bool
    use_docker: bool


class PlanFile(Envelope, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=SCHEMA):
    """A plan in terms of identities; `requests` are in the spelling of `str(PortRequest)`."""

    machine: Machine
    requests: tuple[str, ...]
    options: PlanOptions
    holders: tuple[StoredHolder, ...]


class _Head(Struct):
    schema: str = ""


def describe(
    requests: Iterable[PortRequest], policy: Policy, plan: Plan, machine: Machine
) -> PlanFile:
    """A plan that was made just now; its holders are in a canonical order."""
    return PlanFile(
        machine=machine,
        requests=tuple(map(str, requests)),
        options=entry(PlanOptions, policy),
        holders=_ordered(map(_holder, plan.planned)),
    )


def policy_for(stored: PlanFile, policy: Policy) -> Policy:
    """The policy under which the plan was made; an engine is asked only where both allow it."""
    then = replace(policy, **asdict(stored.options))
    return replace(then, use_docker=then.use_docker and policy.use_docker)


def write(plan: PlanFile) -> str:
    """The text of the file: ASCII, indented, ends with a newline."""
    return json_text.encode(plan) + "\n"


def read(text: str) -> PlanFile:
    """The plan in a file's text.

    Raises:
        UsageError: it is damaged, of a newer version, or no plan at all.
    """
    try:
        schema = json_text.decode(text, _Head).schema
    except JsonError as error:
        raise UsageError(f"this is not a plan file: {error}") from None
    if schema.partition("/")[0] != _FAMILY:
        raise UsageError(f"this is not a plan file: its schema is not {SCHEMA}")
    if schema != SCHEMA:
        raise UsageError(f"this is a plan file of another version of ultra-ports: not {SCHEMA}")
    try:
        plan = json_text.decode(text, PlanFile)
        plan = replace(plan, holders=_ordered(plan.holders))
    except JsonError as error:
        raise UsageError(f"the plan file is damaged: {error}") from None
    except RecursionError:
        raise UsageError("the plan file is damaged: it is nested too deeply") from None
    requests_of(plan)
    return plan


def requests_of(plan: PlanFile) -> tuple[PortRequest, ...]:
    """The ports that the plan is for.

    Raises:
        UsageError: one of them is not in the very spelling that `write` uses.
    """
    return tuple(map(_request, plan.requests))


def _request(text: str) -> PortRequest:
    try:
        found = portspec.parse([text])
    except UsageError as error:
        raise UsageError(f"the plan file is damaged: {error}") from error
    if str(found[0]) != text:
        raise UsageError(f"the plan file is damaged: {text[:60]!a} is not one port")
    return found[0]


def _ordered(holders: Iterable[StoredHolder]) -> tuple[StoredHolder, ...]:
    return tuple(sorted(holders, key=lambda each: json_text.encode(each, indent=None)))


def _holder(planned: Planned) -> StoredHolder:
    judged = planned.classification
    holder = judged.holder
    by_engine = isinstance(planned.step, StopContainerStep)
    above = holder.master.ancestors if holder.master and judged.manager else ()
    return StoredHolder(
        binding=str(holder.binding),
        state="published" if by_engine else str(holder.state),
        kind=str(judged.kind),
        respawn=str(judged.respawn),
        confidence=str(judged.confidence),
        processes=() if by_engine else tuple(map(_process, holder.processes)),
        started_by=above,
        inodes=() if by_engine else tuple(sorted(holder.inodes)),
        container=entry(StoredContainer, holder.container) if holder.container else None,
        manager=entry(StoredManager, judged.manager) if judged.manager else None,
        hidden=holder.hidden,
        collateral=tuple(f"{lost.kind} {lost.degree}" for lost in judged.collateral),
        step=_step(planned.step),
    )


def _process(process: Process) -> StoredProcess:
    return entry(StoredProcess, process, start_time=process.identity.start_time)


def _step(step: Step) -> dict[str, Any]:
    names = [name for name in step.__struct_fields__ if name not in _WORDS]
    fields = {name: _part(getattr(step, name)) for name in names}
    return json_text.decode(json_text.encode(fields), dict[str, Any])  # as it will be read


def _part(part: object) -> object:
    """A field of a step, by what identifies it."""
    if isinstance(part, tuple | frozenset):
        return [_part(each) for each in (sorted(part) if isinstance(part, frozenset) else part)]
    return next((made(part) for kind, made in _PARTS.items() if isinstance(part, kind)), part)


_PARTS: dict[type, Callable[[Any], object]] = {
    Process: _process,
    Container: partial(entry, StoredContainer),
    Manager: partial(entry, StoredManager),
    Binding: str,
    KillStep: _step,
    StopContainerStep: _step,
}


def other_machine(stored: PlanFile, machine: Machine) -> str:
    """Why PIDs and ports of the plan mean nothing here; empty where they do."""
    if stored.machine.boot != machine.boot:
        return "it was made on another machine, or before this one was started"
    if stored.machine.pid_namespace != machine.pid_namespace:
        return "it was made in another PID namespace (another container, or the host)"
    if stored.machine != machine:
        return "it was made in another network namespace (another container, or the host)"
    return ""


def changes(stored: PlanFile, now: PlanFile) -> str:
    """Which holders changed, in one line; empty where a fresh plan is the stored one."""
    gone = _without(stored.holders, now.holders)
    new = _without(now.holders, stored.holders)
    return "; ".join(dict.fromkeys(_differences(gone, new)))


def _without(holders: Iterable[StoredHolder], others: Iterable[StoredHolder]) -> list[StoredHolder]:
    left = list(holders)
    for each in others:
        if each in left:
            left.remove(each)
    return left


def _differences(gone: list[StoredHolder], new: list[StoredHolder]) -> Iterator[str]:
    heirs = {each.binding: each for each in new}
    known = {each.binding for each in gone}
    for each in gone:
        heir = heirs.get(each.binding)
        if heir is None:
            yield f"{each} no longer holds {each.binding}"
        elif heir.identity == each.identity:
            fields = each.__struct_fields__
            parts = [name for name in fields if getattr(each, name) != getattr(heir, name)]
            said = ", ".join(name.replace("_", " ") for name in parts)
            yield f"{each} on {each.binding} has changed ({said})"
        else:
            other = "another process with that PID" if str(heir) == str(each) else str(heir)
            yield f"{each} no longer holds {each.binding}, {other} does"
    for each in new:
        if each.binding not in known:
            yield f"{each} holds {each.binding}, and is not in the plan"
