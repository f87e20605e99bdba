"""What the JSON of `docker compose config` means, and what engines would refuse of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from resolver.compose.config import decode, publish
from resolver.json_text import JsonError

if TYPE_CHECKING:
    from resolver.compose.model import ComposeService


def service(**described: Any) -> ComposeService:  # noqa: ANN401 - compose's own shape
    """The only service of a project that is described so."""
    name, (only,) = decode(json.dumps({"name": "shop", "services": {"web": described}}))
    assert name == "shop"
    return only


@pytest.mark.parametrize(
    ("described", "replicas"),
    [
        ({}, 1),
        ({"scale": 3}, 3),
        ({"deploy": {"replicas": 2}}, 2),
        ({"deploy": {"resources": {}}}, 1),
        ({"scale": 0, "deploy": {"replicas": 0}}, 0),
        ({"deploy": None, "ports": None, "network_mode": None}, 1),
    ],
)
def test_how_many_containers(described: dict[str, Any], replicas: int) -> None:
    assert service(**described).replicas == replicas


def test_early_versions_have_numbers() -> None:
    """Compose before 2.1 gave the host port as a number; later ones give text."""
    (port,) = service(ports=[{"target": 80, "published": 8080, "protocol": "tcp"}]).published
    assert (port.first, port.last, port.text) == (8080, 8080, "8080:80")


def test_a_project_without_services() -> None:
    assert decode('{"name": "shop"}') == ("shop", ())
    assert decode('{"name": "shop", "services": null}') == ("shop", ())


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[]", "Expected `object`"),
        ("{", "not JSON"),
        ('{"services": {}}', "`name`"),
        ('{"name": "a", "services": {"web": {"ports": [{"target": "x"}]}}}', "ports[0].target"),
        ('{"name": "a", "services": {"web": {"scale": "many"}}}', "scale"),
        ('{"name": 1}', "$.name"),
    ],
)
def test_what_does_not_fit_is_named(text: str, where: str) -> None:
    with pytest.raises(JsonError) as caught:
        decode(text)
    assert where in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("host_port", "first", "last"),
    [
        ("", None, None),
        ("0", None, None),
        ("80", 80, 80),
        ("0080", 80, 80),
        ("80-82", 80, 82),
        ("80-82-99", 80, 82),  # the engine reads two parts
        ("65535", 65535, 65535),
    ],
)
def test_host_ports(host_port: str, first: int | None, last: int | None) -> None:
    found = publish("web", 80, host_port, "")
    assert (found.first, found.last, found.error) == (first, last, "")


@pytest.mark.parametrize("host_port", ["abc", "70000", "-1", "82-80", "0-5", "80 ", "٨٠", "9" * 99])
def test_what_is_no_host_port(host_port: str) -> None:
    found = publish("web", 80, host_port, "")
    assert (found.first, found.last) == (None, None)
    assert "is neither a port" in found.error
    assert found.error.isprintable()


@pytest.mark.parametrize(
    ("host_ip", "address"),
    [
        ("", None),
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("::1", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
    ],
)
def test_addresses_are_canonical(host_ip: str, address: str | None) -> None:
    found = publish("web", 80, "80", host_ip)
    assert (found.address, found.error) == (address, "")


@pytest.mark.parametrize("host_ip", ["localhost", "1.2.3", "fe80::1%eth0", "\x1b[31m"])
def test_what_is_no_address(host_ip: str) -> None:
    assert "is no IP address" in publish("web", 80, "80", host_ip).error


@pytest.mark.parametrize("target", [0, -1, 65536])
def test_what_is_no_port_of_a_container(target: int) -> None:
    assert publish("web", target, "80", "").error == f"{target} is no port of a container"


def test_protocols() -> None:
    assert publish("web", 80, "80", "", "UDP").transport == "udp"
    assert not publish("web", 80, "80", "", "sctp").error
    assert "'icmp' is neither tcp, udp nor sctp" in publish("web", 80, "80", "", "icmp").error


def test_the_short_form() -> None:
    assert publish("web", 80, "", "").text == "80"
    assert publish("web", 80, "8080", "").text == "8080:80"
    assert publish("web", 80, "", "127.0.0.1").text == "127.0.0.1::80"
    assert publish("web", 53, "53-54", "::1", "udp").text == "[::1]:53-54:53/udp"
