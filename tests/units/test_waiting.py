"""Which port a service that is started again and again is for, as its command line tells."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from resolver.managed import ManagedService
from resolver.model import (
    Binding,
    Classification,
    Holder,
    Kind,
    PortNumber,
    Respawn,
    SocketState,
    Transport,
)
from resolver.waiters import handed_over, is_way_in
from resolver.waiting import PortClaim, Waiting

SERVICE = ManagedService(
    kind="systemd",
    name="web.service",
    title="web.service",
    policy="Restart=always",
    respawn=Respawn.YES,
    keeper="systemd",
    evidence=(),
)
LISTENING = [
    "python3 -m http.server 3000",
    "web --port 3000",
    "web --port=3000",
    "web -p 3000",
    "web -p3000",
    "web --listen 127.0.0.1:3000",
    "web --server.port=3000",
    "gunicorn -b :3000 web:app",
    "/bin/sh -c 'exec web --http.port=3000; true'",
    "manage.py runserver 0.0.0.0:3000",
]
MENTIONING = [
    "worker --url=http://127.0.0.1:3000/",
    "worker --redis-port 3000",
    "wait-for db:3000",
    "worker --addr db:3000",
]
FOR_ANOTHER = [
    "web --timeout 3000",
    "web --timeout=3000 --port 8080",
    "web --port 13000",
    "web --port 30000",
    "web --max-old-space-size=3000",
    "web --version 1.3000",
]
TAKEN = "OSError: [Errno 98] Address already in use"


def claim(command: str = "", log: str = "", settings: tuple[str, ...] = ()) -> PortClaim | None:
    return Waiting(SERVICE, "auto-restart", command, settings, lambda: log).claim(3000)


def certain(command: str = "", log: str = "", settings: tuple[str, ...] = ()) -> bool | None:
    found = claim(command, log, settings)
    return found.certain if found else None


@pytest.mark.parametrize("command", LISTENING)
def test_a_server_that_is_told_to_listen_there(command: str) -> None:
    """Sure as long as nothing is known of why it ends; else what it says decides."""
    assert certain(command) is True
    assert certain(command, "no such database") is False
    assert certain(command, f"starting\n{TAKEN}") is True


@pytest.mark.parametrize("command", MENTIONING)
def test_a_number_that_may_be_a_clients(command: str) -> None:
    assert certain(command) is False
    assert certain(command, "connection refused") is False
    assert certain(command, TAKEN) is True


@pytest.mark.parametrize("command", FOR_ANOTHER)
def test_a_number_that_is_no_port(command: str) -> None:
    assert claim(command) is None
    assert claim(command, TAKEN) is None


def test_settings() -> None:
    assert claim(settings=("WORKERS=3000", "HTTP_PORT=3000")) == PortClaim(
        "it is started with HTTP_PORT=3000", certain=True
    )
    assert claim(settings=("WORKERS=3000",)) is None
    assert certain(settings=("REDIS_URL=redis://db:3000/0",)) is False


@pytest.mark.parametrize(
    "line",
    [
        "bind() to 0.0.0.0:3000 failed (98: Address already in use)",
        "Error: listen EADDRINUSE: address already in use :::3000",
        "[Errno 98] error while attempting to bind on address ('127.0.0.1', 3000): in use",
        "Error: Port 3000 is already in use",
        "Bind for 0.0.0.0:3000 failed: port is already allocated",
    ],
)
def test_what_it_says_is_sure_whatever_it_is_told(line: str) -> None:
    assert claim(log=f"ready\n{line}\n") == PortClaim(f"it says: {line}", certain=True)
    assert certain("web --port 3000", line.replace("3000", "8080")) is False
    assert claim(log="ready at 3000") is None


def test_what_its_manager_tests() -> None:
    waiting = Waiting(SERVICE, "Does not exist", tested=frozenset({3000}))
    assert waiting.claim(3000) == PortClaim("systemd tests it on 3000", certain=True)
    assert waiting.claim(3001) is None


@pytest.mark.parametrize(
    ("command", "way_in"),
    [
        ("/usr/sbin/sshd -D -p 3000", True),
        ("#!/bin/sh\nexec dropbear -F -p 3000\n", True),
        ("/usr/bin/dockerd -H tcp://0.0.0.0:3000", True),
        ("node /srv/sshd-dashboard/server.js --port 3000", False),
    ],
)
def test_a_way_in_is_not_stopped_for_a_port_that_it_waits_for(
    command: str, *, way_in: bool
) -> None:
    assert is_way_in(command) is way_in


def test_its_manager_has_no_command_for_that_then() -> None:
    service = replace(SERVICE, stop=("supervisorctl", "stop", "ssh"))
    holder = Holder(Binding(Transport.TCP, "0.0.0.0", PortNumber(3000)), SocketState.LISTENING)
    found = Classification(holder, Kind.LOCAL)
    for command, stops in (("/usr/sbin/sshd -D -p 3000", False), ("web -p 3000", True)):
        judged = handed_over(found, Waiting(service, "BACKOFF", command), "why")
        assert (judged.manager is not None) is stops
