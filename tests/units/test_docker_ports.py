"""The plug-in of the Docker CLI: messages of engines, docker's own options, its configuration."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.cli import docker_plugin
from resolver.cli.docker_ports import arguments
from resolver.host.engine_messages import taken_ports
from resolver.portspec import parse

IN_USE = "address already in use"
HEAD = "Error response from daemon: "
ENDPOINT = "driver failed programming external connectivity on endpoint web (bc8d0ef07fb9ac2b): "
PROXY = "Error starting userland proxy: "
NETWORKING = "failed to set up container networking: "
ROOTLESS = "error while calling RootlessKit PortManager.AddPort(): "
# Recorded: of 20.10.24 and 28.5.2 by hand, of the others as people have quoted them in public
# reports (28 with IPv6, 29, rootless, Docker Desktop, podman; nerdctl: containerd/nerdctl#4097) or
# as the source has them (28 of a range: moby, libnetwork/drivers/bridge/port_mapping_linux.go;
# 29 with udp: libnetwork/portallocator/osallocator_linux.go). Names and ids are shortened.
RECORDED = [
    pytest.param(
        f"{HEAD}{ENDPOINT}{PROXY}listen tcp4 0.0.0.0:18431: bind: address already in use.",
        ("18431",),
        id="20.10 and 26",
    ),
    pytest.param(
        f"{HEAD}{ENDPOINT}{PROXY}listen tcp 0.0.0.0:8080: bind: address already in use.",
        ("8080",),
        id="before 20.10",
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
        f"{HEAD}{NETWORKING}{ENDPOINT}Bind for 127.0.0.1:5432 failed: port is already allocated",
        ("127.0.0.1:5432", "127.0.0.1:5432/udp"),
        id="28 and 29, another container's",
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
        f"{HEAD}{NETWORKING}{ENDPOINT}failed to bind host port for "
        "[::]:25801:172.18.0.2:25565/tcp: address already in use",
        ("25801",),
        id="28, IPv6",
    ),
    pytest.param(
        f"{HEAD}{NETWORKING}{ENDPOINT}failed to bind host port for "
        "[::1]:16379:[fd00::2]:6379/tcp: address already in use",
        ("[::1]:16379",),
        id="28, IPv6 on both sides",
    ),
    pytest.param(
        f"{HEAD}{NETWORKING}{ENDPOINT}failed to bind host port 57009 for "
        "127.0.0.1:57005-57010:172.19.0.2:5432/tcp: address already in use",
        ("127.0.0.1:57009",),
        id="28, a range",
    ),
    pytest.param(
        f"{HEAD}{NETWORKING}{ENDPOINT}failed to bind host port 57009 for "
        "[::]:57005-57010:[fd00::2]:5432/udp: address already in use",
        ("57009/udp",),
        id="28, a range on IPv6",
    ),
    pytest.param(
        f"{HEAD}{NETWORKING}{ENDPOINT}failed to bind host port 127.0.0.1:5432/tcp: "
        "address already in use",
        ("127.0.0.1:5432",),
        id="29",
    ),
    pytest.param(
        f"{HEAD}{NETWORKING}failed to bind host port [::]:443/tcp: address already in use",
        ("443",),
        id="29, IPv6",
    ),
    pytest.param(
        f"{HEAD}{NETWORKING}failed to bind host port [::1]:53/udp: address already in use",
        ("[::1]:53/udp",),
        id="29, udp on one IPv6 address",
    ),
    pytest.param(
        f"{HEAD}{NETWORKING}{ENDPOINT}{ROOTLESS}"
        "listen tcp4 0.0.0.0:32769: bind: address already in use",
        ("32769",),
        id="rootless",
    ),
    pytest.param(
        f"{HEAD}Ports are not available: exposing port TCP 0.0.0.0:5432 -> 127.0.0.1:0: "
        "listen tcp 0.0.0.0:5432: bind: address already in use",
        ("5432",),
        id="Docker Desktop",
    ),
    pytest.param(
        f"{HEAD}Ports are not available: listen tcp 0.0.0.0:80: bind: address already in use",
        ("80",),
        id="Docker Desktop before 4.10",
    ),
    pytest.param(
        "Error: cannot listen on the TCP port: listen tcp4 :5566: bind: address already in use",
        ("5566",),
        id="podman",
    ),
    pytest.param(
        f"{HEAD}rootlessport listen tcp 127.0.0.1:2222: bind: address already in use",
        ("127.0.0.1:2222",),
        id="podman, rootless, asked by docker",
    ),
    pytest.param(
        "Error: pasta failed with exit code 1:\n"
        "Failed to bind port 8080 (Address already in use) for option '-t 8080-8080:8080-8080'\n",
        ("8080",),
        id="podman with pasta",
    ),
    pytest.param(
        "pasta failed with exit code 1:\nFailed to bind port 53 (Address already in use) for "
        "option '-u 127.0.0.1/53-53:53-53'\n",
        ("127.0.0.1:53/udp",),
        id="podman with pasta, udp on one address",
    ),
    pytest.param(
        "Error: pasta failed with exit code 1:\n"
        "Listen failed for HOST TCP port 127.0.0.1/34921: Address already in use",
        ("127.0.0.1:34921",),
        id="podman with pasta of 2026",
    ),
    pytest.param(
        "Listen failed for HOST UDP port */5353: Address already in use",
        ("5353/udp",),
        id="podman with pasta of 2026, every address",
    ),
    pytest.param(
        "FATA[0000] failed to load networking flags: bind for :8080 failed: "
        "port is already allocated",
        ("8080", "8080/udp"),
        id="nerdctl",
    ),
]


@pytest.mark.parametrize(("message", "found"), RECORDED)
def test_the_port_of_a_recorded_message(message: str, found: tuple[str, ...]) -> None:
    assert taken_ports(message) == found


@pytest.mark.parametrize(
    "message",
    [
        "",
        f"{HEAD}pull access denied for nothing, repository does not exist",
        f'{HEAD}Conflict. The container name "/web:8085" is already in use by container "4711"',
        f"{HEAD}{ENDPOINT}{PROXY}listen tcp4 10.9.9.9:80: bind: cannot assign requested address",
        f"{HEAD}{ENDPOINT}{PROXY}listen tcp4 0.0.0.0:80: bind: permission denied",
        f"{HEAD}failed to bind host port for 0.0.0.0:80:172.17.0.2:80/sctp: address already in use",
        f"{HEAD}failed to bind host port 0.0.0.0:80/sctp: address already in use",
        f"{HEAD}{NETWORKING}{ENDPOINT}all ports are allocated",
        "Failed to bind port 80 (Permission denied) for option '-t 80-80:8080-8080'",
        "Listen failed for HOST TCP port */80: Permission denied",
        "failed to start containers: web",
    ],
)
def test_what_is_about_no_taken_port(message: str) -> None:
    assert taken_ports(message) == ()


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
        f"failed to bind host port {port} for {address}:1-65535:10.0.0.2:80/{transport}: {IN_USE}",
        f"Listen failed for HOST TCP port {address.strip('[]')}/{port}: {IN_USE}".replace(
            "TCP", transport.upper()
        ),
    ):
        [request] = parse(taken_ports(message))
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

    environ = {}
    assert arguments(["-Hunix:///d", "-c=far", "--tls=false", "ports"], environ) == []
    assert environ == {"DOCKER_CONTEXT": "far"}

    assert arguments(["help", "ports"], environ) == ["--help"]
    assert arguments(["who", "ports"], environ) == ["who", "ports"]
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
