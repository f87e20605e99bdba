"""Who runs a container: the client that follows it in the foreground, and who keeps that client up.

`docker run`, `docker start -a`, `docker compose up` and their kin stay as long as their container
does. A manager that runs one of them starts another container as soon as this one is stopped: so
the client is classified as if it held the port, and the container is its manager's. Read-only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.classify import classify_by_managers
from resolver.gather.processes import describe
from resolver.host import trust
from resolver.host.identity import identified
from resolver.host.processes import name_of, pids
from resolver.model import Command, Kind
from resolver.model.compose_labels import PROJECT, WORKING_DIR
from resolver.programs import options

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.model import Classification, Container, Process, Snapshot
    from resolver.protocols import CommandRunner

# Which clients talk to which engine, and what may send them to another one
_KINDS = {
    "docker": {"docker", "docker-compose"},
    "podman": {"podman", "podman-compose", "docker-compose"},
}
_CLIENTS = frozenset().union(*_KINDS.values())
_ENDPOINTS = ("-H", "--host", "-c", "--context", "--url", "--connection")
_VARIABLES = ("DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST", "CONTAINER_CONNECTION")
_DETACHED = {"-d", "--detach", "--wait"}
# Options of the clients themselves that have a value (docker(1), podman(1))
_VALUES = {*_ENDPOINTS, "--config", "-l", "--log-level", "--root"}


def with_clients(
    found: Sequence[Classification], snapshot: Snapshot, run: CommandRunner
) -> tuple[Classification, ...]:
    """The same; containers that a manager's client follows are that manager's services."""
    if not any(each.stops_container for each in found):
        return tuple(found)
    clients, known = _clients(snapshot)
    return tuple(
        _managed(each, clients, known, run) if each.stops_container else each for each in found
    )


def _clients(snapshot: Snapshot) -> tuple[list[Process], Snapshot]:
    """The clients of engines that run here, root's or the caller's own; and who is above them."""
    found = identified(pid for pid in pids() if name_of(pid) in _CLIENTS)
    described = {each.identity: each for each in (*snapshot.processes, *describe(found))}
    known = replace(snapshot, processes=tuple(described[each] for each in sorted(described)))
    mine = [described[each] for each in found if each in described]
    return [each for each in mine if each.uid in trust.trusted_users()], known


def _managed(
    each: Classification, clients: Iterable[Process], snapshot: Snapshot, run: CommandRunner
) -> Classification:
    container = each.holder.container
    client = next((e for e in clients if container and _follows(e, container)), None)
    if client is None or client.identity in snapshot.own:
        return each
    stand_in = replace(
        each.holder,
        container=None,
        processes=(client,),
        masters=(client.identity,),
        inodes=frozenset(),
    )
    above = classify_by_managers(stand_in, snapshot, run)
    says = f"{client} runs it in the foreground: {client.command_line}"
    if above is None:
        return replace(each, evidence=(*each.evidence, says), client=client)
    commands = above.commands
    if above.respawners:  # a loop: it is no manager, and is named
        commands = (Command(("kill", str(above.respawners[0].pid)), "ends what starts it again"),)
    return replace(
        above,
        holder=each.holder,
        kind=Kind.SERVICE,
        chain=(*each.chain, *above.chain),
        evidence=(*each.evidence, says, *above.evidence),
        reason=f"{each.reason}, run by {above.reason}",
        commands=commands,
        respawners=(),
        runner=None,
        client=client,
        restart="",
    )


def _reaches(client: Process, container: Container) -> bool:
    """Whether a client talks to the container's engine, as far as its program and options tell.

    Another engine may have a container of the same name.
    """
    kinds = [kind for kind in _KINDS if kind in container.client]
    if not any(client.name in _KINDS[kind] for kind in kinds):
        return False
    own = client.command[1 : len(client.command) - len(_words(client))]
    given = [_option(own, *_ENDPOINTS), *(client.variable(name) or "" for name in _VARIABLES)]
    return all(each in {"", "default", container.engine} for each in given)


def _follows(client: Process, container: Container) -> bool:
    """Whether a client's command line is about this very container, and waits for it."""
    if not _reaches(client, container):
        return False
    words = _words(client)
    verb = words[0] if words else ""
    if verb == "compose" or client.name in {"docker-compose", "podman-compose"}:
        return _composes(client, words, container)
    if verb == "container":
        verb, words = (words[1] if len(words) > 1 else ""), words[1:]
    if verb == "run":
        end = words.index(container.image) if container.image in words else len(words)
        return _DETACHED.isdisjoint(words[:end]) and _runs(words, container)
    if verb == "start":
        attached = any(word in {"-a", "--attach", "-ai", "-ia"} for word in words)
        return attached and _names(container).intersection(words[1:]) != set()
    return verb == "attach" and _names(container).intersection(words[1:]) != set()


def _words(client: Process) -> list[str]:
    """The command line from its verb on: without the program and its own options."""
    words = list(client.command[1:])
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word in _VALUES and words:
            words.pop(0)
    return words


def _names(container: Container) -> set[str]:
    return {container.name, container.id, container.id[:12]}


def _runs(words: Sequence[str], container: Container) -> bool:
    """By its name; without one, by its image and one of its ports."""
    name = _option(words, "--name")
    if name:
        return name == container.name
    ports = {str(each.port) for each in container.published}
    mappings = options(words, "-p", "--publish")
    given = {part for each in mappings for part in each.partition("/")[0].split(":")}
    on_host = container.network_mode == "host" and _option(words, "--network", "--net") == "host"
    return container.image in words and (on_host or not ports.isdisjoint(given))


def _option(words: Sequence[str], *names: str) -> str:
    return next(options(words, *names), "")


def _composes(client: Process, words: Sequence[str], container: Container) -> bool:
    """By the project's name, or by the directory that it is in."""
    project, folder = container.label(PROJECT), container.label(WORKING_DIR)
    if project is None or "up" not in words or not _DETACHED.isdisjoint(words):
        return False
    named = _option(words, "-p", "--project-name") or client.variable("COMPOSE_PROJECT_NAME")
    if named:
        return named == project
    return folder is not None and folder in {client.cwd, _option(words, "--project-directory")}
