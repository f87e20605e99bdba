"""Whose client follows a container: by its engine, not by a name that two engines may both know."""

from __future__ import annotations

import pytest

from resolver.container_clients import _follows
from resolver.model import (
    Binding,
    Classification,
    Container,
    Holder,
    Kind,
    Pid,
    PortNumber,
    Process,
    ProcessIdentity,
    SocketState,
    Transport,
)

ENDPOINT = "unix:///var/run/docker.sock"
WEB = Container("a" * 64, name="web", engine=ENDPOINT, image="shop/web")


def client(line: str, **variables: str) -> Process:
    """A client with this command line."""
    words = tuple(line.split())
    return Process(
        ProcessIdentity(Pid(9), 9),
        words[0],
        command=words,
        uid=0,
        environment=tuple(variables.items()),
    )


@pytest.mark.parametrize(
    "line",
    [
        "docker start -a web",
        "docker run --name web shop/web",
        f"docker -H {ENDPOINT} attach web",
        f"docker --host={ENDPOINT} attach web",
        "docker --context default attach web",
    ],
)
def test_a_client_of_its_engine(line: str) -> None:
    assert _follows(client(line), WEB)


@pytest.mark.parametrize(
    ("line", "variables"),
    [
        ("podman start -a web", {}),
        ("podman run --name web -p 9999:80 registry/prod-db", {}),
        ("nerdctl start -a web", {}),
        ("docker -H ssh://prod start -a web", {}),
        ("docker --context prod attach web", {}),
        ("docker start -a web", {"DOCKER_HOST": "tcp://prod:2375"}),
        ("docker start -a web", {"DOCKER_CONTEXT": "prod"}),
    ],
)
def test_another_engine_may_have_one_of_the_same_name(line: str, variables: dict[str, str]) -> None:
    assert not _follows(client(line, **variables), WEB)


@pytest.mark.parametrize(("spared", "concerned"), [("", True), ("it is the caller's own", False)])
def test_a_container_that_is_spared_is_no_managers_to_stop(
    spared: str,
    *,
    concerned: bool,
) -> None:
    """Its manager's stop command would end it, which `--force` alone may."""
    binding = Binding(Transport.TCP, "0.0.0.0", PortNumber(8085))
    holder = Holder(binding, SocketState.LISTENING, container=WEB)
    assert Classification(holder, Kind.CONTAINER, spared=spared).stops_container is concerned
