"""Looks at real sockets and leases, one at a time: what each of them tells, and what it costs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from resolver.errors import UsageError
from resolver.health.events import EventKind
from resolver.health.port_history import RESPAWN_SECONDS
from resolver.health.watch import Watch
from resolver.model import PortNumber, PortRequest, Transport
from resolver.report.events import duration, line
from tests.lab.cli import ultra
from tests.lab.ports import free_port, free_range
from tests.lab.processes import ROOT, answered_by, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.health.events import Event
    from resolver.model import HolderReport
    from tests.lab.processes import Lab, Server

REST = """
import os, socket, sys
from resolver.health.watch import INTERVAL_SECONDS, Watch
from resolver.model import PortRequest
from tests.lab.servers.common import Endpoint, bound
first, looks = int(sys.argv[1]), int(sys.argv[2])
kept = [bound(Endpoint("tcp", "127.0.0.1", first + number)) for number in range(50)]
watch = Watch([PortRequest(first + number) for number in range(50)], use_docker=False)
begun = [event.kind for event in watch.look()]
before, diagnoses = os.times(), watch.diagnoses
for _ in range(looks):
    assert watch.look() == ()
after = os.times()
spent = after.user + after.system - before.user - before.system
print(begun.count("held"), watch.diagnoses - diagnoses, 1000 * spent / looks, INTERVAL_SECONDS)
"""


def watching(*ports: int, names: tuple[str, ...] = ()) -> Watch:
    requests = [PortRequest(PortNumber(port)) for port in ports]
    return Watch(requests, dict.fromkeys(requests, names), use_docker=False)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def watch(port: int) -> Iterator[Watch]:
    with closing(watching(port, names=("api",))) as watch:
        yield watch


def kinds(events: tuple[Event, ...]) -> list[str]:
    return [event.kind.value for event in events]


def end(server: Server) -> None:
    server.popen.kill()
    server.popen.wait()


def pid(holders: tuple[HolderReport, ...]) -> int:
    (only,) = holders
    assert only.classification.holder.master is not None
    return only.classification.holder.master.pid


def test_the_first_look_says_how_ports_are_found(lab: Lab) -> None:
    port, other = free_port(), free_port()
    server = lab.start("answering", port)
    with closing(watching(port, other)) as watch:
        held, free = watch.look()
        assert watch.look() == ()

    assert (held.kind, pid(held.holders)) == (EventKind.HELD, server.pid)
    assert (free.kind, free.request) == (EventKind.FREE, PortRequest(PortNumber(other)))


def test_a_port_that_is_taken_and_released(lab: Lab, port: int, watch: Watch) -> None:
    assert kinds(watch.look()) == ["free"]
    server = lab.start("answering", port)
    (taken,) = watch.look()
    assert (taken.kind, pid(taken.holders)) == (EventKind.TAKEN, server.pid)
    assert taken.services == ("api",)

    end(server)
    (released,) = watch.look()
    assert (released.kind, pid(released.before)) == (EventKind.RELEASED, server.pid)
    assert released.holders == ()
    assert released.seconds is not None
    assert released.seconds > 0
    assert not released.at_least
    assert f"{port}/tcp (api) released by" in line(released)
    assert watch.look() == ()


def test_what_was_held_before_was_held_at_least_so_long(lab: Lab, port: int, watch: Watch) -> None:
    server = lab.start("answering", port)
    assert kinds(watch.look()) == ["held"]
    end(server)
    (released,) = watch.look()
    assert released.at_least
    assert "after at least" in line(released)


def test_the_same_command_again_is_a_respawn(lab: Lab, port: int, watch: Watch) -> None:
    watch.look()
    server = lab.start("answering", port, log=False)
    watch.look()
    for count in (1, 2):
        end(server)
        assert kinds(watch.look()) == ["released"]
        again = lab.start("answering", port, log=False)
        (event,) = watch.look()
        assert (event.kind, event.count) == (EventKind.RESPAWNED, count)
        assert (pid(event.before), pid(event.holders)) == (server.pid, again.pid)
        assert event.seconds is not None
        assert event.seconds > 0
        server = again
    (story,) = watch.histories
    assert story.respawns == 2


def test_a_respawn_between_two_looks(lab: Lab, port: int, watch: Watch) -> None:
    before = lab.start("restarting", port).facts["child"]
    watch.look()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: answered_by(port) not in {None, before}, "it was started again")

    (event,) = watch.look()

    assert (event.kind, event.count, event.seconds) == (EventKind.RESPAWNED, 1, 0.0)
    assert (pid(event.before), pid(event.holders)) == (before, answered_by(port))
    assert f"just after {before_name(event)} ended (once so far)" in line(event)


def before_name(event: Event) -> str:
    return str(event.before[0].classification.holder.master)


def test_another_command_is_no_respawn(lab: Lab, port: int, watch: Watch) -> None:
    watch.look()
    server = lab.start("answering", port, log=False)
    watch.look()
    end(server)
    watch.look()
    lab.start("plain", port, log=False)
    assert kinds(watch.look()) == ["taken"]


def test_another_owner_between_two_looks(lab: Lab, port: int, watch: Watch) -> None:
    server = lab.start("answering", port)
    watch.look()
    end(server)
    other = lab.start("plain", port)

    (event,) = watch.look()

    assert event.kind == EventKind.CHANGED
    assert (pid(event.before), pid(event.holders)) == (server.pid, other.pid)
    assert event.at_least


def test_a_second_owner_beside_the_first(lab: Lab, port: int, watch: Watch) -> None:
    first = lab.start("answering", port, "--reuseport", "--tcp", "127.0.0.1")
    watch.look()
    second = lab.start("answering", port, "--reuseport", "--tcp", "127.0.0.1", "--padding", "x")
    (joined,) = watch.look()
    assert joined.kind == EventKind.CHANGED
    assert len(joined.holders) == 2
    diagnoses = watch.diagnoses

    end(first)
    (left,) = watch.look()

    assert (left.kind, pid(left.holders)) == (EventKind.CHANGED, second.pid)
    assert watch.diagnoses == diagnoses  # who is left was known


def test_a_further_socket_of_the_same_owner_is_no_event(lab: Lab, port: int, watch: Watch) -> None:
    lab.start("prefork", port, "--workers", "3")
    assert kinds(watch.look()) == ["held"]
    client = socket.create_connection(("127.0.0.1", port))
    assert watch.look() == ()
    client.close()
    assert watch.look() == ()


def test_udp_and_one_address(lab: Lab) -> None:
    port = free_port()
    wanted = [
        PortRequest(PortNumber(port), Transport.UDP),
        PortRequest(PortNumber(port), Transport.TCP, "::1"),
    ]
    with closing(Watch(wanted, use_docker=False)) as watch:
        watch.look()
        lab.start("answering", port, "--tcp", "127.0.0.1")
        assert watch.look() == ()
        lab.start("answering", port, "--udp", "127.0.0.1")
        lab.start("answering", port, "--tcp", "::1")
        assert [(each.kind, each.request) for each in watch.look()] == [
            (EventKind.TAKEN, wanted[0]),
            (EventKind.TAKEN, wanted[1]),
        ]


def test_every_port(lab: Lab) -> None:
    port = free_port()
    with closing(Watch(None, use_docker=False)) as watch:
        watch.look()
        server = lab.start("answering", port)
        taken = [each for each in watch.look() if each.request == PortRequest(PortNumber(port))]
        assert [(each.kind, pid(each.holders)) for each in taken] == [(EventKind.TAKEN, server.pid)]
        end(server)
        released = [each for each in watch.look() if each.request == PortRequest(PortNumber(port))]
        assert [each.kind for each in released] == [EventKind.RELEASED]


def test_the_portable_way(lab: Lab, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ULTRA_PORTS_GATHER", "psutil")
    with closing(watching(port)) as watch:
        watch.look()
        server = lab.start("answering", port)
        assert kinds(watch.look()) == ["taken"]
        assert watch.look() == ()
        end(server)
        assert kinds(watch.look()) == ["released"]


def test_reservations(port: int, watch: Watch) -> None:
    watch.look()
    for _ in range(2):  # the second time the ledger is there already
        assert ultra("reserve", "api", str(port), "--ttl", "1h").status == 0
        (granted,) = until_something(watch)
        assert granted.kind == EventKind.LEASE_GRANTED
        assert granted.lease is not None
        assert granted.lease.service == "api"
        assert ultra("reserve", "api", str(port), "--ttl", "2h").status == 0
        assert settled(watch) == []  # renewed
        assert ultra("release", "api").status == 0
        (released,) = until_something(watch)
        assert (released.kind, released.reason) == (EventKind.LEASE_RELEASED, "")


def test_reservations_that_end_by_themselves(port: int, watch: Watch) -> None:
    watch.look()
    assert ultra("reserve", "api", str(port), "--ttl", "1s").status == 0
    found = until_something(watch)
    found += until_something(watch) if len(found) == 1 else ()
    assert kinds(found) == ["lease-granted", "lease-expired"]
    assert found[1].reason == "its time is over"

    owner = subprocess.Popen(["/bin/sleep", "100"])
    try:
        assert ultra("reserve", "api", str(port), "--for", str(owner.pid)).status == 0
        assert kinds(until_something(watch)) == ["lease-granted"]
        assert watch.lease_on(PortRequest(PortNumber(port))) is not None
    finally:
        owner.kill()
        owner.wait()
    (expired,) = watch.look()
    assert (expired.kind, expired.reason) == (
        EventKind.LEASE_EXPIRED,
        f"its owner, process {owner.pid}, has ended",
    )


def test_a_reservation_of_another_port_is_nobodys_business(watch: Watch) -> None:
    watch.look()
    assert ultra("reserve", "web", str(free_port()), "--ttl", "1h").status == 0
    assert settled(watch) == []


def test_a_damaged_ledger_is_a_note_and_no_end(
    lab: Lab, port: int, watch: Watch, state: Path
) -> None:
    state.mkdir()
    (state / "leases.db").write_bytes(b"no database" * 100)
    (note, free) = watch.look()
    assert (note.kind, free.kind) == (EventKind.NOTE, EventKind.FREE)
    assert "what is reserved cannot be told" in note.reason
    lab.start("answering", port)
    assert kinds(watch.look()) == ["taken"]


def test_at_rest_nothing_is_diagnosed_and_a_look_costs_little() -> None:
    unmeasured = {
        name: text for name, text in os.environ.items() if not name.startswith("COVERAGE_PROCESS")
    }
    done = subprocess.run(
        [sys.executable, "-c", REST, str(free_range(50)), "50"],
        cwd=ROOT,
        env=unmeasured,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    held, diagnoses, milliseconds, interval = map(float, done.stdout.split())
    assert (held, diagnoses) == (50, 0)
    assert milliseconds / 1000 < 0.01 * interval


def test_an_address_of_another_machine() -> None:
    with pytest.raises(UsageError, match="not an address of this machine"):
        Watch([PortRequest(PortNumber(80), Transport.TCP, "192.0.2.1")])


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.96, "10.0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def until_something(watch: Watch) -> tuple[Event, ...]:
    found: list[tuple[Event, ...]] = []

    def look() -> bool:
        found.append(watch.look())
        return bool(found[-1])

    wait_until(look, "something happened")
    return found[-1]


def settled(watch: Watch) -> list[Event]:
    """What happens until the store has certainly been read again."""
    return [event for _ in range(3) for event in watch.look()]


def test_who_had_a_port_is_forgotten_when_nobody_can_come_back(
    lab: Lab, watch: Watch, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In days of watching every port that was ever held would be remembered with its holder."""
    server = lab.start("answering", port)
    [begun] = watch.look()
    end(server)
    assert kinds(watch.look()) == ["released"]
    known = sys.getrefcount(begun.holders)

    monotonic = time.monotonic
    with monkeypatch.context() as later:
        later.setattr("time.monotonic", lambda: monotonic() + 2 * RESPAWN_SECONDS)
        assert watch.look() == ()

    left = sys.getrefcount(begun.holders)
    assert left < known
    assert [each.request for each in watch.histories] == [PortRequest(PortNumber(port))]


def test_a_port_of_every_port_is_forgotten_with_who_had_it(
    lab: Lab, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless somebody came back on it, which is counted on; a port that is held stays."""
    other, third = free_port(), free_port()
    passing, returning, staying = (
        lab.start("answering", each, log=False) for each in (port, other, third)
    )
    with closing(Watch(use_docker=False)) as watch:
        watch.look()
        for server in (passing, returning):
            end(server)
        watch.look()
        returning = lab.start("answering", other, log=False)
        assert EventKind.RESPAWNED in {each.kind for each in watch.look()}
        end(returning)
        watch.look()

        monotonic = time.monotonic
        with monkeypatch.context() as later:
            later.setattr("time.monotonic", lambda: monotonic() + 2 * RESPAWN_SECONDS)
            watch.look()
        known = {each.request.port for each in watch.histories}

    assert staying.popen.poll() is None
    assert known & {port, other, third} == {other, third}
