"""Containers of podman that no API socket tells of: from podman's own command line.

podman has no daemon, and serves no API unless it was told to. Its container's port is held by
`conmon`, whose command line has the container's id (conmon(8)), or by one of its user's forwarders;
on the host's network a child of `conmon` listens. Where one of them has a requested port and no
engine has explained it, its user's podman is asked: by root as that user, never the other way
round. Sources: podman-ps(1), podman-inspect(1), and what podman 5.8 prints.
"""

from __future__ import annotations

import functools
import os
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from resolver.errors import CommandFailedError, UntrustedError
from resolver.gather.containers import bindings_of
from resolver.host import trust
from resolver.host.engine_client import is_container_id
from resolver.host.podman import NAME
from resolver.managed import ask_json
from resolver.model import Binding, Container, EngineState, PortNumber, ProcessIdentity
from resolver.programs import known_as

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from resolver.model import Account, Process, Socket
    from resolver.protocols import CommandRunner

CONMON = "conmon"
_PROGRAMS = frozenset({CONMON, "rootlessport", "slirp4netns", "pasta", "pasta.avx2"})
_RUNTIME = "XDG_RUNTIME_DIR"
_UP = {"running", "paused", "stopping"}  # define.ContainerStatus of libpod

_Text = Annotated[str, Meta(max_length=4096)]
_PortField = Annotated[int, Meta(ge=0, le=65535)]


class _PodmanPort(Struct, frozen=True):
    """`Ports` of `podman ps`: `range` ports from `host_port` on."""

    host_ip: _Text = ""
    host_port: _PortField = 0
    range: _PortField = 1
    protocol: _Text = "tcp"


class _PodmanRow(Struct, frozen=True, rename="pascal"):
    """An entry of `podman ps --pod --format json`; members of a pod have its infra one's ports."""

    id: _Text
    names: tuple[_Text, ...] | None = None
    image: _Text = ""
    state: _Text = ""
    ports: tuple[_PodmanPort, ...] | None = None
    pod: _Text = ""
    pod_name: _Text = ""
    is_infra: bool = False

    @property
    def name(self) -> str:
        return self.names[0] if self.names else self.id[:12]


class _RestartPolicy(Struct, frozen=True, rename="pascal"):
    name: _Text = ""
    maximum_retry_count: int = 0


class _Host(Struct, frozen=True, rename="pascal"):
    restart_policy: _RestartPolicy = _RestartPolicy()
    auto_remove: bool = False
    network_mode: _Text = ""


class _PodmanConfig(Struct, frozen=True, rename="pascal"):
    stop_timeout: Annotated[int, Meta(ge=0)] = 10
    labels: dict[_Text, _Text] | None = None


class _PodmanState(Struct, frozen=True, rename="pascal"):
    pid: int = 0
    conmon_pid: int = 0


class _Details(Struct, frozen=True, rename="pascal"):
    """An entry of `podman inspect --type container`."""

    id: _Text
    state: _PodmanState = _PodmanState()
    config: _PodmanConfig = _PodmanConfig()
    host_config: _Host = _Host()


def with_podman(
    found: tuple[Container, ...],
    sockets: Sequence[Socket],
    processes: Iterable[Process],
    run: CommandRunner,
) -> tuple[tuple[Container, ...], tuple[EngineState, ...]]:
    """The containers that podman's command line adds to those of engines, and how it was asked.

    Args:
        found: what engines told.
        sockets: on the requested ports.
        processes: the owners of these, and who is above them.
        run: asks.
    """
    known = {each.identity: each for each in processes}
    waiting: dict[int | None, list[_PodmanQuestion]] = {}
    for question in _questions(sockets, known):
        if not question.is_answered(found):
            waiting.setdefault(question.process.uid, []).append(question)
    if not waiting or not trust.is_installed(NAME):
        return (), ()
    ask = functools.partial(run, folder="/")
    answers = [_answer(each, ask) for each in waiting.values()]
    return (
        tuple(container for containers, _ in answers for container in containers),
        tuple(state for _, state in answers),
    )


class _PodmanQuestion(Struct, frozen=True):
    """Whose container a socket is: that of `conmon` by its id, else the one that publishes it."""

    process: Process
    binding: Binding
    id: str

    def is_answered(self, found: Iterable[Container]) -> bool:
        return any(each.id == self.id or self.binding in each.published for each in found)


def _questions(
    sockets: Iterable[Socket], known: dict[ProcessIdentity, Process]
) -> Iterator[_PodmanQuestion]:
    for entry in sockets:
        for owner in filter(None, map(known.get, entry.owners)):
            above = (known.get(each) for each in owner.ancestors)
            line = (each for each in (owner, *above) if each and known_as(each, _PROGRAMS))
            if process := next(line, None):
                yield _PodmanQuestion(process, entry.binding, conmons_container(process)[0])


def conmons_container(process: Process) -> tuple[str, str]:
    """The id and the name of the container that a conmon watches over; empty where it is none.

    Its command line says both, as `-c ID -n NAME` (conmon(8)).
    """
    options = dict(pairwise(process.command)) if known_as(process, frozenset({CONMON})) else {}
    found = options.get("-c", "")
    return (found, options.get("-n", "")) if is_container_id(found) else ("", "")


def endpoint_of(account: Account | None) -> str:
    """What podman is called where it stands in the place of an engine's endpoint."""
    return f"{NAME} of {account.name}" if account else NAME


