"""Peers that are slow, mad or bad: none of them keeps `health` waiting, and none is believed."""

from __future__ import annotations

import resource
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from resolver.health import check
from resolver.health.model import Reach
from resolver.project.probe import read_probe
from tests.lab.cli import ultra
from tests.lab.ports import free_port
from tests.lab.processes import unavailable

if TYPE_CHECKING:
    from pathlib import Path

    from resolver.health.model import HealthReport
    from tests.lab.processes import Lab

QUICK = 0.5  # seconds that a peer may take
PROBES = ("tcp", "/", "https://localhost/", "redis", "postgres")
NEVER_GOOD = (
    *("mute", "close", "reset", "drip", "flood", "hints-for-ever", "broken", "garbage", "loading"),
)


def asked(port: int, probe: str, seconds: float = QUICK) -> HealthReport:
    return check(
        f"127.0.0.1:{port}",
        probe=read_probe(probe),
        timeout_seconds=seconds,
        use_docker=False,
    )


@pytest.mark.parametrize("manner", NEVER_GOOD)
def test_nothing_good_is_heard_of_a_bad_peer(lab: Lab, manner: str) -> None:
    port = free_port()
    lab.start("hostile", manner, port)
    for probe in PROBES[1:]:
        [found] = asked(port, probe).services
        assert found.healthy is False, (probe, found)
        assert found.level in {Reach.ACCEPTS, Reach.SPEAKS}
        assert found.reason.isprintable()
        assert found.reason.isascii()
        assert len(found.reason) < 400


@pytest.mark.parametrize("manner", NEVER_GOOD)
def test_a_connection_is_all_that_tcp_wants(lab: Lab, manner: str) -> None:
    port = free_port()
    lab.start("hostile", manner, port)
    [found] = asked(port, "tcp").services
    assert (found.healthy, found.level) == (True, Reach.ACCEPTS)


@pytest.mark.parametrize(
    ("manner", "status"),
    [("fine", 200), ("hints", 204), ("redirect", 302), ("drip-header", 200), ("flood-header", 200)],
)
def test_the_status_is_the_answer(lab: Lab, manner: str, status: int) -> None:
    port = free_port()
    lab.start("hostile", manner, port)
    [found] = asked(port, "/healthz", seconds=60.0).services
    assert (found.healthy, found.level) == (True, Reach.SPEAKS), found
    assert [answer.status for answer in found.answers] == [status]
    assert found.answers[0].seconds < 30  # what comes after the status is not waited for


def test_a_redirect_is_not_followed_and_may_be_unwanted(lab: Lab) -> None:
    port = free_port()
    lab.start("hostile", "redirect", port)
    wanted = read_probe({"probe": "/", "status": 200})
    [found] = check(port, probe=wanted, use_docker=False).services
    assert (found.healthy, found.level) == (False, Reach.SPEAKS)
    assert found.reason == "HTTP 302; 200 is wanted"


def test_a_bad_status_is_still_an_answer(lab: Lab) -> None:
    port = free_port()
    lab.start("hostile", "broken", port)
    [found] = asked(port, "/").services
    assert (found.healthy, found.level, found.answers[0].status) == (False, Reach.SPEAKS, 503)


def test_redis_that_is_loading_speaks_and_is_not_healthy(lab: Lab) -> None:
    port = free_port()
    lab.start("hostile", "loading", port)
    [found] = asked(port, "redis").services
    assert (found.healthy, found.level) == (False, Reach.SPEAKS)
    assert "LOADING" in found.reason


def test_a_flood_does_not_bloat(lab: Lab) -> None:
    port = free_port()
    lab.start("hostile", "flood-header", port)
    asked(port, "/")  # everything is loaded now
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(5):
        asked(port, "/", seconds=1.0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 8 << 10  # KiB, of a GiB that each would send


def test_what_a_peer_says_does_not_reach_the_terminal_as_it_is(lab: Lab) -> None:
    port = free_port()
    lab.start("hostile", "garbage", port)
    run = ultra("health", "--no-docker", "--probe", "redis", str(port))
    assert run.status == 1
    assert "\x1b" not in run.stdout
    assert "\u202e" not in run.stdout
    assert "\\xff" in run.stdout


def test_ten_frozen_services_are_waited_for_at_once(lab: Lab) -> None:
    ports = [free_port() for _ in range(10)]
    for port in ports:
        lab.start("hostile", "mute", port)
    began = time.monotonic()
    report = check(*ports, probe=read_probe("/"), timeout_seconds=2.0, use_docker=False)
    assert {service.level for service in report.services} == {Reach.ACCEPTS}
    waited = sum(each.seconds for found in report.services for each in found.answers)
    assert time.monotonic() - began < waited / 2


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate that the server signed itself, for a name that nobody asks for."""
    openssl = shutil.which("openssl") or unavailable("openssl is missing")
    pem = tmp_path / "server.pem"
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    subprocess.run(
        [
            *(openssl, "req", "-x509", *key, "-days", "1", "-subj", "/CN=else.example"),
            *("-keyout", str(pem), "-out", f"{pem}.crt"),
        ],
        check=True,
        capture_output=True,
    )
    with pem.open("ab") as file:
        file.write((tmp_path / "server.pem.crt").read_bytes())
    return pem


@pytest.mark.parametrize(
    ("manner", "expected"),
    [
        ("fine", (True, Reach.SPEAKS)),
        ("mute", (False, Reach.ACCEPTS)),
        ("drip", (False, Reach.ACCEPTS)),
        ("flood", (False, Reach.ACCEPTS)),
        ("close", (False, Reach.ACCEPTS)),
        ("hints", (True, Reach.SPEAKS)),
        ("flood-header", (True, Reach.SPEAKS)),
    ],
)
def test_tls_with_a_certificate_of_its_own(
    lab: Lab, certificate: Path, manner: str, expected: tuple[bool, Reach]
) -> None:
    port = free_port()
    lab.start("hostile", manner, port, "--certificate", str(certificate))
    [found] = asked(port, "https://localhost/healthz").services
    assert (found.healthy, found.level) == expected, found
    [plain] = asked(port, "/healthz").services
    assert plain.healthy is False
