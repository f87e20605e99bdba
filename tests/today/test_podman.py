"""Containers of today's podman, rootful and rootless, without its API: freed by their own podman.

Needs what `tests/today/make DIR` makes, and ULTRA_PORTS_TODAY=DIR; the network is the machine's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.ports import free_port, is_free
from tests.lab.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
CHECKOUT = HERE.parent.parent
QUIET = "PODMAN_IGNORE_CGROUPSV1_WARNING=1"
ROOT = ("env", "-i", "PATH=/usr/sbin:/usr/bin", "HOME=/root", "LANG=C.UTF-8", QUIET)
ALICE: tuple[str, ...] = ("setpriv", "--reuid=1500", "--regid=1500", "--clear-groups", *ROOT)
ALICE += ("HOME=/home/alice", "USER=alice", "XDG_RUNTIME_DIR=/run/user/1500")
SUDO = "sudo -u alice env XDG_RUNTIME_DIR=/run/user/1500 "
# The machine's cgroups are not podman's to change here
AS = {"root": (*ROOT, "podman", "run", "--cgroups=disabled"), "alice": (*ALICE, "podman", "run")}

pytestmark = pytest.mark.root


class Today:
    """The folder as the root of a mount namespace."""

    def __init__(self, pid: int) -> None:
        self.inside = ("nsenter", "-m", "-t", str(pid))

    def __call__(self, *argv: str, check: bool = True) -> str:
        done = subprocess.run([*self.inside, *argv], capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ultra(self, user: tuple[str, ...], *arguments: str) -> Any:  # noqa: ANN401 - JSON
        python = ("env", "PYTHONPATH=/checkout", "/opt/venv/bin/python", "-B", "-m", "resolver")
        return json.loads(self(*user, *python, *arguments, "--json", check=False))


@pytest.fixture(scope="module")
def today() -> Iterator[Today]:
    folder = os.environ["ULTRA_PORTS_TODAY"]
    enter = ["unshare", "-m", str(HERE / "enter"), folder, str(CHECKOUT)]
    with subprocess.Popen(enter, stdout=subprocess.PIPE, text=True) as sleeper:
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == "ready\n"
        found = Today(sleeper.pid)
        try:
            for user in (ROOT, ALICE):
                found(*user, "podman", "import", "/opt/image.tar", "box")
            yield found
        finally:
            for user in (ROOT, ALICE):
                found(*user, "podman", "pod", "rm", "--all", "--force", "--time=0", check=False)
                found(*user, "podman", "rm", "--all", "--force", "--time=0", check=False)
            found(*ALICE, "podman", "system", "migrate")  # ends what keeps its user namespace
            sleeper.kill()


def start(today: Today, user: str, name: str, port: int, *options: str) -> None:
    """A web server; as a container's first process it ignores SIGTERM, hence the short grace."""
    inner = str(port) if "host" in options else "80"
    today(*AS[user], "-d", "--name", name, "--stop-timeout=1", *options, "box",
          "httpd", "-f", "-p", inner)  # fmt: skip
    wait_until(lambda: not is_free(port), "the server is up")


KINDS = {
    "rootful": ("root", ()),
    "pasta": ("alice", ()),
    "rootlessport": ("alice", ("--network=slirp4netns:port_handler=rootlesskit",)),
    "slirp4netns": ("alice", ("--network=slirp4netns:port_handler=slirp4netns",)),
    "host": ("alice", ("--network", "host")),
    "another user inside": ("alice", ("--network", "host", "--user", "33")),
}
# What this user may not look into: root's processes, and, without cgroup v2, those of a subordinate
# user id of his
HIDDEN = {("rootful", "alice"), ("another user inside", "alice")}


