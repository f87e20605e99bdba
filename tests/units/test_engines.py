"""Which engine is asked, and how containers are read from its answers."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec import ValidationError, convert

from resolver.classify import container, orphan
from resolver.gather import engines
from resolver.gather.containers import Details, ListedContainer, container_of
from resolver.gather.engine_files import ways_to_engine
from resolver.host.docker_config import DEFAULT_ENDPOINT
from resolver.host.runner import run_command
from resolver.model import (
    AdviseStep,
    Container,
    EngineState,
    Holder,
    Pid,
    Policy,
    Process,
    ProcessIdentity,
    Snapshot,
    SocketState,
)
from resolver.strategies.choose import choose

if TYPE_CHECKING:
    from collections.abc import Iterator

ID = "0123456789abcdef" * 4


def parse_container(endpoint: str, row: object, details: object, rows: object) -> Container:
    """A container from what an engine answers."""
    known = convert(rows, list[ListedContainer])
    return container_of(endpoint, convert(row, ListedContainer), convert(details, Details), known)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty configuration folder, and none of the variables that choose an engine."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


def add_context(config: Path, name: str, host: str) -> None:
    folder = config / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    folder.mkdir(parents=True)
    meta = {"Name": name, "Endpoints": {"docker": {"Host": host}}}
    (folder / "meta.json").write_text(json.dumps(meta))


def test_the_default_socket(config: Path) -> None:
    assert engines.chosen_engine().endpoint == DEFAULT_ENDPOINT
    assert not list(config.iterdir())


def test_docker_host_comes_first(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_context(config, "far", "ssh://far")
    monkeypatch.setenv("DOCKER_CONTEXT", "far")
    assert engines.chosen_engine().endpoint == "ssh://far"
    monkeypatch.setenv("DOCKER_HOST", "tcp://docker:2375")
    assert engines.chosen_engine().endpoint == "tcp://docker:2375"


def test_the_current_context(config: Path) -> None:
    add_context(config, "rootless", "unix:///run/user/1000/docker.sock")
    (config / "config.json").write_text('{"currentContext": "rootless"}')
    assert engines.chosen_engine().endpoint == "unix:///run/user/1000/docker.sock"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", *(f'{{"currentContext": {each}}}' for each in ("3", "null", '""'))],
)
def test_a_damaged_configuration_is_no_reason_to_fail(config: Path, text: str) -> None:
    (config / "config.json").write_text(text)
    assert engines.chosen_engine().endpoint == DEFAULT_ENDPOINT
    assert engines.chosen_engine().error is None


@pytest.mark.parametrize("variable", [True, False])
def test_a_context_that_is_missing_is_said_and_no_other_is_asked_in_its_place(
    config: Path, monkeypatch: pytest.MonkeyPatch, *, variable: bool
) -> None:
    if variable:
        monkeypatch.setenv("DOCKER_CONTEXT", "gone")
    else:
        (config / "config.json").write_text('{"currentContext": "gone"}')
    names_it = "DOCKER_CONTEXT" if variable else f"{config}/config.json"
    listed = "`docker context ls` lists them"
    why = f"docker context 'gone': there is no such context ({names_it} names it, {listed})"
    found = engines.chosen_engine()
    assert (found.endpoint, found.error, found.asked) == ("context gone", why, False)
    assert found.silent
    assert engines.client(DEFAULT_ENDPOINT) == ("docker", "-H", DEFAULT_ENDPOINT)


@pytest.mark.parametrize(
    "text",
    ["", "[" * 100_000, "[]", "{}", '{"Endpoints": {}}', '{"Endpoints": {"docker": {"Host": 3}}}'],
)
def test_a_context_that_is_damaged(
    config: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    add_context(config, "lab", "ssh://far")
    (meta,) = config.glob("contexts/meta/*/meta.json")
    meta.write_text(text)
    monkeypatch.setenv("DOCKER_CONTEXT", "lab")
    error = engines.chosen_engine().error or ""
    assert error.startswith(f"docker context 'lab': {meta} is damaged: ")
    assert "\n" not in error


def test_a_context_without_a_host_is_the_default_engine(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_context(config, "lab", "")
    monkeypatch.setenv("DOCKER_CONTEXT", "lab")
    assert engines.chosen_engine().endpoint == DEFAULT_ENDPOINT


def test_contexts_in_the_working_directory_are_nobodys(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK looks there where there is no config.json."""
    add_context(tmp_path / "project", "lab", "tcp://strangers:1")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("DOCKER_CONTEXT", "lab")
    assert not list(config.glob("contexts"))
    assert engines.chosen_engine().endpoint == "context lab"