def _answer(
    questions: Sequence[_PodmanQuestion], run: CommandRunner
) -> tuple[tuple[Container, ...], EngineState]:
    """What one user's podman knows of the sockets."""
    process = questions[0].process
    try:
        account = _account(process)
    except UntrustedError as error:
        owner = trust.owner_account(process.uid)
        client = (*(owner.prefix if owner else ("sudo",)), NAME)
        name = trust.user_name(process.uid or 0)
        why = f"{NAME} of {name} was not asked: {error}"
        return (), EngineState(
            f"{NAME} of {name}",
            why,
            forbidden=True,
            chosen=False,
            client=client,
            asked=False,
            uid=process.uid,
        )
    state = EngineState(
        endpoint_of(account),
        chosen=False,
        client=(*(account.prefix if account else ()), NAME),
        uid=process.uid,
        foreign=account is not None,
    )
    try:
        return tuple(_containers(questions, state, account, run)), state
    except CommandFailedError as error:
        return (), replace(state, error=f"{state.endpoint}: {error}")


def _account(process: Process) -> Account | None:
    """As whom a process's podman is asked, with the runtime directory that it was started with.

    Raises:
        UntrustedError: it may not be asked from here; root's may not be by others: who asks for
            himself hears of his own containers.
    """
    found = trust.account_for(process, None)
    if found is None:
        if process.uid != os.geteuid():
            raise UntrustedError(f"{process} belongs to {trust.user_name(process.uid or 0)}")
        return None
    folder = process.variable(_RUNTIME) or f"/run/user/{found.uid}"
    return replace(found, environment=((_RUNTIME, folder),))


def _containers(
    questions: Sequence[_PodmanQuestion],
    state: EngineState,
    account: Account | None,
    run: CommandRunner,
) -> Iterator[Container]:
    """The containers of one user that the questions are about.

    Raises:
        CommandFailedError: podman did not answer in time, or not as it would.
    """
    listing = (NAME, "ps", "--all", "--pod", "--no-trunc", "--format", "json")
    rows = [
        each
        for each in ask_json(run, listing, tuple[_PodmanRow, ...], account)
        if is_container_id(each.id)
    ]
    ids = {each.id for each in questions}
    bindings = {each.binding for each in questions}
    wanted = [each for each in rows if each.id in ids or not bindings.isdisjoint(_published(each))]
    pods = {each.pod for each in wanted if each.pod and _published(each)}
    wanted = [each for each in rows if each in wanted or each.pod in pods]
    if not wanted:
        return
    inspect = (NAME, "inspect", "--type", "container", *(each.id for each in wanted))
    found = ask_json(run, inspect, tuple[_Details, ...], account)
    details = {each.id: each for each in found}
    pairs = [(row, details.get(row.id, _Details(row.id))) for row in wanted]
    for row, detail in pairs:
        if row.pod not in pods:
            yield _container(row, detail, bindings, state, account)
    for pod in sorted(filter(is_container_id, pods)):
        members = [each for each in pairs if each[0].pod == pod]
        yield _pod(members, bindings, state, account)


def _published(row: _PodmanRow) -> set[Binding]:
    """The host bindings of a container that runs; podman lists those of ended ones, too.

    Raises:
        CommandFailedError: an address is none.
    """
    try:
        return {
            binding
            for port in (row.ports or () if row.state in _UP else ())
            for number in range(port.host_port, min(port.host_port + port.range, 1 << 16))
            if number
            for binding in bindings_of(port.host_ip, PortNumber(number), port.protocol)
        }
    except OSError as error:
        raise CommandFailedError(f"{NAME} gave an answer that is not understood") from error


def _container(
    row: _PodmanRow,
    details: _Details,
    bindings: Collection[Binding],
    state: EngineState,
    account: Account | None,
) -> Container:
    """One container. No address means all of both families: what has its socket here counts."""
    seen = {(each.transport, each.port) for each in bindings}
    policy = details.host_config.restart_policy
    count = f":{policy.maximum_retry_count}" if policy.maximum_retry_count else ""
    return Container(
        id=row.id,
        name=row.name,
        engine=state.endpoint,
        image=row.image,
        state=row.state,
        published=tuple(
            sorted(
                each
                for each in _published(row)
                if each in bindings or (each.transport, each.port) not in seen
            )
        ),
        labels=tuple(sorted(_labels(details, state))),
        network_mode=details.host_config.network_mode,
        restart_policy=f"{policy.name or 'no'}{count}",
        auto_remove=details.host_config.auto_remove,
        stop_timeout_seconds=min(details.config.stop_timeout, 1_000_000),
        client=state.client,
        uid=state.uid,
        foreign=state.foreign,
        main_pid=details.state.pid,
        conmon_pid=details.state.conmon_pid,
        account=account,
        by_command=True,
    )


def _labels(details: _Details, state: EngineState) -> Iterator[tuple[str, str]]:
    """Another user's say which unit of that user's it is, and not to whom of ours it belongs."""
    for name, value in (details.config.labels or {}).items():
        if name == "PODMAN_SYSTEMD_UNIT" or not state.foreign:
            yield name, value


def _pod(
    members: Sequence[tuple[_PodmanRow, _Details]],
    bindings: Collection[Binding],
    state: EngineState,
    account: Account | None,
) -> Container:
    """A pod, which is stopped as a whole: its infra container publishes for its members."""
    members = sorted(members, key=lambda each: not each[0].is_infra)
    all_of_them = [_container(row, details, bindings, state, account) for row, details in members]
    infra = members[0][0]
    others = [row.name for row, _ in members if not row.is_infra]
    policies = sorted({each.restart_policy for each in all_of_them} - {"no"})
    return replace(
        all_of_them[0],
        id=infra.pod,
        name=infra.pod_name,
        image=f"of {', '.join(others)}" if others else "with no other container",
        restart_policy=policies[0] if policies else "no",
        auto_remove=False,
        stop_timeout_seconds=max(each.stop_timeout_seconds for each in all_of_them),
        sharing=tuple(sorted(others)),
        client=(*state.client, "pod"),
        main_pid=0,
    )