@pytest.mark.parametrize("caller", ["root", "alice"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_container_is_stopped_by_its_own_podman(today: Today, kind: str, caller: str) -> None:
    user, options = KINDS[kind]
    port, name = free_port(), f"{caller}-{kind.replace(' ', '-')}"
    where = () if "host" in options else ("-p", f"{port}:80")
    start(today, user, name, port, *where, *options)

    report = today.ultra(ROOT if caller == "root" else ALICE, "resolve", str(port))

    if (kind, caller) in HIDDEN:
        assert (report["exit_status"], report["ports"][0]["verdict"]) == (4, "hidden"), report
        assert not is_free(port)
        return
    [holder] = report["ports"][0]["holders"]
    assert (report["exit_status"], report["ports"][0]["verdict"]) == (0, "freed"), report
    assert (holder["kind"], holder["container"]["name"]) == ("container", name)
    prefix = SUDO if caller != user else ""
    assert holder["step"]["commands"] == [f"{prefix}podman stop {name}"]
    assert holder["step"]["undo"] == [f"{prefix}podman start {name}"]
    assert is_free(port)


def test_a_pod_is_stopped_as_a_whole(today: Today) -> None:
    port = free_port()
    today(*ALICE, "podman", "pod", "create", "--name=shop", "-p", f"{port}:80")
    today(*AS["alice"], "-d", "--pod=shop", "--name=web", "--stop-timeout=1", "box",
          "httpd", "-f", "-p", "80")  # fmt: skip
    wait_until(lambda: not is_free(port), "the pod is up")

    report = today.ultra(ROOT, "resolve", str(port))

    [holder] = report["ports"][0]["holders"]
    assert report["exit_status"] == 0, report
    assert holder["step"]["commands"] == [f"{SUDO}podman pod stop shop"]
    assert "its members web" in [each["text"] for each in holder["collateral"]]
    assert is_free(port)


def test_what_was_execd_into_a_container_ends_alone(today: Today) -> None:
    port = free_port()
    today(*AS["alice"], "-d", "--name=toolbox", "--network=host", "box", "sleep", "600")
    today(*ALICE, "podman", "exec", "-d", "toolbox", "httpd", "-f", "-p", str(port))
    wait_until(lambda: not is_free(port), "the server is up")

    report = today.ultra(ALICE, "resolve", str(port))

    [holder] = report["ports"][0]["holders"]
    assert (report["exit_status"], holder["kind"]) == (0, "local"), report
    state = today(*ALICE, "podman", "inspect", "--format={{.State.Status}}", "toolbox")
    assert state.strip() == "running"


ROOTLESSPORT = ("--network=slirp4netns:port_handler=rootlesskit",)
ELSEWHERE = ("--root=/home/alice/elsewhere", "--runroot=/run/user/1500/elsewhere")


@pytest.mark.slow
def test_a_rootlessport_is_ended_once_nothing_is_behind_it(today: Today) -> None:
    """One misses its container's end; another's container is in a storage that is not asked."""
    port, other = free_port(), free_port()
    start(today, "alice", "ends", port, "-p", f"{port}:80", *ROOTLESSPORT)
    podman = (*ALICE, "podman", *ELSEWHERE)
    today(*podman, "import", "/opt/image.tar", "box")
    today(*podman, "run", "-d", "--name=stays", "-p", f"{other}:80", *ROOTLESSPORT, "box",
          "httpd", "-f", "-p", "80")  # fmt: skip
    wait_until(lambda: not is_free(other), "the other server is up")
    try:
        [holder] = today.ultra(ROOT, "who", str(port))["ports"][0]["holders"]
        os.kill(holder["processes"][0]["pid"], signal.SIGSTOP)
        today(*ALICE, "podman", "rm", "--force", "--time=0", "ends")

        def kind(asked: int) -> str:
            [found] = today.ultra(ROOT, "who", str(asked))["ports"][0]["holders"]
            return str(found["kind"])

        assert kind(port) == "forwarder", "an engine starts it before it lists its container"
        wait_until(lambda: kind(port) == "orphan", "it is older than a minute", 90)
        assert kind(other) == "forwarder"
        assert today.ultra(ROOT, "resolve", str(port))["exit_status"] == 0
        assert is_free(port)
    finally:
        today(*podman, "rm", "--all", "--force", "--time=0")
