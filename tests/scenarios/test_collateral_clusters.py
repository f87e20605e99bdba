"""Brokers, schedulers and notebooks: what others have in them, with the real programs."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.lab import known
from tests.lab.cli import ultra
from tests.lab.ports import free_port, is_free, is_served
from tests.lab.processes import alive, wait_until
from tests.lab.pypi import install

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.processes import Lab

pytestmark = pytest.mark.slow

SLOW_START = 60.0  # seconds; RabbitMQ and what reads all of PyPI's packages, on a busy machine
# Rank 0 serves a port; the others compute
RANK = """\
import os, socket, sys, time
if os.environ['OMPI_COMM_WORLD_RANK'] == '0':
    listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))
time.sleep(600)
"""
# A notebook whose only cell serves a port
NOTEBOOK = """\
import marimo
app = marimo.App()

@app.cell
def _():
    import socket
    listener = socket.create_server(('127.0.0.1', {port}))
    return
"""
# What a browser does that opens marimo's editor, and stays: it runs the notebook
BROWSER = """\
import json, re, sys, urllib.request
from websockets.sync.client import connect
where, notebook = sys.argv[1:]
page = urllib.request.urlopen(f'http://{where}/').read().decode()
token = re.search(r'"serverToken": "([^"]+)"', page)[1]
with connect(f'ws://{where}/ws?session_id=s_lab000&file={notebook}') as socket:
    socket.recv()
    headers = {'Content-Type': 'application/json', 'Marimo-Server-Token': token}
    headers['Marimo-Session-Id'] = 's_lab000'
    body = json.dumps({'objectIds': [], 'values': [], 'autoRun': True}).encode()
    run = urllib.request.Request(f'http://{where}/api/kernel/instantiate', body, headers)
    urllib.request.urlopen(run)
    for _ in socket:
        pass
"""


def serves(port: int) -> None:
    wait_until(lambda: is_served(port), f"{port} is served", SLOW_START)


def judged(port: int, *options: str) -> tuple[int, Any]:
    """The exit status, and what is said of the port's holder (epmd has two addresses)."""
    run = ultra("resolve", "--json", "--no-docker", "--settle", "0.3", *options, str(port))
    holder, *_ = run.port(f"{port}/tcp")["holders"]
    return run.status, holder


def refused(port: int, kind: str) -> str:
    """Asserts that nothing is touched for a loss of that kind; what is said of it."""
    status, holder = judged(port)
    losses = [each for each in holder["collateral"] if each["degree"] == "refused"]
    assert (status, [each["kind"] for each in losses]) == (3, [kind]), holder
    assert not is_free(port)
    text: str = losses[0]["text"]
    return text


def accepted(port: int) -> None:
    status, holder = judged(port, "--accept-loss")
    assert status == 0, holder
    assert "SIGKILL" not in " ".join(holder["outcome"]["actions"])


def test_a_broker_goes_down_with_its_consumers(lab: Lab, tmp_path: Path) -> None:
    """It is asked once, shuts down its own way, and nobody kills it."""
    port = free_port()
    program = known.rabbitmq(port, tmp_path)
    node = known.run(lab, program)
    serves(port)
    url = ("--url", f"amqp://guest:guest@127.0.0.1:{port}")
    declare = (known.real("amqp-declare-queue"), *url, "-q", "jobs", "-d")
    wait_until(lambda: subprocess.run(declare, check=False).returncode == 0, "it takes queues")
    consumer = lab.command(known.real("amqp-consume"), *url, "-q", "jobs", "cat")
    who = f"RabbitMQ with 1 client (amqp-consume {consumer.pid})"
    wait_until(lambda: who in ultra("who", "--no-docker", str(port)).stdout, "it consumes")
    register = int(dict(program.env)["ERL_EPMD_PORT"])
    assert re.search(r"1 client \(beam\.smp \d+\)$", refused(register, "registrants"))

    status, holder = judged(port)

    assert status == 0, holder
    [other, data, memory] = holder["collateral"]
    assert other["text"] == f"{dict(program.env)['RABBITMQ_DIST_PORT']}/tcp"
    assert (data["text"], memory["text"]) == (who, "what it keeps in memory alone")
    name = dict(program.env)["RABBITMQ_NODENAME"]
    assert data["commands"] == [["rabbitmqctl", "-n", name, "shutdown"]]
    [asked] = holder["outcome"]["actions"]
    assert asked.startswith("SIGTERM to beam.smp ")
    assert holder["step"]["undo"] == []  # beam.smp does not start by the words that erl gave it
    assert node.wait(SLOW_START) == 0
    [log] = (tmp_path / "log").glob(f"{name}.log")
    assert "SIGTERM received - shutting down" in log.read_text()
    assert "msg_store_persistent' is stopped" in log.read_text()
    assert judged(register)[0] == 0, "nobody is registered any more"


