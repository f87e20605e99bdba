"""How local servers end: at once, slowly, against their will, by themselves, or not for long."""

from __future__ import annotations

import os
import re
import select
import signal
import time
from typing import TYPE_CHECKING, Any

import psutil

from tests.lab.cli import reported, ultra
from tests.lab.ports import free_port, is_free
from tests.lab.processes import alive, answered_by, running, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.processes import Lab

QUICK = ("--json", "--grace", "1", "--settle", "0.3")


def actions(holder: dict[str, Any]) -> str:
    return "\n".join(holder["outcome"]["actions"])


def test_sigterm_ignored(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port, "--ignore")
    began = time.monotonic()

    run = ultra("resolve", str(port), *QUICK)

    [holder] = run.port(f"{port}/tcp")["holders"]
    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "freed")
    assert time.monotonic() - began >= 1.0, "the grace was cut short"
    assert "SIGTERM" in actions(holder)
    assert "SIGKILL" in actions(holder)
    reason = run.port(f"{port}/tcp")["reason"]
    assert re.fullmatch(r"killed after \d+\.\d s: it did not end within 1 s", reason)
    assert server.signals() == ["SIGTERM"]
    assert not server.alive
    assert server.popen.returncode == -signal.SIGKILL
    assert lab.frees(port)


def test_a_slow_graceful_stop_keeps_its_data(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    data = tmp_path / "data"
    server = lab.start("answering", port, "--slow", "1.5", "--file", str(data))

    run = ultra("resolve", str(port), "--json", "--settle", "0.3")

    assert data.read_text(encoding="utf-8") == "all data\n"
    [holder] = run.port(f"{port}/tcp")["holders"]
    assert (run.status, holder["outcome"]["result"]) == (0, "done")
    assert "SIGKILL" not in actions(holder)
    assert server.signals() == ["SIGTERM"]
    assert not server.alive
    assert lab.frees(port)


def test_force_asks_nobody(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    data = tmp_path / "data"
    server = lab.start("answering", port, "--file", str(data))

    run = ultra("resolve", str(port), "--json", "--force", "--settle", "0.3")

    [holder] = run.port(f"{port}/tcp")["holders"]
    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "freed")
    assert "SIGKILL" in actions(holder)
    assert "SIGTERM" not in actions(holder)
    assert re.fullmatch(r"killed after \d+\.\d s", run.port(f"{port}/tcp")["reason"])
    assert not server.alive
    assert server.signals() == []
    assert not data.exists()
    assert lab.frees(port)


def test_force_ends_a_whole_prefork_family(lab: Lab) -> None:
    port = free_port()
    master = lab.start("prefork", port)

    run = ultra("resolve", str(port), "--json", "--force", "--settle", "0.3")

    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "freed")
    assert master.events() == []
    assert lab.frees(port)


def test_a_worker_that_outlives_its_master_ends_too(lab: Lab) -> None:
    port = free_port()
    master = lab.start("prefork", port, "--forgets")

    run = ultra("resolve", str(port), *QUICK)

    reported(run, port, 0, "freed")
    assert master.events()[0]["role"] == "master"
    assert not master.alive
    assert not any(alive(worker) for worker in master.facts["workers"])
    assert lab.frees(port)


def test_workers_that_their_master_left_long_ago(lab: Lab) -> None:
    port = free_port()
    master = lab.start("prefork", port, "--forgets")
    os.kill(master.pid, signal.SIGTERM)
    wait_until(lambda: not master.alive, "the master is gone")
    workers = master.facts["workers"]
    assert all(alive(worker) for worker in workers)

    run = ultra("resolve", str(port), *QUICK)

    report = reported(run, port, 0, "freed")
    owners = {process["pid"] for holder in report["holders"] for process in holder["processes"]}
    assert owners == set(workers)
    assert lab.frees(port)


def test_an_orphan(lab: Lab) -> None:
    port = free_port()
    orphan = lab.start("orphan", port)
    wait_until(lambda: orphan.popen.poll() == 0, "the parent is gone")

    run = ultra("resolve", str(port), *QUICK)

    report = reported(run, port, 0, "freed")
    [holder] = report["holders"]
    assert [process["pid"] for process in holder["processes"]] == [orphan.pid]
    assert holder["processes"][0]["parent"] == orphan.facts["parent"]
    assert orphan.signals() == ["SIGTERM"]
    assert not orphan.alive
    assert lab.frees(port)


