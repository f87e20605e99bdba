"""Another user passes for a container engine; root asks what concerns that user, and no more."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.cli import Run, ultra
from tests.lab.ports import free_port
from tests.lab.processes import stays_free, unavailable
from tests.lab.strangers import ID, Stranger, row, stranger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.lab.processes import Lab

pytestmark = pytest.mark.root

ABSENT = {"DOCKER_HOST": "unix:///nonexistent.sock"}
WHO = ("who", "--json", "--complete", "--docker-timeout", "50")
RESOLVE = ("resolve", "--json", "--settle", "0.3", "--grace", "1")
ESCAPES = "\x1b]0;pwned\x07\x1b[2J"
FORWARDER = ("--name", "rootlesskit")


@pytest.fixture
def other() -> Iterator[Stranger]:
    with stranger() as found:
        yield found


def as_root(
    other: Stranger,
    *words: str | int,
    env: Mapping[str, str] = ABSENT,
    prefix: tuple[str, ...] = (),
) -> Run:
    """Runs the command as root, where the other user is logged in."""
    return ultra(*map(str, words), env=env, prefix=(*other.inside, *prefix))


def kinds(run: Run, port: int) -> list[tuple[str, str | None]]:
    """What holds a port, and in which container, as the report has it."""
    return [
        (each["kind"], each["container"] and each["container"]["name"])
        for each in run.port(f"{port}/tcp")["holders"]
    ]


def engine_of(run: Run, path: Path) -> Any:  # noqa: ANN401 - JSON
    (found,) = (each for each in run.json["engines"] if each["endpoint"] == f"unix://{path}")
    return found


def assert_only_asked(other: Stranger, ids: Sequence[str] = (ID,)) -> None:
    """Asserts that its engine got questions only, and none about what has no proper id."""
    assert other.asked
    assert all(line.startswith("GET ") for line in other.asked), other.asked
    paths = [line.split()[1].partition("?")[0] for line in other.asked]
    targets = {path.removesuffix("/json").rpartition("/")[2] for path in paths}
    assert targets <= {"_ping", "containers", *ids}, other.asked


# --- about root's ports ---------------------------------------------------------------------------


@pytest.mark.parametrize("holds", [False, True])
def test_a_users_engine_says_nothing_about_roots_port(
    lab: Lab, other: Stranger, *, holds: bool
) -> None:
    """Whether or not that user has a port too."""
    port, theirs = free_port(), free_port()
    server = lab.start("answering", port)
    other.claims(port, theirs)
    other.engine(lab, other.docker, *(("--port", theirs) if holds else ()))

    seen = as_root(other, *WHO, port)
    run = as_root(other, *RESOLVE, port)

    assert kinds(seen, port) == kinds(run, port) == [("local", None)]
    assert run.status == 0, run.stdout + run.stderr
    assert not server.alive
    assert stays_free(port)
    assert other.asked == []  # it has nothing to do with the port
    found = engine_of(run, other.docker)
    assert not found["asked"]
    assert "has no such port" in found["error"]


def test_a_free_port_is_free_whatever_a_users_engine_says(lab: Lab, other: Stranger) -> None:
    port = free_port()
    other.claims(port)
    other.engine(lab, other.docker)
    run = as_root(other, *RESOLVE, port)
    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "free"), run.stdout
    assert other.asked == []


def test_a_users_engine_that_never_answers_keeps_nobody_waiting(lab: Lab, other: Stranger) -> None:
    port = free_port()
    lab.start("answering", port)
    other.engine(lab, other.docker, "--slow", 1000)
    begun = time.monotonic()
    run = as_root(other, *WHO, port)
    assert time.monotonic() - begun < 25  # half of what an engine would be given
    assert kinds(run, port) == [("local", None)]


@contextlib.contextmanager
def listening(path: Path) -> Iterator[None]:
    """Somebody listens at a path, and never accepts; it is root."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield


def test_who_listens_in_another_users_directory_is_not_asked(lab: Lab, other: Stranger) -> None:
    """What a user's directory leads to is not that user's engine where root listens."""
    port = free_port()
    lab.start("answering", port, prefix=other.prefix, log=False)
    with listening(other.run_user / str(other.uid) / "docker.sock"):
        run = as_root(other, *WHO, port)
        chosen = as_root(other, *WHO, port, env={"DOCKER_HOST": f"unix://{other.docker}"})
    why = f"user 0 listens there, in the directory of user {other.uid}"
    for found in (engine_of(run, other.docker), engine_of(chosen, other.docker)):
        assert not found["asked"]
        assert why in found["error"]
    assert why not in " ".join(run.json["notes"])
    assert why in " ".join(chosen.json["notes"])  # whoever chose it wants to know


