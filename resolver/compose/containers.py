"""The containers of a compose project, from the engine that compose talks to; read-only.

Asked through the docker command line, which finds that engine as compose does: `docker ps` and
`docker inspect` (docker(1)), with containers that do not run. Nothing here judges.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from resolver.errors import CommandFailedError
from resolver.model import Binding, PortNumber, Transport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.model import Completed
    from resolver.protocols import CommandRunner

# https://docs.docker.com/reference/compose-file/services/#labels; compose's pkg/api/labels.go
PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
WORKING_DIR = "com.docker.compose.project.working_dir"
ONE_OFF = "com.docker.compose.oneoff"
RUNNING = "running"


class Mapping(Struct, frozen=True):
    """A container's own port, and where the engine publishes it."""

    target: int
    outer: Binding


class Member(Struct, frozen=True):
    """One container of a project, running or not.

    `pid` is that of its first process as the engine sees it; 0 where it does not run. `one_off`
    marks what `docker compose run` started, which `up` leaves alone.
    """

    id: str
    name: str
    service: str
    working_dir: str = ""
    one_off: bool = False
    state: str = ""
    exit_code: int = 0
    pid: int = 0
    published: tuple[Mapping, ...] = ()


def members(
    project: str, client: tuple[str, ...], run: CommandRunner, timeout_seconds: float
) -> tuple[Member, ...]:
    """Every container of the project, sorted by name; empty where it has none.

    Args:
        project: its name.
        client: begins the commands that reach the engine.
        run: runs them.
        timeout_seconds: for each of the two questions.

    Raises:
        CommandFailedError: the command line is missing, or the engine did not answer, or nonsense.
    """
    wanted = f"label={PROJECT}={project}"
    question = (*client, "ps", "--all", "--quiet", "--no-trunc", "--filter", wanted)
    listed = run(question, timeout_seconds=timeout_seconds)
    if listed.status:
        raise CommandFailedError(_complaint("ps", listed))
    ids = listed.stdout.split()
    if not ids:
        return ()
    question = (*client, "inspect", "--type", "container", *ids)
    described = run(question, timeout_seconds=timeout_seconds)
    found = _parsed(described.stdout)
    if described.status and not found:  # one that went away in between is no reason to fail
        raise CommandFailedError(_complaint("inspect", described))
    return tuple(sorted(found, key=lambda each: (each.name, each.id)))


def _complaint(question: str, answer: Completed) -> str:
    said = answer.stderr.strip().splitlines() or [f"exit status {answer.status}"]
    return f"docker {question}: {said[-1]}"


def _parsed(text: str) -> list[Member]:
    try:
        return [described(each) for each in json.loads(text)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CommandFailedError(
            "docker inspect: the answer is none that an engine gives"
        ) from error


def described(row: dict[str, Any]) -> Member:
    """One entry of `docker inspect` (Engine API, ContainerInspect).

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is none that an engine gives.
    """
    labels, state = row["Config"].get("Labels") or {}, row["State"]
    return Member(
        id=row["Id"],
        name=str(row["Name"]).removeprefix("/"),
        service=labels.get(SERVICE, ""),
        working_dir=labels.get(WORKING_DIR, ""),
        one_off=labels.get(ONE_OFF, "").lower() == "true",
        state=state["Status"],
        exit_code=state["ExitCode"],
        pid=state["Pid"],
        published=tuple(sorted(_mappings(row["NetworkSettings"].get("Ports") or {}), key=_order)),
    )


def _mappings(ports: dict[str, Any]) -> Iterator[Mapping]:
    """`NetworkSettings.Ports`: `{"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}`."""
    for inner, outers in ports.items():
        target, _, transport = inner.partition("/")
        for outer in outers or () if transport in list(Transport) else ():
            port = PortNumber(int(outer["HostPort"]))
            yield Mapping(int(target), Binding(Transport(transport), outer["HostIp"], port))


def _order(mapping: Mapping) -> tuple[int, Binding]:
    return mapping.target, mapping.outer
