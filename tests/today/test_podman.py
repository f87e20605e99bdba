"""Containers of podman as it is today, without its API socket, freed by their own podman."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.lab.ports import free_port, is_free
from tests.lab.processes import wait_until

if TYPE_CHECKING:
    from tests.today.conftest import User

    Users = dict[str, User]

SUDO = "sudo -u alice env XDG_RUNTIME_DIR=/run/user/1500 "
SERVE = ("box", "httpd", "-f", "-p", "80")

pytestmark = pytest.mark.root


def start(user: User, name: str, port: int, *options: str) -> None:
    """A web server; as a container's first process it ignores SIGTERM, hence the short grace."""
    inner = str(port) if "host" in options else "80"
    user("podman", "run", "-d", "--name", name, "--stop-timeout=1", *options, *SERVE[:-1], inner)
    wait_until(lambda: not is_free(port), "the server is up")


KINDS = {
    "rootful": ("root", ()),
    "pasta": ("alice", ()),
    "rootlessport": ("alice", ("--network=slirp4netns:port_handler=rootlesskit",)),
    "slirp4netns": ("alice", ("--network=slirp4netns:port_handler=slirp4netns",)),
    "host": ("alice", ("--network", "host")),
    "another user inside": ("alice", ("--network", "host", "--user", "33")),
}
# What this user may not look into: root's processes, and, without a cgroup of its own, those of a
# subordinate user id of his
HIDDEN = {("rootful", "alice"), ("another user inside", "alice")}


@pytest.mark.parametrize("caller", ["root", "alice"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_container_is_stopped_by_its_own_podman(users: Users, kind: str, caller: str) -> None:
    user, options = KINDS[kind]
    port, name = free_port(), f"{caller}-{kind.replace(' ', '-')}"
    where = () if "host" in options else ("-p", f"{port}:80")
    start(users[user], name, port, *where, *options)

    report = users[caller].ultra("resolve", str(port))

    if (kind, caller) in HIDDEN:
        assert (report["exit_status"], report["ports"][0]["verdict"]) == (4, "hidden"), report
        assert not is_free(port)
        return
    [holder] = report["ports"][0]["holders"]
    assert (report["exit_status"], report["ports"][0]["verdict"]) == (0, "freed"), report
    assert (holder["kind"], holder["container"]["name"]) == ("container", name)
    prefix = SUDO if caller != user else ""
    assert holder["step"]["command_lines"] == [f"{prefix}podman stop {name}"]
    assert holder["step"]["undo_lines"] == [f"{prefix}podman start {name}"]
    assert is_free(port)


@pytest.mark.parametrize("caller", ["root", "alice"])
def test_a_pod_is_stopped_as_a_whole(users: Users, caller: str) -> None:
    port, alice, shop = free_port(), users["alice"], f"shop-of-{caller}"
    alice("podman", "pod", "create", f"--name={shop}", "-p", f"{port}:80")
    alice("podman", "run", "-d", f"--pod={shop}", f"--name={shop}-web", "--stop-timeout=1", *SERVE)
    wait_until(lambda: not is_free(port), "the pod is up")

    report = users[caller].ultra("resolve", str(port))

    [holder] = report["ports"][0]["holders"]
    assert report["exit_status"] == 0, report
    prefix = "" if caller == "alice" else SUDO
    assert holder["step"]["command_lines"] == [f"{prefix}podman pod stop {shop}"]
    assert f"its members {shop}-web" in [each["text"] for each in holder["collateral"]]
    assert is_free(port)


def test_what_was_execd_into_a_container_ends_alone(users: Users) -> None:
    port, alice = free_port(), users["alice"]
    alice("podman", "run", "-d", "--name=toolbox", "--network=host", "box", "sleep", "600")
    alice("podman", "exec", "-d", "toolbox", "httpd", "-f", "-p", str(port))
    wait_until(lambda: not is_free(port), "the server is up")

    report = alice.ultra("resolve", str(port))

    [holder] = report["ports"][0]["holders"]
    assert (report["exit_status"], holder["kind"]) == (0, "local"), report
    assert alice("podman", "inspect", "--format={{.State.Status}}", "toolbox") == "running"


ROOTLESSPORT = ("--network=slirp4netns:port_handler=rootlesskit",)
ELSEWHERE = ("--root=/home/alice/elsewhere", "--runroot=/run/user/1500/elsewhere")


@pytest.mark.slow
def test_a_rootlessport_is_ended_once_nothing_is_behind_it(users: Users) -> None:
    """One misses its container's end; another's container is in a storage that is not asked."""
    port, other, alice, root = free_port(), free_port(), users["alice"], users["root"]
    start(alice, "ends", port, "-p", f"{port}:80", *ROOTLESSPORT)
    elsewhere = ("podman", *ELSEWHERE)
    alice(*elsewhere, "import", "/opt/image.tar", "box")
    alice(*elsewhere, "run", "-d", "--name=stays", "-p", f"{other}:80", *ROOTLESSPORT, *SERVE)
    wait_until(lambda: not is_free(other), "the other server is up")
    try:
        [holder] = root.ultra("who", str(port))["ports"][0]["holders"]
        os.kill(holder["processes"][0]["pid"], signal.SIGSTOP)
        alice("podman", "rm", "--force", "--time=0", "ends")

        def kind(asked: int) -> str:
            [found] = root.ultra("who", str(asked))["ports"][0]["holders"]
            return str(found["kind"])

        assert kind(port) == "forwarder", "an engine starts it before it lists its container"
        wait_until(lambda: kind(port) == "orphan", "it is older than a minute", 90)
        assert kind(other) == "forwarder"
        assert root.ultra("resolve", str(port))["exit_status"] == 0
        assert is_free(port)
    finally:
        alice(*elsewhere, "rm", "--all", "--force", "--time=0")
