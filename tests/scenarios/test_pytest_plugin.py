"""The pytest plug-in, in test runs of its own, with the real pytest and pytest-xdist."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.lab.cli import ultra
from tests.lab.ports import free_port, free_range, is_free

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.lab.processes import Lab

BINDING = """
import json, os, socket
import pytest

def bind(port, *, reuse=False, kind=socket.SOCK_STREAM):
    taken = socket.socket(socket.AF_INET, kind)
    if reuse:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(("", port))
    except OSError:
        taken.close()
        raise
    return taken

def note(**facts):
    line = json.dumps({"worker": os.environ.get("PYTEST_XDIST_WORKER"), **facts}) + "\\n"
    with open(os.environ["NOTES"], "a") as file:
        file.write(line)
"""


def environment() -> dict[str, str]:
    """That of a run which is no part of the one that this file is in.

    The plug-in is named on the command line: an entry point would load it twice.
    """
    ours = {each: text for each, text in os.environ.items() if not each.startswith("PYTEST_")}
    return {**ours, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


class Suite(NamedTuple):
    status: int
    text: str
    notes: list[Any]


@pytest.fixture
def suite(tmp_path: Path, lab: Lab) -> Callable[..., Suite]:
    """Runs a test file in a process of its own, with the plug-in."""

    def run(source: str, *options: str, plugin: bool = True) -> Suite:
        folder = tmp_path / "suite"
        folder.mkdir(exist_ok=True)
        (folder / "pytest.ini").write_text(
            "[pytest]\nstrict = true\nfilterwarnings = error\nultra_ports_wait_seconds = 20\n"
            if plugin
            else "[pytest]\n"
        )
        (folder / "test_suite.py").write_text(BINDING + source)
        notes = tmp_path / "notes"
        loaded = ("-p", "resolver.pytest_plugin") if plugin else ()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *loaded, *options],
            cwd=folder,
            env={**environment(), **lab.marked(), "NOTES": str(notes)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        lines = notes.read_text().splitlines() if notes.exists() else []
        return Suite(done.returncode, done.stdout, [json.loads(line) for line in lines])

    return run


WORKERS = ("-p", "xdist", "-n", "8")


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["wide", "narrow"])
def test_eight_workers_never_share_a_port(suite: Callable[..., Suite], pool: str) -> None:
    """64 tests bind their ports, while others bind theirs.

    In the narrow pool all workers look through the same few ports, from the first on. In the wide
    one, which everybody has, no number comes twice at all.
    """
    first = free_range(200)
    narrow = f"testing.POOL = (({first}, {first + 199}),)"
    done = suite(
        f"""
import time
from resolver.reservations import testing
{narrow if pool == "narrow" else ""}

@pytest.mark.parametrize("number", range(64))
def test_ports(number, free_port, reserved_port):
    begun = time.monotonic()
    with bind(free_port), bind(free_port, kind=socket.SOCK_DGRAM):
        with pytest.raises(OSError):
            bind(reserved_port)
        with bind(reserved_port, reuse=True) as server:
            server.listen()
            time.sleep(0.05)  # the others meanwhile look for theirs
    note(ports=[free_port, int(reserved_port)], begun=begun, ended=time.monotonic())
""",
        *WORKERS,
    )
    assert "64 passed" in done.text, done.text
    assert len({each["worker"] for each in done.notes}) == 8
    for one, other in itertools.combinations(done.notes, 2):
        at_once = one["begun"] < other["ended"] and other["begun"] < one["ended"]
        assert not (at_once and set(one["ports"]) & set(other["ports"])), (one, other)
    ports = [port for each in done.notes for port in each["ports"]]
    assert pool == "narrow" or len(set(ports)) == len(ports) == 128
    assert pool == "wide" or set(ports) <= {*range(first, first + 200)}
    assert ultra("reservations", "--json").json["reservations"] == []


@pytest.mark.slow
def test_workers_take_turns_with_one_port(suite: Callable[..., Suite]) -> None:
    """Were two of them to clear the same port at once, one would end the other's server."""
    port = free_port()
    done = suite(
        f"""
import subprocess, sys
SERVER = "import socket, sys; s = socket.create_server(('', {port})); print(flush=True); s.accept()"

@pytest.mark.parametrize("number", range(8))
def test_turns(number, clear_port):
    clear_port({port})
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE) as server:
        assert server.stdout.readline() == b"\\n"
        with socket.create_connection(("127.0.0.1", {port})) as client:
            assert client.recv(1) == b""
        assert server.wait() == 0
    note(done=number)
""",
        *("-p", "xdist", "-n", "4"),
    )
    assert "8 passed" in done.text, done.text
    assert sorted(each["done"] for each in done.notes) == list(range(8))


def test_a_free_port_can_be_bound_plainly(suite: Callable[..., Suite]) -> None:
    done = suite("""
def test_port(free_port):
    assert type(free_port) is int
    with bind(free_port), bind(free_port, kind=socket.SOCK_DGRAM):
        pass

@pytest.mark.parametrize("number", range(40))
def test_another(number, free_port):
    note(port=free_port)
""")
    assert "41 passed" in done.text, done.text
    ports = [each["port"] for each in done.notes]
    assert all(len(set(ports[at : at + 30])) == len(ports[at : at + 30]) for at in range(40))


