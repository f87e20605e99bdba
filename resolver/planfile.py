"""The plan file: a plan that is kept, read, and applied later if nothing has changed. PURE.

It may come from a stranger, so nothing in it is ever run or signalled. It only says which ports
were asked for, what held them, and what would have been done; `apply` makes a plan of its own, and
goes on only where the two are equal. Words that nobody compares are left out of the file: it cannot
tell its reader anything else than it tells the tool.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from resolver import __version__, portspec
from resolver.errors import UsageError
from resolver.model import (
    Binding,
    Container,
    Manager,
    Process,
    StopContainerStep,
)
from resolver.shape import misfit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from resolver.model import Plan, Planned, Policy, PortRequest

    JsonObject = dict[str, Any]

SCHEMA = "ultra-ports.plan/1"
_FAMILY = SCHEMA.partition("/")[0]
_WORDS = {"why", "undo", "commands"}  # parts of a step that change nothing
_OPTIONS = ("stop_services", "force", "use_docker")
_PROCESS = {"pid": int, "start_time": int, "name": str, "uid": (int, None)}
_CONTAINER = {"id": str, "name": str, "engine": str, "restart_policy": str}
_MANAGER = {"kind": str, "name": str, "policy": str, "stop": [[str]], "start": [[str]]}
_HOLDER = {
    "binding": str,
    "state": str,
    "kind": str,
    "respawn": str,
    "confidence": str,
    "processes": [_PROCESS],
    "started_by": [{"pid": int, "start_time": int}],
    "inodes": [int],
    "container": (_CONTAINER, None),
    "manager": (_MANAGER, None),
    "hidden": (str, None),
    "step": dict,
}
_FILE = {
    "schema": str,
    "tool": {"name": str, "version": str},
    "machine": {"boot": str, "pid_namespace": str, "network_namespace": str},
    "requests": [str],
    "options": dict.fromkeys(_OPTIONS, bool),
    "holders": [_HOLDER],
}


class PlanFile(Struct, frozen=True):
    """A plan in terms of identities. `options` are those that shape a plan."""

    machine: Mapping[str, str]
    requests: tuple[PortRequest, ...]
    options: Mapping[str, bool]
    holders: tuple[JsonObject, ...]


def describe(
    requests: Iterable[PortRequest], policy: Policy, plan: Plan, machine: Mapping[str, str]
) -> PlanFile:
    """A plan that was made just now; its holders are in a canonical order."""
    options = {name: bool(getattr(policy, name)) for name in _OPTIONS}
    holders = sorted(map(_holder, plan.planned), key=_canonical)
    return PlanFile(dict(machine), tuple(requests), options, tuple(holders))


def policy_for(stored: PlanFile, policy: Policy) -> Policy:
    """The policy under which the plan was made; an engine is asked only where both allow it."""
    return replace(
        policy,
        stop_services=stored.options["stop_services"],
        force=stored.options["force"],
        use_docker=stored.options["use_docker"] and policy.use_docker,
    )


def write(plan: PlanFile) -> str:
    """The text of the file: ASCII, indented, ends with a newline."""
    document = {
        "schema": SCHEMA,
        "tool": {"name": "ultra-ports", "version": __version__},
        "machine": plan.machine,
        "requests": [str(request) for request in plan.requests],
        "options": plan.options,
        "holders": plan.holders,
    }
    return json.dumps(document, indent=2) + "\n"


def read(text: str) -> PlanFile:
    """The plan in a file's text.

    Raises:
        UsageError: it is damaged, of a newer version, or no plan at all.
    """
    document = _parsed(text)
    schema = document.get("schema")
    if not isinstance(schema, str) or schema.partition("/")[0] != _FAMILY:
        raise UsageError(f"this is not a plan file: its schema is not {SCHEMA}")
    if schema != SCHEMA:
        raise UsageError(f"this is a plan file of another version of ultra-ports: not {SCHEMA}")
    if wrong := misfit(document, _FILE):
        raise UsageError(f"the plan file is damaged: {wrong}")
    return PlanFile(
        document["machine"],
        tuple(map(_request, document["requests"])),
        document["options"],
        tuple(sorted(document["holders"], key=_canonical)),
    )


def _parsed(text: str) -> JsonObject:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError("this is not a plan file: it is not JSON") from None
    if not isinstance(document, dict):
        raise UsageError("this is not a plan file: it is not a JSON object")
    return document


def _request(text: str) -> PortRequest:
    """One port in the very spelling that `write` uses."""
    try:
        found = portspec.parse([text])
    except UsageError as error:
        raise UsageError(f"the plan file is damaged: {error}") from error
    if str(found[0]) != text:
        raise UsageError(f"the plan file is damaged: {text[:60]!a} is not one port")
    return found[0]


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _holder(planned: Planned) -> JsonObject:
    """All that makes a holder the same one again.

    What is stopped through its engine is its container, whatever forwards to it meanwhile.
    """
    judged = planned.classification
    holder = judged.holder
    by_engine = isinstance(planned.step, StopContainerStep)
    above = holder.master.ancestors if holder.master and judged.manager else ()
    return {
        "binding": str(holder.binding),
        "state": "published" if by_engine else str(holder.state),
        "kind": str(judged.kind),
        "respawn": str(judged.respawn),
        "confidence": str(judged.confidence),
        "processes": [] if by_engine else _plain(holder.processes),
        "started_by": _plain(above),
        "inodes": [] if by_engine else _plain(holder.inodes),
        "container": _plain(holder.container),
        "manager": _plain(judged.manager),
        "hidden": holder.hidden,
        "step": _plain(planned.step),
    }


def _plain(part: object) -> Any:  # noqa: ANN401 - JSON
    """A value by what identifies it; a step by everything but its words."""
    if isinstance(part, Process):
        return {**_plain(part.identity), "name": part.name, "uid": part.uid}
    if isinstance(part, Container):
        return {name: getattr(part, name) for name in _CONTAINER}
    if isinstance(part, Manager):
        return {name: _plain(getattr(part, name)) for name in _MANAGER}
    if isinstance(part, Struct) and not isinstance(part, Binding):
        return {
            name: _plain(getattr(part, name))
            for name in part.__struct_fields__
            if name not in _WORDS
        }
    return _plain_items(part)


def _plain_items(part: object) -> object:
    if isinstance(part, tuple):
        return [_plain(each) for each in part]
    if isinstance(part, frozenset):
        return sorted((_plain(each) for each in part), key=_canonical)
    return str(part) if isinstance(part, (Binding, str)) else part


def other_machine(stored: PlanFile, machine: Mapping[str, str]) -> str:
    """Why PIDs and ports of the plan mean nothing here; empty where they do."""
    if stored.machine["boot"] != machine["boot"]:
        return "it was made on another machine, or before this one was started"
    if stored.machine["pid_namespace"] != machine["pid_namespace"]:
        return "it was made in another PID namespace (another container, or the host)"
    if stored.machine != machine:
        return "it was made in another network namespace (another container, or the host)"
    return ""


def changes(stored: PlanFile, now: PlanFile) -> str:
    """Which holders changed, in one line; empty where a fresh plan is the stored one."""
    gone = _without(stored.holders, now.holders)
    new = _without(now.holders, stored.holders)
    return "; ".join(dict.fromkeys(_differences(gone, new)))


def _without(holders: Iterable[JsonObject], others: Iterable[JsonObject]) -> list[JsonObject]:
    left = Counter(map(_canonical, holders)) - Counter(map(_canonical, others))
    return [json.loads(text) for text in left.elements()]


def _differences(gone: list[JsonObject], new: list[JsonObject]) -> Iterator[str]:
    heirs = {each["binding"]: each for each in new}
    known = {each["binding"] for each in gone}
    for each in gone:
        name, where, heir = _name(each), each["binding"], heirs.get(each["binding"])
        if heir is None:
            yield f"{name} no longer holds {where}"
        elif _identity(heir) == _identity(each):
            parts = [key.replace("_", " ") for key in each if each[key] != heir[key]]
            yield f"{name} on {where} has changed ({', '.join(parts)})"
        else:
            other = "another process with that PID" if _name(heir) == name else _name(heir)
            yield f"{name} no longer holds {where}, {other} does"
    for each in new:
        if each["binding"] not in known:
            yield f"{_name(each)} holds {each['binding']}, and is not in the plan"


def _identity(holder: JsonObject) -> object:
    if holder["container"]:
        return holder["container"]["id"]
    return [(each["pid"], each["start_time"]) for each in holder["processes"][:1]]


def _name(holder: JsonObject) -> str:
    if holder["container"]:
        return f"container {holder['container']['name']}"
    if holder["processes"]:
        first = holder["processes"][0]
        return f"{first['name']} {first['pid']}"
    return "something hidden"
