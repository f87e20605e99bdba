"""The plug-in of the Docker CLI: messages of engines, docker's own options, its configuration."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.cli import docker_plugin
from resolver.cli.docker_ports import arguments, ports
from resolver.errors import UsageError
from resolver.portspec import parse

IN_USE = "address already in use"
HEAD = "Error response from daemon: "
ENDPOINT = "driver failed programming external connectivity on endpoint web (bc8d0ef07fb9ac2b): "
PROXY = "Error starting userland proxy: "
NETWORKING = "failed to set up container networking: "
# Recorded: of 20.10.24 and 28.5.2 by hand, of the others as people have quoted them in public
# reports. The name and the id of the endpoint are shortened.
RECORDED = [
    pytest.param(
        f"{HEAD}{ENDPOINT}{PROXY}listen tcp4 0.0.0.0:18431: bind: address already in use.",
        ("18431",),
        id="20.10 and 26",
    ),
    pytest.param(
        f"{HEAD}{ENDPOINT}{PROXY}listen udp4 127.0.0.1:18432: bind: address already in use",
        ("127.0.0.1:18432/udp",),
        id="20.10, udp on one address",
    ),
    pytest.param(
        f"{HEAD}{ENDPOINT}{PROXY}listen tcp6 [::1]:18433: bind: address already in use",
        ("[::1]:18433",),
        id="20.10, IPv6",
    ),
    pytest.param(
        f"{HEAD}{ENDPOINT}Bind for 0.0.0.0:18433 failed: port is already allocated",
        ("18433", "18433/udp"),
        id="20.10, another container's",
    ),
    pytest.param(
        f"{HEAD}{ENDPOINT}Bind for :::18433 failed: port is already allocated",
        ("18433", "18433/udp"),
        id="20.10, another container's on IPv6",
    ),
    pytest.param(
        f"{HEAD}{NETWORKING}{ENDPOINT}failed to bind host port for "
        "0.0.0.0:18400:172.17.0.2:80/tcp: address already in use",
        ("18400",),
        id="28",
    ),
    pytest.param(
        f"{HEAD}{NETWORKING}{ENDPOINT}failed to bind host port for "
        "127.0.0.1:53:172.18.0.2:53/udp: address already in use",
        ("127.0.0.1:53/udp",),
        id="28, udp on one address",
    ),
    pytest.param(
        f"{HEAD}{NETWORKING}{ENDPOINT}failed to bind host port 127.0.0.1:5432/tcp: "
        "address already in use",
        ("127.0.0.1:5432",),
        id="29",
    ),
    pytest.param(
        f"{HEAD}Ports are not available: exposing port TCP 0.0.0.0:5432 -> 127.0.0.1:0: "
        "listen tcp 0.0.0.0:5432: bind: address already in use",
        ("5432",),
        id="Docker Desktop",
    ),
]


@pytest.mark.parametrize(("message", "found"), RECORDED)
def test_the_port_of_a_recorded_message(message: str, found: tuple[str, ...]) -> None:
    assert ports(message) == found


@pytest.mark.parametrize(
    "message",
    [
        "",
        f"{HEAD}pull access denied for nothing, repository does not exist",
        f'{HEAD}Conflict. The container name "/web:8085" is already in use by container "4711"',
        f"{HEAD}{ENDPOINT}{PROXY}listen tcp4 10.9.9.9:80: bind: cannot assign requested address",
        f"{HEAD}{ENDPOINT}{PROXY}listen tcp4 0.0.0.0:80: bind: permission denied",
        f"{HEAD}failed to bind host port for 0.0.0.0:80:172.17.0.2:80/sctp: address already in use",
        "failed to start containers: web",
    ],
)
def test_what_is_about_no_taken_port(message: str) -> None:
    assert ports(message) == ()


@given(
    st.sampled_from(["0.0.0.0", "[::]", "127.0.0.1", "[::1]", "[fe80::1]"]),
    st.integers(1, 65535),
    st.sampled_from(["tcp", "udp"]),
    st.text(max_size=40),
)
def test_every_port_is_one_of_the_grammar(
    address: str, port: int, transport: str, noise: str
) -> None:
    for message in (
        f"{noise} listen {transport}4 {address}:{port}: bind: {IN_USE} {noise}",
        f"failed to bind host port for {address}:{port}:10.0.0.2:80/{transport}: {IN_USE}",
        f"failed to bind host port {address}:{port}/{transport}: {IN_USE}",
    ):
        [request] = parse(ports(message))
        assert (request.port, request.transport) == (port, transport)
        assert request.address == (
            {"0.0.0.0": None, "[::]": None}.get(address, address.strip("[]"))
        )


def test_options_of_docker_become_variables() -> None:
    environ = {"DOCKER_HOST": "unix:///a"}
    assert arguments(["-D", "--context=far", "ports", "who", "8085"], environ) == ["who", "8085"]
    assert environ == {"DOCKER_CONTEXT": "far"}

    environ = {}
    words = ["--log-level", "debug", "-H", "unix:///b", "--config", "/c", "ports", "-H", "x"]
    assert arguments(words, environ) == ["-H", "x"]
    assert environ == {"DOCKER_HOST": "unix:///b", "DOCKER_CONFIG": "/c"}

    assert arguments(["help", "ports"], environ) == ["--help"]
    assert arguments(["8085"], environ) == ["8085"]


PLUGINS = st.dictionaries(
    st.sampled_from(["ports", "scout", "debug"]),
    st.dictionaries(st.sampled_from(["x", "y"]), st.text(max_size=3), min_size=1),
    min_size=1,
)


FEATURES = st.dictionaries(
    st.sampled_from(["hooks", "buildkit"]), st.sampled_from(["true", "false"]), min_size=1
)


@given(
    st.fixed_dictionaries(
        {"auths": st.just({})}, optional={"plugins": PLUGINS, "features": FEATURES}
    )
)
def test_the_hook_comes_and_goes_and_leaves_the_rest(config: dict[str, Any]) -> None:
    added = docker_plugin.with_hooks(config)

    assert added["plugins"]["ports"].items() >= docker_plugin.HOOKS.items()
    assert docker_plugin.with_hooks(added) == added
    assert added["features"] == {"hooks": "true"} | dict(config.get("features", {}))
    assert docker_plugin.without_hooks(added) == config


def test_plugins_that_are_none_are_left_alone() -> None:
    configs: list[dict[str, Any]] = [{"plugins": []}, {"plugins": {"ports": "x"}}]
    for config in configs:
        with pytest.raises(UsageError):
            docker_plugin.with_hooks(config)
        assert docker_plugin.without_hooks(config) == config