def test_what_was_not_asked_is_said_to_the_curious(lab: Lab, other: Stranger) -> None:
    port = free_port()
    lab.start("answering", port)
    other.engine(lab, other.docker)
    assert str(other.docker) not in as_root(other, "who", "--complete", port).stderr
    assert str(other.docker) in as_root(other, "who", "--complete", port, "-v").stderr


# --- a process of the right name ------------------------------------------------------------------


def test_a_process_called_dockerd_names_no_socket(lab: Lab, other: Stranger) -> None:
    """Its own port is asked about with root's: it is among the holders, and is not believed."""
    port, theirs = free_port(), free_port()
    server = lab.start("answering", port)
    other.claims(port)
    path = other.folder / "x.sock"
    fake = other.engine(lab, path, "--name", "dockerd", "--port", theirs)

    run = as_root(other, *RESOLVE, port, theirs)

    assert kinds(run, port) == [("local", None)]
    assert run.port(f"{port}/tcp")["verdict"] == "freed"
    assert not server.alive
    assert fake.alive
    assert other.asked == []
    assert not any(str(path) in each["endpoint"] for each in run.json["engines"])


# --- about that user's own ports ------------------------------------------------------------------


def test_a_users_engine_explains_that_users_port(lab: Lab, other: Stranger) -> None:
    """As rootless Docker does, whose rootlesskit holds the ports; and no other port of anybody."""
    port, theirs = free_port(), free_port()
    lab.start("answering", port, *FORWARDER)  # root's, which does not look different
    other.claims(port, theirs, name="web")
    other.engine(lab, other.docker, "--port", theirs, *FORWARDER)

    seen = as_root(other, *WHO, port, theirs)
    assert kinds(seen, theirs) == [("container", "web")]
    assert kinds(seen, port) == [("forwarder", None)]
    assert_only_asked(other)

    run = as_root(other, *RESOLVE, theirs)
    assert kinds(run, theirs) == [("container", "web")]
    changes = [line for line in other.asked if not line.startswith("GET ")]
    assert changes == [f"POST /v1.41/containers/{ID}/stop?t=10 HTTP/1.1"]


def test_labels_of_a_users_engine_name_no_pod(lab: Lab, other: Stranger) -> None:
    """Or root would scale down what its own cluster runs."""
    theirs = free_port()
    labels = {"io.kubernetes.pod.name": "db-0", "com.docker.compose.project": "shop"}
    other.claims(theirs, Config={"Labels": labels})
    other.engine(lab, other.docker, "--port", theirs, *FORWARDER)
    run = as_root(other, *WHO, theirs)
    (holder,) = run.port(f"{theirs}/tcp")["holders"]
    assert (holder["kind"], holder["container"]["compose_project"]) == ("container", None)


HANDED = """
import os, socket, sys
os.seteuid(int(sys.argv[1]))
server = socket.socket()
os.seteuid(0)
server.bind(("127.0.0.1", int(sys.argv[2])))
server.listen()
open("/proc/self/comm", "w").write("rootlesskit")
print(flush=True)
sys.stdin.read()
"""