@pytest.mark.root
def test_a_context_that_a_stranger_made_is_not_believed(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_context(config, "lab", "tcp://strangers:1")
    (meta,) = config.glob("contexts/meta/*/meta.json")
    os.chown(meta, 65533, 65533)
    monkeypatch.setenv("DOCKER_CONTEXT", "lab")
    why = f"docker context 'lab': {meta} is no file of this user's or root's"
    assert engines.chosen_engine().error == why


@contextmanager
def listening(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        yield


def dockerd(*options: str) -> Process:
    """A dockerd that was started like this; it lives in our root directory, as this test does."""
    command = ("/usr/sbin/dockerd", *options)
    return Process(ProcessIdentity(Pid(os.getpid()), 0), "dockerd", command)


def test_every_socket_that_exists_is_asked_once(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    alias, file = tmp_path / "alias.sock", tmp_path / "no.sock"
    file.touch()
    with listening(tmp_path / "docker.sock"), listening(tmp_path / "podman" / "podman.sock"):
        alias.symlink_to(tmp_path / "docker.sock")
        daemons = [dockerd("-H", f"unix://{alias}"), dockerd(f"--host=unix://{file}")]
        found = [each.endpoint for each in engines.known_engines(daemons)]
    assert found[0] == "unix:///nonexistent.sock"  # asked all the same: its absence is worth a word
    assert found[1] == f"unix://{alias}"
    assert f"unix://{tmp_path}/podman/podman.sock" in found
    assert f"unix://{tmp_path}/docker.sock" not in found
    assert f"unix://{file}" not in found
    assert config.is_dir()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), ["/var/run/docker.sock"]),
        (("-H", "fd://"), ["/var/run/docker.sock"]),
        (("-Hunix:///a.sock",), ["/a.sock"]),
        (("-H=unix:///a.sock", "--host", "unix:///b.sock"), ["/a.sock", "/b.sock"]),
        (("--debug", "--host=unix:///a.sock"), ["/a.sock"]),
    ],
)
def test_where_a_daemon_listens(options: tuple[str, ...], found: list[str]) -> None:
    told = engines.daemon_sockets([dockerd(*options)])
    assert [str(path) for path in told] == found


def test_a_daemon_in_another_root_directory(tmp_path: Path) -> None:
    """Such as docker in a container on the host's network: its socket is seen through /proc."""
    if os.geteuid() != 0:
        pytest.skip("chroot needs root")
    sleeper = "import os, sys; os.chroot(sys.argv[1]); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", sleeper, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as popen:
        assert popen.stdout is not None
        popen.stdout.readline()
        inner = Process(ProcessIdentity(Pid(popen.pid), 0), "dockerd", ("dockerd",))
        with listening(tmp_path / "var" / "run" / "docker.sock"):
            (path,) = engines.daemon_sockets([inner])
            assert path == f"/proc/{popen.pid}/root/var/run/docker.sock"
            assert Path(path).is_socket()
        popen.kill()