def test_others_do_not_get_the_ports_of_a_test(suite: Callable[..., Suite]) -> None:
    done = suite(f"""
import subprocess

def test_ports(free_port, reserved_port):
    for port in (free_port, reserved_port):
        argv = [{sys.executable!r}, "-m", "resolver", "reserve", "api", str(int(port))]
        run = subprocess.run([*argv, "--ttl", "1m"], capture_output=True, text=True)
        note(status=run.returncode, said=run.stderr)
""")
    assert "1 passed" in done.text, done.text
    assert [each["status"] for each in done.notes] == [1, 1]
    assert all(
        re.search(r"reserved for main-\d of project pytest", each["said"]) for each in done.notes
    )


def test_a_reserved_port_can_be_let_go(suite: Callable[..., Suite]) -> None:
    done = suite("""
def test_port(reserved_port):
    assert reserved_port == int(reserved_port) and f"{reserved_port}".isdigit()
    with pytest.raises(OSError):
        bind(reserved_port)
    reserved_port.release()
    with bind(reserved_port):
        pass
""")
    assert "1 passed" in done.text, done.text


@pytest.mark.parametrize("how", ["fixture", "marker"])
def test_a_port_is_cleared(suite: Callable[..., Suite], lab: Lab, how: str) -> None:
    port = free_port()
    server = lab.start("answering", port)
    source = {
        "fixture": f"""
def test_port(clear_port):
    clear_port({port})
    with bind({port}):
        pass
""",
        "marker": f"""
@pytest.fixture
def server():
    with bind({port}) as server:
        yield server

@pytest.mark.clear_port({port}, grace_seconds=1)
def test_port(server):
    assert server.getsockname()[1] == {port}
""",
    }
    done = suite(source[how])
    assert "1 passed" in done.text, done.text
    assert not server.alive


def test_what_a_test_leaves_is_ended_after_it(suite: Callable[..., Suite]) -> None:
    port = free_port()
    done = suite(
        f"""
import sys
SERVER = "import socket, time; s = socket.create_server(('', {port})); time.sleep(600)"

@pytest.mark.clear_port({port})
def test_port():
    note(pid=os.spawnv(os.P_NOWAIT, sys.executable, ["python", "-c", SERVER]))
    while True:
        try:
            return socket.create_connection(("127.0.0.1", {port})).close()
        except ConnectionRefusedError:
            pass
""",
        *("-W", "default::pytest.PytestWarning"),
    )
    assert "1 passed, 1 warning" in done.text, done.text
    assert f"left by the test\n{port}/tcp freed" in done.text.replace("  ", "")
    assert str(done.notes[0]["pid"]) in done.text
    assert is_free(port)


def test_what_must_not_be_ended_after_a_test_is_an_error(suite: Callable[..., Suite]) -> None:
    port = free_port()
    done = suite(f"""
KEPT = []

@pytest.mark.clear_port({port})
def test_port():
    KEPT.append(socket.create_server(("", {port})))
""")
    assert "1 passed, 1 error" in done.text, done.text
    assert f"not free after the test\n{port}/tcp still held" in done.text


def test_a_port_that_must_not_be_freed_fails_the_test(suite: Callable[..., Suite]) -> None:
    """Its holder is the test run itself."""
    done = suite("""
def test_port(clear_port, free_port):
    with bind(free_port) as server:
        server.listen()
        clear_port(free_port)
""")
    assert "1 failed" in done.text, done.text
    assert "not free before the test" in done.text


@pytest.mark.parametrize("arguments", ["", "'nobody'", "70000", "'8085/tcp', mood=1"])
def test_what_makes_no_sense_fails_the_test(suite: Callable[..., Suite], arguments: str) -> None:
    done = suite(f"""
def test_port(clear_port):
    clear_port({arguments})
""")
    assert "1 failed" in done.text, done.text
    assert "clear_port: " in done.text
    assert "Traceback" not in done.text


def test_a_state_directory_that_cannot_be_written(
    suite: Callable[..., Suite], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ULTRA_PORTS_STATE", str(tmp_path / "file" / "state"))
    done = suite(
        """
@pytest.mark.parametrize("number", range(4))
def test_port(number, free_port):
    note(port=free_port)
""",
        *("-p", "xdist", "-n", "2", "--basetemp", str(tmp_path / "base")),
    )
    assert "4 passed" in done.text, done.text
    assert len({each["port"] for each in done.notes}) == 4
    assert (tmp_path / "base" / "ultra-ports").exists()


def test_nothing_is_loaded_that_is_not_used(suite: Callable[..., Suite], state: Path) -> None:
    done = suite("""
import sys

def test_nothing():
    note(loaded=sorted(name for name in sys.modules if name.startswith("resolver.")))
""")
    assert "1 passed" in done.text, done.text
    assert done.notes[0]["loaded"] == ["resolver.pytest_plugin"]
    assert not state.exists()


def test_the_plug_in_is_found_by_its_entry_point(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--fixtures", "-q", "-p", "no:cacheprovider"],
        env=environment() | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "clear_port -- " in done.stdout, done.stdout