def test_a_process_of_roots_is_not_explained_by_a_socket_of_that_users(
    lab: Lab, other: Stranger
) -> None:
    """A socket can be handed over: both have to be that user's."""
    theirs = free_port()
    other.claims(theirs)
    other.engine(lab, other.docker)
    with subprocess.Popen(
        [sys.executable, "-S", "-c", HANDED, str(other.uid), str(theirs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as server:
        assert server.stdout is not None
        server.stdout.readline()
        run = as_root(other, *WHO, theirs)
        server.kill()
    assert kinds(run, theirs) == [("bystander", None)]


# --- absurd answers -------------------------------------------------------------------------------

PORT = 4242  # stands for the user's port
DIGITS = f'"PublicPort": {PORT}'.encode()


def listed(**changes: object) -> bytes:
    return json.dumps([row(PORT, **changes)]).encode()  # type: ignore[arg-type]


def published(port: bytes) -> bytes:
    return b'[{"Id": "%s", "Ports": [{"Type": "tcp", "PublicPort": %s}]}]' % (ID.encode(), port)


LISTS = {
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "no JSON": b"[{\x00\xff!!",
    "a number": b"4",
    "numbers": b"[1, 2, 3]",
    "no id": b'[{"Names": ["/x"]}]',
    "an id that is a path": listed(Id="../../containers/" + "a" * 47),
    "an id with a query": listed(Id="a" * 60 + "?a=b"),
    "an id with escapes": listed(Id=ESCAPES),
    "an id in capitals": listed(Id="A" * 64),
    "an id with an end of line": listed(Id=ID + "\n"),
    "an id that is a number": listed(Id=int("1" * 64)),
    "a huge port": published(b"1" + b"0" * 400),
    "a port out of range": published(b"65536"),
    "a port below zero": published(b"-1"),
    "a port that is true": published(b"true"),
    "NaN for a port": published(b"NaN"),
    "more digits than Python reads": published(b"1" * 5000),
    "a number of ports": b'[{"Id": "%s", "Ports": 5}]' % ID.encode(),
    "a number of names": listed(Names=5),
    "a list of numbers for names": listed(Names=[5]),
    "a name that is long": listed(Names=["/" + "a" * 5000]),
    "an image that is none": listed(Image=["a"]),
    "too many values": b"[" + b"{}," * 3_000_000 + b"{}]",
    "too much": b"[" + b" " * (1 << 26) + b"]",
}
DETAILS = {
    "a timeout that is not finite": b'{"Config": {"StopTimeout": 1e400}}',
    "a timeout that is no number": b'{"Config": {"StopTimeout": NaN}}',
    "labels that are a list": b'{"Config": {"Labels": ["a"]}}',
    "labels that are numbers": b'{"Config": {"Labels": {"a": 1, "b": null}}}',
    "a configuration that is a list": b'{"HostConfig": [1]}',
    "a policy that is a number": b'{"HostConfig": {"RestartPolicy": {"Name": 5}}}',
    "deep": b'{"Config": ' * 100_000,
}


def limited(mebibytes: int) -> tuple[str, ...]:
    """A command that runs another with a limit to its address space."""
    prlimit = shutil.which("prlimit") or unavailable("prlimit(1) is missing")
    return (prlimit, f"--as={mebibytes << 20}")


def assert_not_believed(run: Run, other: Stranger, theirs: int) -> None:
    """Asserts that what holds the port is named, and that the answer counts as none."""
    assert run.status == 0, run.stdout + run.stderr
    assert kinds(run, theirs) == [("forwarder", None)]
    error = engine_of(run, other.docker)["error"]
    assert error.endswith(("does not answer as an engine", "answers with what no engine says"))
    assert_only_asked(other)


@pytest.mark.parametrize("answer", LISTS.values(), ids=LISTS.keys())
def test_nonsense_is_no_answer(lab: Lab, other: Stranger, answer: bytes) -> None:
    theirs = free_port()
    other.says(answer.replace(DIGITS, f'"PublicPort": {theirs}'.encode()))
    other.says(b"{}", ID)
    other.engine(lab, other.docker, "--port", theirs, *FORWARDER)
    run = as_root(other, *WHO, theirs, prefix=limited(900))
    assert_not_believed(run, other, theirs)


@pytest.mark.parametrize("answer", DETAILS.values(), ids=DETAILS.keys())
def test_nonsense_about_one_container_is_no_answer(
    lab: Lab, other: Stranger, answer: bytes
) -> None:
    theirs = free_port()
    other.claims(theirs)
    other.says(answer, ID)
    other.engine(lab, other.docker, "--port", theirs, *FORWARDER)
    assert_not_believed(as_root(other, *WHO, theirs), other, theirs)


@pytest.mark.parametrize("text", [" ", "[", "1,", '{"a":'])
def test_an_answer_without_end_is_no_answer(lab: Lab, other: Stranger, text: str) -> None:
    theirs = free_port()
    other.engine(lab, other.docker, "--port", theirs, "--endless", text, *FORWARDER)
    run = as_root(other, *WHO, theirs, prefix=limited(450))
    assert_not_believed(run, other, theirs)


def test_a_users_engine_that_is_silent_leaves_no_port_of_roots_undecided(
    lab: Lab, other: Stranger
) -> None:
    port, theirs = free_port(), free_port()
    lab.start("answering", port, *FORWARDER)
    other.engine(lab, other.docker, "--port", theirs, "--slow", 100, *FORWARDER)
    run = as_root(other, "who", "--json", "--docker-timeout", "0.5", port, theirs)
    assert kinds(run, port) == [("forwarder", None)]
    assert engine_of(run, other.docker)["error"].endswith("did not answer in 0.5 s")


# --- names ----------------------------------------------------------------------------------------


def test_names_reach_no_terminal_as_they_are(lab: Lab, other: Stranger) -> None:
    names = ("--help", ESCAPES, "a\nb", "$(reboot)", "\u202eevil", "")
    theirs = {free_port(): (name, f"{number}{ID[1:]}") for number, name in enumerate(names)}
    rows = [row(port, name=name, Id=id_, Image=ESCAPES) for port, (name, id_) in theirs.items()]
    other.says(json.dumps(rows).encode())
    for _, id_ in theirs.values():
        other.says(b'{"HostConfig": {}, "Config": {}}', id_)
    held = [word for port in theirs for word in ("--port", port)]
    other.engine(lab, other.docker, *held, *FORWARDER)

    for words in (("who", "-v"), ("resolve", "--dry-run", "-v")):
        text, plain = as_root(other, *words, *theirs), as_root(other, *words, "--json", *theirs)
        for port, (name, id_) in theirs.items():
            assert kinds(plain, port) == [("container", name or id_[:12])]
            assert id_[:12] in text.stdout
        for said in (text.stdout, text.stderr, plain.stdout, plain.stderr):
            assert said.replace("\n", "").isprintable(), said
    assert_only_asked(other, [id_ for _, id_ in theirs.values()])


# --- what the caller's environment leads to -------------------------------------------------------


def test_a_directory_that_su_has_kept_chooses_no_engine(lab: Lab, other: Stranger) -> None:
    port = free_port()
    server = lab.start("answering", port)
    other.claims(port)
    other.engine(lab, other.docker)
    env = {"XDG_RUNTIME_DIR": str(other.runtime)}
    run = ultra(*RESOLVE, str(port), env=env, prefix=other.alone)
    assert (run.status, kinds(run, port)) == (0, [("local", None)]), run.stdout
    assert not server.alive
    assert other.asked == []


def test_another_users_engine_that_was_chosen_explains_that_users_ports(
    lab: Lab, other: Stranger
) -> None:
    """As `sudo -E` with rootless Docker."""
    port, theirs = free_port(), free_port()
    lab.start("answering", port)
    other.claims(port, theirs, name="web")
    other.engine(lab, other.docker, "--port", theirs, *FORWARDER)
    run = as_root(other, *WHO, port, theirs, env={"DOCKER_HOST": f"unix://{other.docker}"})
    assert kinds(run, theirs) == [("container", "web")]
    assert kinds(run, port) == [("local", None)]
    assert_only_asked(other)


@pytest.mark.parametrize("fifo", [False, True])
def test_a_strangers_docker_configuration_is_not_read(
    lab: Lab, other: Stranger, *, fifo: bool
) -> None:
    port = free_port()
    lab.start("answering", port)
    other.claims(port)
    path = other.folder / "x.sock"
    other.engine(lab, path)
    other.python(CONTEXT, other.folder, path)
    if fifo:
        config = other.folder / ".docker" / "config.json"
        other.python("import os, sys; os.unlink(sys.argv[1]); os.mkfifo(sys.argv[1])", config)
    run = as_root(other, *WHO, port, env={"HOME": str(other.folder)})
    assert kinds(run, port) == [("local", None)]
    assert other.asked == []
    assert not any(str(path) in each["endpoint"] for each in run.json["engines"])


CONTEXT = """
import hashlib, json, pathlib, sys
home = pathlib.Path(sys.argv[1]) / ".docker"
meta = home / "contexts" / "meta" / hashlib.sha256(b"evil").hexdigest()
meta.mkdir(parents=True)
(home / "config.json").write_text(json.dumps({"currentContext": "evil"}))
host = {"Endpoints": {"docker": {"Host": f"unix://{sys.argv[2]}"}}}
(meta / "meta.json").write_text(json.dumps(host))
"""
MAKE = "import os, sys; os.makedirs(os.path.dirname(sys.argv[1]))"


@pytest.mark.parametrize("name", [".docker/run/docker.sock", ".colima/default/docker.sock"])
def test_a_strangers_home_leads_to_no_engine(lab: Lab, other: Stranger, name: str) -> None:
    port = free_port()
    server = lab.start("answering", port)
    other.claims(port)
    path = other.folder / name
    other.python(MAKE, path)
    other.engine(lab, path)
    run = as_root(other, *RESOLVE, port, env={**ABSENT, "HOME": str(other.folder)})
    assert (run.status, kinds(run, port)) == (0, [("local", None)]), run.stdout
    assert not server.alive
    assert other.asked == []
    assert f"user {other.uid} listens there" in engine_of(run, path)["error"]


def test_an_ordinary_user_asks_no_other_users_engine(
    lab: Lab, other: Stranger, as_nobody: tuple[str, ...]
) -> None:
    port = free_port()
    server = lab.start("answering", port, prefix=as_nobody, log=False)
    other.claims(port)
    path = other.folder / ".docker" / "run" / "docker.sock"
    other.python(MAKE, path)
    other.engine(lab, path)
    env = {**ABSENT, "HOME": str(other.folder)}
    run = ultra(*RESOLVE, str(port), env=env, prefix=as_nobody)
    assert (run.status, kinds(run, port)) == (0, [("local", None)]), run.stdout + run.stderr
    assert not server.alive
    assert other.asked == []