def test_the_command_line_that_reaches_an_engine(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_context(config, "far", "ssh://far")
    monkeypatch.setenv("DOCKER_CONTEXT", "far")
    assert engines.client("ssh://far") == ("docker",)
    default = ("docker", "-H", DEFAULT_ENDPOINT)
    assert engines.client(DEFAULT_ENDPOINT) == default
    podman = "unix:///run/podman/podman.sock"
    assert engines.client(podman) == ("podman", "--url", podman)


@pytest.mark.parametrize(
    "mount",
    [  # recorded: Docker 20.10 here; Podman 4.3, rootless, from its storage's layout
        f"9 8 254:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /d rw",
        f"9 8 0:2 /containers/overlay-containers/{ID}/userdata/hosts /etc/hosts rw - tmpfs t rw",
    ],
)
def test_our_own_container_in_mountinfo(mount: str) -> None:
    other = "f" * 64
    borrowed = (
        f"7 8 254:1 /var/lib/docker/containers/{other}/a.log /logs/a.log ro - ext4 /dev/vda rw"
    )
    assert engines.mounted_container_id(f"{borrowed}\n{mount}\n") == ID
    assert engines.mounted_container_id(borrowed) is None


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (f"/docker/{ID}", ID),
        (f"/system.slice/docker-{ID}.scope", ID),
        (f"/machine.slice/libpod-{ID}.scope/container", ID),
        (f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", ID),
        ("/system.slice/nginx.service", None),
        (f"/a{ID}", None),
        ("/", None),
    ],
)
def test_the_container_in_a_cgroup_path(path: str, found: str | None) -> None:
    assert engines.container_id_in(path) == found


def row(**changes: object) -> dict[str, object]:
    """An entry of `GET /containers/json`, as Engine 20.10 answers (API 1.41)."""
    return {
        "Id": ID,
        "Names": ["/other/alias", "/web-1"],
        "Image": "web:1",
        "State": "running",
        "HostConfig": {"NetworkMode": "default"},
        "Ports": [
            {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8085, "Type": "tcp"},
            {"IP": "::", "PrivatePort": 80, "PublicPort": 8085, "Type": "tcp"},
            {"PrivatePort": 9000, "Type": "tcp"},
            {"IP": "0.0.0.0", "PrivatePort": 5, "PublicPort": 5, "Type": "sctp"},
        ],
        **changes,
    }


DETAILS = {
    "HostConfig": {
        "NetworkMode": "default",
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
        "PortBindings": {
            "80/tcp": [{"HostIp": "", "HostPort": "8085"}],
            "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5300"}],
            "81/tcp": [{"HostIp": "", "HostPort": ""}],
            "82/tcp": None,
        },
    },
    "Config": {"Labels": {"com.docker.compose.project": "shop"}, "StopTimeout": 30},
}


def test_a_running_container() -> None:
    found = parse_container("unix:///e.sock", row(), DETAILS, [row()])
    assert [str(binding) for binding in found.published] == ["0.0.0.0:8085/tcp", "[::]:8085/tcp"]
    assert (found.name, found.image, found.restart_policy) == ("web-1", "web:1", "on-failure:3")
    assert (found.stop_timeout_seconds, found.auto_remove) == (30, False)
    assert found.label("com.docker.compose.project") == "shop"


def test_between_two_restarts_the_configured_ports_count() -> None:
    resting = row(State="restarting", Ports=[])
    found = parse_container("unix:///e.sock", resting, DETAILS, [resting])
    assert [str(binding) for binding in found.published] == [
        "0.0.0.0:8085/tcp",
        "[::]:8085/tcp",
        "127.0.0.1:5300/udp",
    ]


def test_those_who_share_its_network_are_named() -> None:
    sidecar = row(Id="f" * 64, Names=["/sidecar"], HostConfig={"NetworkMode": f"container:{ID}"})
    found = parse_container("unix:///e.sock", row(), {}, [row(), sidecar])
    assert found.sharing == ("sidecar",)
    assert (found.restart_policy, found.stop_timeout_seconds) == ("no", 10)


@pytest.mark.parametrize(
    ("contained", "elsewhere", "spared"),
    [(False, "it is remote", True), (True, "it is remote", False), (False, None, False)],
)
def test_a_remote_engines_container_is_spared_outside_of_a_runner(
    *, contained: bool, elsewhere: str | None, spared: bool
) -> None:
    """A developer's context may point to production; a runner's engine is next door."""
    web = parse_container("tcp://far:2375", row(), DETAILS, [row()])
    engine = EngineState("tcp://far:2375", elsewhere=elsewhere)
    snapshot = Snapshot(containers=(web,), engines=(engine,), contained=contained)
    holder = Holder(web.published[0], SocketState.PUBLISHED, container=web)
    found = container.classify(holder, snapshot, run_command)
    assert found is not None
    assert bool(found.spared) is spared
    for force in (False, True):
        (step,) = choose([found], Policy(force=force), ()).steps
        assert isinstance(step, AdviseStep) is (spared and not force)


