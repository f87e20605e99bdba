"""Which port a service that is started again and again is for, as its command line tells."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from resolver.managed import ManagedService, Waiting
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

SERVICE = ManagedService(
    manager="systemd",
    name="web.service",
    title="web.service",
    policy="Restart=always",
    respawn=Respawn.YES,
    keeper="systemd",
    evidence=(),
)
FOR_IT = [
    "python3 -m http.server 3000",
    "web --port 3000",
    "web --port=3000",
    "web -p 3000",
    "web -p3000",
    "web --listen 127.0.0.1:3000",
    "web --url=http://0.0.0.0:3000/",
    "gunicorn -b :3000 web:app",
    "/bin/sh -c 'exec web --http.port=3000; true'",
    "manage.py runserver 0.0.0.0:3000",
]
FOR_ANOTHER = [
    "web --timeout 3000",
    "web --timeout=3000 --port 8080",
    "web --port 13000",
    "web --port 30000",
    "web --max-old-space-size=3000",
    "web --version 1.3000",
]


@pytest.mark.parametrize("command", FOR_IT)
def test_a_command_line_that_names_the_port(command: str) -> None:
    assert Waiting(SERVICE, "auto-restart", command).wants(3000)


@pytest.mark.parametrize("command", FOR_ANOTHER)
def test_a_number_that_is_no_port(command: str) -> None:
    assert Waiting(SERVICE, "auto-restart", command).wants(3000) == ""


def test_settings_and_what_it_printed() -> None:
    given = Waiting(SERVICE, "BACKOFF", settings=("WORKERS=3000", "HTTP_PORT=3000"))
    assert given.wants(3000) == "it is started with HTTP_PORT=3000"
    assert Waiting(SERVICE, "BACKOFF", settings=("WORKERS=3000",)).wants(3000) == ""
    log = "ready at 3000\nbind() to 0.0.0.0:3000 failed (98: Address already in use)\n"
    assert "Address already in use" in Waiting(SERVICE, "BACKOFF", log=lambda: log).wants(3000)
    assert Waiting(SERVICE, "BACKOFF", log=lambda: "ready at 3000").wants(3000) == ""


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