def test_a_stopped_process_ends_gracefully(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    data = tmp_path / "data"
    server = lab.start("answering", port, "--file", str(data))
    os.kill(server.pid, signal.SIGSTOP)
    stopped = psutil.Process(server.pid)
    wait_until(lambda: stopped.status() == psutil.STATUS_STOPPED, "it is stopped")

    run = ultra("resolve", str(port), "--json", "--settle", "0.3")

    [holder] = run.port(f"{port}/tcp")["holders"]
    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "freed")
    assert server.signals() == ["SIGTERM"]
    assert data.exists(), "its SIGTERM handler did not run"
    assert "SIGKILL" not in actions(holder)
    assert not server.alive
    assert lab.frees(port)


def test_a_stopped_prefork_family_ends_gracefully(lab: Lab) -> None:
    port = free_port()
    master = lab.start("prefork", port)
    family = [psutil.Process(pid) for pid in (*master.facts["workers"], master.pid)]
    for process in family:  # as Ctrl-Z does
        process.suspend()
    wait_until(lambda: {p.status() for p in family} == {psutil.STATUS_STOPPED}, "all are stopped")

    run = ultra("resolve", str(port), "--json", "--settle", "0.3")

    [holder] = run.port(f"{port}/tcp")["holders"]
    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "freed")
    assert "SIGKILL" not in actions(holder)
    assert sorted(event["pid"] for event in master.events()) == sorted(p.pid for p in family)
    assert lab.frees(port)


def test_a_child_that_nobody_reaps_does_not_hold_the_port(lab: Lab) -> None:
    port = free_port()
    parent = lab.start("zombie", port)
    began = time.monotonic()

    run = ultra("resolve", str(port), "--json", "--grace", "20", "--settle", "0.3")

    [holder] = run.port(f"{port}/tcp")["holders"]
    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "freed")
    assert time.monotonic() - began < 10.0, "it waited for a zombie"
    assert "SIGKILL" not in actions(holder)
    assert psutil.Process(parent.facts["child"]).status() == psutil.STATUS_ZOMBIE
    assert parent.alive
    assert lab.frees(port, parent)


def test_the_port_of_a_zombie_is_free(lab: Lab) -> None:
    port = free_port()
    parent = lab.start("zombie", port)
    zombie = psutil.Process(parent.facts["child"])
    zombie.kill()
    wait_until(lambda: zombie.status() == psutil.STATUS_ZOMBIE, "the child is a zombie")

    run = ultra("resolve", str(port), *QUICK)

    report = run.port(f"{port}/tcp")
    assert (run.status, report["verdict"], report["holders"]) == (0, "free", [])
    assert parent.alive


def test_a_server_that_ends_by_itself_during_the_grace(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port, "--ignore", "--exit-after", "1.5")

    run = ultra("resolve", str(port), "--json", "--grace", "20", "--settle", "0.3")

    [holder] = run.port(f"{port}/tcp")["holders"]
    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "freed")
    assert "SIGKILL" not in actions(holder)
    assert not server.alive
    assert lab.frees(port)


def test_a_server_that_vanishes_before_it_is_signalled(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)
    with running("resolve", str(port), "--interactive", *QUICK) as popen:
        assert popen.stderr is not None
        asked, _, _ = select.select([popen.stderr], [], [], 20.0)
        assert asked, "it asked nothing"
        os.kill(server.pid, signal.SIGKILL)
        server.popen.wait(10)
        stdout, stderr = popen.communicate("y\n", timeout=20)

    assert popen.returncode == 0, stdout + stderr
    assert "Traceback" not in stderr
    assert '"gone"' in stdout
    assert lab.frees(port)


def test_ctrl_c_during_a_long_grace(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port, "--ignore")
    with running("resolve", str(port), "--grace", "60") as popen:
        wait_until(lambda: server.signals() == ["SIGTERM"], "the server is asked to end")
        popen.send_signal(signal.SIGINT)
        _, stderr = popen.communicate(timeout=10)

    assert popen.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert any("SIGTERM" in line and str(server.pid) in line for line in stderr.splitlines())
    assert server.alive
    assert server.signals() == ["SIGTERM"]


def test_ctrl_c_before_anything_was_done(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)
    with running("resolve", str(port), "--interactive") as popen:
        assert popen.stderr is not None
        asked, _, _ = select.select([popen.stderr], [], [], 20.0)
        assert asked, "it asked nothing"
        popen.send_signal(signal.SIGINT)
        _, stderr = popen.communicate(timeout=10)

    assert popen.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "nothing" in stderr
    assert answered_by(port) == server.pid
    assert server.signals() == []


def test_a_server_that_gives_up_its_port_and_lives_on(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port, "--ignore", "--close-on-term")

    run = ultra("resolve", str(port), "--json", "--grace", "2", "--settle", "0.3")

    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "freed")
    assert server.signals()[0] == "SIGTERM"
    assert is_free(port)