@pytest.mark.parametrize(("young", "judged"), [(True, False), (False, True)])
def test_a_forwarder_that_has_just_started_is_no_orphan(
    tmp_path: Path, *, young: bool, judged: bool
) -> None:
    """An engine starts docker-proxy shortly before it lists the container as running."""
    path = tmp_path / "docker.sock"
    now = int(float(Path("/proc/uptime").read_text().split()[0]) * os.sysconf("SC_CLK_TCK"))
    dockerd = Process(ProcessIdentity(Pid(os.getpid()), 1), "dockerd")
    proxy = Process(
        ProcessIdentity(Pid(4242), now if young else 0),
        "docker-proxy",
        ancestors=(dockerd.identity,),
    )
    binding = parse_container("", row(), DETAILS, [row()]).published[0]
    held = Holder(binding, SocketState.LISTENING, processes=(proxy,), masters=(proxy.identity,))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        for elsewhere in (None, "it is remote"):
            engine = EngineState(f"unix://{path}", elsewhere=elsewhere)
            snapshot = Snapshot(processes=(dockerd, proxy), engines=(engine,))
            found = orphan.classify(held, snapshot, run_command)
            assert (found is not None) is (judged and elsewhere is None)


@pytest.mark.parametrize(
    "ports", [[{"IP": "invalid IP", "PublicPort": 8085, "Type": "tcp"}], [None], "x"]
)
def test_an_answer_that_makes_no_sense_is_trouble_not_absence(ports: object) -> None:
    """Half an answer would make a working forwarder look like an orphan."""
    with pytest.raises((ValidationError, OSError)):
        parse_container("unix:///e.sock", row(Ports=ports), DETAILS, [])


def test_zones_and_empty_mappings_are_read() -> None:
    ports = [{"IP": "fe80::1%eth0", "PublicPort": 8085, "Type": "tcp"}]
    details = {"HostConfig": {"PortBindings": {"80/tcp": [None]}}}
    found = parse_container("", row(Ports=ports, State="restarting"), details, [])
    assert [str(binding) for binding in found.published] == ["[fe80::1]:8085/tcp"]


def test_a_name_that_is_none_gives_way_to_the_id() -> None:
    for name in ("web", "web-1", "Web_1.a", "0"):
        assert parse_container("", row(Names=[f"/{name}"]), {}, []).handle == name
    for name in ("--help", "-v", "a b", "$(reboot)", "a\n", ".a", "é", "\x1b[2J"):
        assert parse_container("", row(Names=[f"/{name}"]), {}, []).handle == ID[:12]


@pytest.mark.parametrize(("told", "kept"), [(10**400, 1_000_000), (-(10**400), -1), (0, 0)])
def test_a_timeout_is_one_that_can_be_waited_for(told: int, kept: int) -> None:
    found = parse_container("", row(), {"Config": {"StopTimeout": told}}, [])
    assert found.stop_timeout_seconds == kept


SNAP = "0::/system.slice/snap.docker.dockerd.service"
ROOTLESS = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/docker.service"


@pytest.mark.parametrize(
    ("shim", "root", "start", "client"),
    [
        (
            "1:name=systemd:/system.slice/docker.service",
            "/srv/docker",
            "systemctl start docker",
            "",
        ),
        ("0::/system.slice/containerd.service", "/var/lib/docker", "systemctl start docker", ""),
        ("0::/system.slice/containerd.service", "/srv/d", "dockerd --data-root /srv/d", ""),
        ("", "/mnt/data", "dockerd --data-root /mnt/data", ""),
        (SNAP, "/var/snap/docker/common/var-lib-docker", "snap start docker", "snap run docker"),
        (
            ROOTLESS,
            "/home/me/.local/share/docker",
            "systemctl --user start docker",
            "docker --host unix:///run/user/1000/docker.sock",
        ),
    ],
)
def test_how_an_engine_that_is_down_is_started(
    shim: str, root: str, start: str, client: str
) -> None:
    """Recorded: the cgroups that Docker's packages, its snap and rootless Docker leave shims in."""
    found = ways_to_engine(shim, root, "/var/lib/docker")
    assert [" ".join(words) for words in found] == [start, client or "docker"]