def test_a_rank_and_its_computation(lab: Lab, tmp_path: Path) -> None:
    """What mpirun started ends as a whole, be it a rank that ends or mpirun itself."""
    for first in (False, True):
        port, own = free_port(), free_port()
        (tmp_path / "rank.py").write_text(RANK)
        words = (*known.MPIRUN, *known.listening_on(own), "-n", "3")
        serve = (sys.executable, str(tmp_path / "rank.py"), str(port))
        mpirun = lab.command(*words, *serve, env={"TMPDIR": str(tmp_path)})
        serves(port)
        ranks = {each.pid for each in psutil.Process(mpirun.pid).children()}

        rank, coordinator = refused(port, "siblings"), refused(own, "state")

        assert rank.startswith(f"what mpirun {mpirun.pid} runs beside it: ")
        named = {int(pid) for pid in re.findall(r"python\S* (\d+)", rank)}
        assert (len(named), named < ranks) == (2, True)
        assert coordinator == "the computation of all the processes that it coordinates"
        accepted(port if first else own)
        mpirun.wait(SLOW_START)
        wait_until(lambda: not lab.processes(), "all ranks have ended")


def test_a_scheduler_and_its_workers(lab: Lab, tmp_path: Path) -> None:
    """A worker's nanny starts it again, and is ended with it; then the scheduler has nobody."""
    port, worker, nanny = free_port(), free_port(), free_port()
    known.run(lab, known.dask_scheduler(port, tmp_path))
    serves(port)
    where = ("--host", "127.0.0.1", "--worker-port", str(worker), "--nanny-port", str(nanny))
    one = ("--nworkers", "1", "--no-dashboard")
    words = (f"tcp://127.0.0.1:{port}", *where, *one)
    dask = lab.command(
        str(install("distributed", "dask")), "worker", *words, env=known.dask_places(tmp_path)
    )
    serves(worker)
    with_worker = "those who are connected to it, with "
    told = partial(ultra, "who", "--no-docker", str(port))
    wait_until(lambda: with_worker in told().stdout, "it is registered")

    assert refused(port, "registrants").startswith(with_worker)
    status, holder = judged(worker)

    assert (status, holder["chain"][0]) == (0, f"dask {dask.pid}"), holder
    assert f"{nanny}/tcp" in [each["text"] for each in holder["collateral"]]
    assert "SIGKILL" not in " ".join(holder["outcome"]["actions"])
    assert dask.wait(SLOW_START) is not None
    assert judged(port)[0] == 0, "no worker is left"


def test_a_notebook_of_marimo(lab: Lab, tmp_path: Path) -> None:
    """The kernel is a process of its own, whose command line is multiprocessing's."""
    port, served = free_port(), free_port()
    program = known.marimo(port, tmp_path)
    (tmp_path / "notebook.py").write_text(NOTEBOOK.format(port=served))
    editor = known.run(lab, program)
    serves(port)
    python = install("marimo").with_name("python")
    browser = (str(python), "-c", BROWSER, f"127.0.0.1:{port}", str(tmp_path / "notebook.py"))
    lab.command(*browser)
    serves(served)

    kernels = {refused(served, "state"), refused(port, "state")}

    [kernel] = kernels
    match = re.fullmatch(r"the notebook kernel (\d+) with all its variables", kernel)
    assert match
    assert psutil.Process(int(match[1])).ppid() == editor.pid
    accepted(port)
    assert not alive(int(match[1]))


def test_a_kernel_in_an_environment_of_its_own(lab: Lab, tmp_path: Path) -> None:
    """A stand-in by its module: marimo would have to install itself there first."""
    port = free_port()
    package = tmp_path / "marimo" / "_ipc"
    package.mkdir(parents=True)
    (package / "launch_kernel.py").write_text(known.ECHO)
    words = ("-m", "marimo._ipc.launch_kernel", str(port))
    kernel = lab.command(sys.executable, *words, env={"PYTHONPATH": str(tmp_path)})
    serves(port)

    assert refused(port, "state") == f"the notebook kernel {kernel.pid} with all its variables"
