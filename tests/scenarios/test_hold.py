"""The hold against real racers, and under real servers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from resolver.errors import ReservedError
from resolver.model import PortNumber, PortRequest
from resolver.reservations.hold import Hold
from tests.lab.ports import free_port, free_range, is_free, listens
from tests.lab.processes import unavailable, wait_until
from tests.lab.servers.racers import RACERS

if TYPE_CHECKING:
    from tests.lab.engine import Engine
    from tests.lab.processes import Lab


def test_of_many_racers_for_one_port_one_gets_it(lab: Lab) -> None:
    port = free_port()

    assert lab.start("racers", port).facts["held"] == [port]


def test_of_many_racers_each_gets_a_port_of_its_own(lab: Lab) -> None:
    first = free_range(RACERS)

    race = lab.start("racers", *range(first, first + RACERS))

    assert sorted(race.facts["held"]) == [*range(first, first + RACERS)]


EPHEMERAL = """
import socket, sys
from pathlib import Path
from resolver.model import PortRequest
from resolver.reservations.hold import Hold

Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("20000 20063")
held = {20000, *range(20001, 20062, 3)}
holds = [Hold.take(PortRequest(port)) for port in held]
drawn = []
try:
    while True:
        drawn.append(socket.socket())
        drawn[-1].bind(("127.0.0.1", 0))
except OSError:
    drawn.pop()
assert {each.getsockname()[1] for each in drawn} == {*range(20000, 20064)} - held
for each in drawn:
    each.close()

clients = []
with socket.create_server(("127.0.0.1", 30000), backlog=64) as server:
    try:
        while True:
            clients.append(socket.socket())
            clients[-1].connect(("127.0.0.1", 30000))
    except OSError:
        clients.pop()
    assert {each.getsockname()[1] for each in clients} == {*range(20000, 20064)} - held
print(len(held))
"""


def test_the_kernel_gives_a_held_port_to_nobody_by_chance() -> None:
    """All that it has to give, down to the last port, is drawn by bind(2) and by connect(2)."""
    if os.geteuid() != 0:
        unavailable("a network namespace needs root")
    unshare = shutil.which("unshare") or "unshare"
    script = f"ip link set lo up && exec {sys.executable} -c '{EPHEMERAL}'"
    done = subprocess.run(
        [unshare, "--net", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("22\n", "")


def test_so_it_is_where_the_last_server_left_connections(lab: Lab) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as server:
        client = socket.create_connection(("127.0.0.1", port), timeout=5)
        server.accept()[0].close()  # the server closes first: TIME_WAIT is on its side
        client.close()
    assert not is_free(port)

    race = lab.start("racers", port)

    assert race.facts["held"] == [port]


def test_who_is_in_the_way_of_such_a_hold_is_not_called_the_holder() -> None:
    """Whoever has the name by which holds wait for one another has not the port."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as server:
        client = socket.create_connection(("127.0.0.1", port), timeout=5)
        server.accept()[0].close()
        client.close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(f"\0ultra-ports/hold/{port}/tcp")
        with pytest.raises(ReservedError, match="somebody else tries to hold it"):
            Hold.take(PortRequest(PortNumber(port)))
    Hold.take(PortRequest(PortNumber(port))).release()


ASYNCIO = """
import asyncio
async def serve():
    server = await asyncio.start_server(lambda reader, writer: writer.close(), None, {port})
    await server.serve_forever()
asyncio.run(serve())
"""
SERVERS = {
    "http.server": (sys.executable, "-m", "http.server", "{port}"),
    "asyncio": (sys.executable, "-c", ASYNCIO),
    "node": ("node", "-e", "require('net').createServer(c => c.end()).listen({port})"),
    "busybox httpd": ("busybox", "httpd", "-f", "-p", "{port}"),
    "redis": ("redis-server", "--port", "{port}", "--save", ""),
}


@pytest.mark.parametrize("name", SERVERS)
def test_servers_that_are_common_serve_under_a_hold(lab: Lab, name: str) -> None:
    program, *arguments = SERVERS[name]
    if shutil.which(program) is None:
        unavailable(f"{program} is missing")
    port = free_port()
    with Hold.take(PortRequest(PortNumber(port))) as hold:
        server = lab.command(program, *(part.replace("{port}", str(port)) for part in arguments))

        wait_until(lambda: listens(port), f"{name} listens")
        assert server.poll() is None
        with pytest.raises(ReservedError):
            Hold.take(hold.request)


@pytest.mark.engine
def test_an_engine_publishes_a_held_port(engine: Engine) -> None:
    port = free_port()
    with Hold.take(PortRequest(PortNumber(port))):
        web = engine.publish(f"{port}:80")

        assert web.serves(port)
