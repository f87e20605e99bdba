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
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from resolver.errors import CommandFailedError, UntrustedError
from resolver.gather.containers import Details, PortField, Text, bindings_of, with_details
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
_UNIT = "PODMAN_SYSTEMD_UNIT"
_UP = {"running", "paused", "stopping"}  # define.ContainerStatus of libpod


class _PodmanPort(Struct, frozen=True):
    """`Ports` of `podman ps`: `range` ports from `host_port` on."""

    host_ip: Text = ""
    host_port: PortField = 0
    range: PortField = 1
    protocol: Text = "tcp"


class _PodmanRow(Struct, frozen=True, rename="pascal"):
    """An entry of `podman ps --pod --format json`; members of a pod have its infra one's ports."""

    id: Text
    names: tuple[Text, ...] | None = None
    image: Text = ""
    state: Text = ""
    ports: tuple[_PodmanPort, ...] | None = None
    pod: Text = ""
    pod_name: Text = ""
    is_infra: bool = False

    @property
    def name(self) -> str:
        return self.names[0] if self.names else self.id[:12]


class _Inspected(Details, frozen=True, kw_only=True, rename="pascal"):
    """An entry of `podman inspect --type container`."""

    id: Text


def with_podman(
    found: tuple[Container, ...],
    sockets: Sequence[Socket],
    processes: Iterable[Process],
    run: CommandRunner,
) -> tuple[tuple[Container, ...], tuple[EngineState, ...]]:
    """The containers that podman's command line adds to those of engines, and how it was asked.

    `sockets` are on the requested ports, `processes` their owners, and who is above them.
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
        f"{NAME} of {account.name}" if account else NAME,
        chosen=False,
        client=(*(account.prefix if account else ()), NAME),
        uid=process.uid,
        foreign=account is not None,
    )
    try:
        return tuple(_containers(questions, state, account, run)), state
    except CommandFailedError as error:
        why = str(error)
    except OSError:  # an address is none
        why = f"{NAME} gave an answer that is not understood"
    return (), replace(state, error=f"{state.endpoint}: {why}")


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
        OSError: an address is none.
    """
    listing = (NAME, "ps", "--all", "--pod", "--no-trunc", "--format", "json")
    listed = ask_json(run, listing, tuple[_PodmanRow, ...], account)
    rows = [each for each in listed if is_container_id(each.id)]
    ids = {each.id for each in questions}
    bindings = {each.binding for each in questions}
    wanted = [each for each in rows if each.id in ids or not bindings.isdisjoint(_published(each))]
    pods = {each.pod for each in wanted if each.pod and _published(each)}
    wanted = [each for each in rows if each in wanted or each.pod in pods]
    if not wanted:
        return
    inspect = (NAME, "inspect", "--type", "container", *(each.id for each in wanted))
    found = ask_json(run, inspect, tuple[_Inspected, ...], account)
    details: dict[str, Details] = {each.id: each for each in found}
    made = [
        (row, _container(row, details.get(row.id, Details()), bindings, state, account))
        for row in wanted
    ]
    yield from (container for row, container in made if row.pod not in pods)
    for pod in sorted(filter(is_container_id, pods)):
        yield _pod([each for each in made if each[0].pod == pod])


def _published(row: _PodmanRow) -> set[Binding]:
    """The host bindings of a container that runs; podman lists those of ended ones, too."""
    return {
        binding
        for port in (row.ports or () if row.state in _UP else ())
        for number in range(port.host_port, min(port.host_port + port.range, 1 << 16))
        if number
        for binding in bindings_of(port.host_ip, PortNumber(number), port.protocol)
    }


def _container(
    row: _PodmanRow,
    details: Details,
    bindings: Collection[Binding],
    state: EngineState,
    account: Account | None,
) -> Container:
    """One container. No address means all of both families: what has its socket here counts."""
    seen = {each.transport_port for each in bindings}
    published = (
        each for each in _published(row) if each in bindings or each.transport_port not in seen
    )
    labels = (details.config and details.config.labels) or {}
    # another user's say which unit of that user's it is, and not to whom of ours it belongs
    told = (each for each in labels.items() if each[0] == _UNIT or not state.foreign)
    made = Container(
        id=row.id,
        name=row.name,
        engine=state.endpoint,
        image=row.image,
        state=row.state,
        published=tuple(sorted(published)),
        labels=tuple(sorted(told)),
        client=state.client,
        uid=state.uid,
        foreign=state.foreign,
        account=account,
        by_command=True,
    )
    return with_details(made, details)


def _pod(members: Iterable[tuple[_PodmanRow, Container]]) -> Container:
    """A pod, which is stopped as a whole: its infra container publishes for its members."""
    members = sorted(members, key=lambda each: not each[0].is_infra)
    infra, first = members[0]
    others = [row.name for row, _ in members if not row.is_infra]
    policies = sorted({each.restart_policy for _, each in members} - {"no"})
    return replace(
        first,
        id=infra.pod,
        name=infra.pod_name,
        image=f"of {', '.join(others)}" if others else "with no other container",
        restart_policy=policies[0] if policies else "no",
        auto_remove=False,
        stop_timeout_seconds=max(each.stop_timeout_seconds for _, each in members),
        sharing=tuple(sorted(others)),
        client=(*first.client, "pod"),
        main_pid=0,
    )
