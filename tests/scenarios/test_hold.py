"""The hold against real racers, and under real servers."""

from __future__ import annotations

import shutil
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from resolver.errors import ReservedError
from resolver.model import PortNumber, PortRequest
from resolver.reservations.holding.hold import Hold
from tests.lab.ports import free_port, is_free
from tests.lab.processes import unavailable, wait_until
from tests.lab.servers.racers import RACERS

if TYPE_CHECKING:
    from tests.lab.engine import Engine
    from tests.lab.processes import Lab


def test_of_many_racers_for_one_port_one_gets_it(lab: Lab) -> None:
    race = lab.start("racers", free_port())

    assert (race.facts["holders"], race.facts["refused"]) == (1, RACERS - 1)


def test_so_it_is_where_the_last_server_left_connections(lab: Lab) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as server:
        client = socket.create_connection(("127.0.0.1", port), timeout=5)
        server.accept()[0].close()  # the server closes first: TIME_WAIT is on its side
        client.close()
    assert not is_free(port)

    race = lab.start("racers", port)

    assert (race.facts["holders"], race.facts["refused"]) == (1, RACERS - 1)


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


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
