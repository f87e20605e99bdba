"""What compose says of a project, by whichever command there is, and how often it is asked."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resolver.compose.command import ComposeCommand
from resolver.compose.model import ComposeArguments, ComposeProject
from resolver.errors import UsageError
from tests.lab.cli import ultra
from tests.lab.compose import published, require_plugin, stack
from tests.lab.ports import free_port
from tests.lab.processes import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.engine import Engine

pytestmark = pytest.mark.engine

NOBODY = 65534
FILE = "compose.yaml"
WEB = "services: {web: {image: x, ports: ['8080:80']}}\n"
Ports = list[tuple[str, int, object, object, object, str]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a project, which is the working directory; without variables of compose."""
    require_plugin()
    for name in [each for each in os.environ if each.startswith("COMPOSE_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "shop"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def plug_in() -> Path:
    """The plug-in as a program of its own."""
    roots = ("/usr/libexec", "/usr/lib", "/usr/local/lib", "/usr/local/libexec")
    places = [Path(each, "docker/cli-plugins/docker-compose") for each in roots]
    places.append(Path("~/.docker/cli-plugins/docker-compose").expanduser())
    found = next((each for each in places if each.exists()), None)
    return found or unavailable("the compose plug-in is not where packages put it")


def program(folder: Path, name: str, script: str) -> str:
    """A folder for PATH with a script of this name."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / name).chmod(0o755)
    return str(folder)


def asked(*words: str) -> ComposeProject:
    """What compose says of the project here; the words are pairs of `-f`, `--profile` and `-p`."""
    pairs = list(zip(words[::2], words[1::2], strict=True))
    arguments = ComposeArguments(
        tuple(value for option, value in pairs if option == "-f"),
        tuple(value for option, value in pairs if option == "--profile"),
        "".join(value for option, value in pairs if option == "-p"),
    )
    return ComposeCommand(arguments).project()


def ports(project: ComposeProject) -> Ports:
    return [
        (each.service, each.target, each.first, each.last, each.address, each.transport)
        for service in project.services
        for each in service.published
    ]


# --- projects as people have them -----------------------------------------------------------------


def test_entries_of_every_form(here: Path) -> None:
    (here / FILE).write_text(
        "services:\n  web:\n    image: x\n    ports:\n"
        "      - 80\n"
        "      - '8080:81'\n"
        "      - '127.0.0.1:8081:82/udp'\n"
        "      - '[::1]:8082:83'\n"
        "      - '127.0.0.1::84'\n"
        "      - '9000-9002:85'\n"
        "      - '9010-9011:86-87'\n"
        "      - {target: 88, published: '9020', host_ip: 127.0.0.2, protocol: udp, mode: host}\n"
        "      - {target: 89, published: '9030-9031'}\n"
        "      - '0:90'\n"
    )
    assert ports(asked()) == [
        ("web", 80, None, None, None, "tcp"),
        ("web", 81, 8080, 8080, None, "tcp"),
        ("web", 82, 8081, 8081, "127.0.0.1", "udp"),
        ("web", 83, 8082, 8082, "::1", "tcp"),
        ("web", 84, None, None, "127.0.0.1", "tcp"),
        ("web", 85, 9000, 9002, None, "tcp"),
        ("web", 86, 9010, 9010, None, "tcp"),
        ("web", 87, 9011, 9011, None, "tcp"),
        ("web", 88, 9020, 9020, "127.0.0.2", "udp"),
        ("web", 89, 9030, 9031, None, "tcp"),
        ("web", 90, None, None, None, "tcp"),
    ]


def test_files_that_are_laid_over_one_another(here: Path) -> None:
    (here / "a.yaml").write_text("services: {web: {image: x, ports: ['1:1'], network_mode: host}}")
    (here / "b.yaml").write_text("services: {web: {scale: 3}, api: {image: x, ports: ['2:2']}}")
    project = asked("-f", "a.yaml", "-f", "b.yaml", "-p", "other")
    assert (project.name, project.working_dir) == ("other", here)
    assert project.files == (here / "a.yaml", here / "b.yaml")
    api, web = project.services
    assert (web.name, web.replicas, web.network_mode) == ("web", 3, "host")
    assert (api.name, api.replicas) == ("api", 1)


def test_the_override_file_and_a_directory_below(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "docker-compose.yml").write_text(WEB)
    (here / "docker-compose.override.yml").write_text("services: {web: {deploy: {replicas: 2}}}")
    (here / "src").mkdir()
    monkeypatch.chdir(here / "src")
    project = asked()
    names = ("docker-compose.yml", "docker-compose.override.yml")
    assert project.files == tuple(here / name for name in names)
    assert project.working_dir == here
    assert [each.replicas for each in project.services] == [2]


@pytest.mark.parametrize("how", ["environment", ".env", "COMPOSE_ENV_FILES"])
def test_a_file_that_a_variable_names(
    here: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (here / "other.yaml").write_text(WEB.replace("8080", "${PORT:-1}"))
    (here / FILE).write_text("services: {wrong: {image: x}}")
    if how == "environment":
        monkeypatch.setenv("COMPOSE_FILE", "other.yaml")
        monkeypatch.setenv("PORT", "8080")
    else:
        (here / (".env" if how == ".env" else "team.env")).write_text(
            'NAME="other"\nCOMPOSE_FILE=${NAME}.yaml\nPORT=8080\n'
        )
    if how == "COMPOSE_ENV_FILES":
        monkeypatch.setenv(how, "team.env")
    project = asked()
    assert project.files == (here / "other.yaml",)
    assert ports(project) == [("web", 80, 8080, 8080, None, "tcp")]


def test_include_extends_and_profiles(here: Path) -> None:
    (here / "base.yaml").write_text("services: {base: {image: x, ports: ['${P:-1}:80']}}")
    (here / "part").mkdir()
    (here / "part" / FILE).write_text("services: {db: {image: x, ports: ['${DB}:5432']}}")
    (here / "part" / ".env").write_text("DB=5433\n")
    (here / FILE).write_text(
        f"include: [part/{FILE}]\n"
        "services:\n"
        "  web: {extends: {file: base.yaml, service: base}}\n"
        "  debug: {image: x, profiles: [debug], ports: ['2:2']}\n"
    )
    assert [each[:3] for each in ports(asked())] == [("db", 5432, 5433), ("web", 80, 1)]
    assert [each[0] for each in ports(asked("--profile", "debug"))] == ["db", "debug", "web"]


def test_warnings_are_quoted(here: Path) -> None:
    (here / FILE).write_text(WEB.replace("8080", "${WEB_PORT}"))
    run = ultra("preflight", "--json", "--no-docker")
    assert run.status == 0, run.stderr
    (port,) = run.json["services"][0]["ports"]
    assert port["status"] == "automatic"
    (found,) = run.json["findings"]
    assert (found["level"], found["code"]) == ("warning", "compose")
    assert found["message"].startswith('docker compose: The "WEB_PORT" variable is not set.')
    assert "WEB_PORT" in ultra("preflight", "--no-docker").stdout


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ("{target: 80, published: 'abc'}", "'abc'"),
        ("{target: 80, published: '70000'}", "'70000'"),
        ("{target: 0}", "0 is no port"),
    ],
)
def test_what_compose_takes_and_engines_do_not(here: Path, entry: str, error: str) -> None:
    (here / FILE).write_text(f"services: {{web: {{image: x, ports: [{entry}]}}}}")
    ((found,),) = (each.published for each in asked().services)
    assert error in found.error
    run = ultra("preflight", "--json", "--no-docker")
    assert (run.status, run.json["findings"][0]["code"]) == (3, "not-a-port")
    assert run.json["findings"][0]["message"].startswith("web: ")


# --- what compose refuses -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services:\n  web:\n    image: x\n   ports: [1]\n", "yaml: line "),
        ("services: {web: {image: x, prots: [80]}}", "services.web"),
        ("services: {web: {image: x, ports: ['${X:?needed}:80']}}", "services.web.ports"),
        ("services: {web: {image: x, ports: ['abc:80']}}", "abc"),
        ("services: {web: {image: x, depends_on: [db]}}", '"web" depends on undefined service'),
    ],
)
def test_the_file_and_what_compose_said_are_named(here: Path, text: str, said: str) -> None:
    (here / FILE).write_text("x-a: ${UNSET}\n" + text)
    for command in ("preflight", "up"):
        run = ultra(command)
        assert (run.status, run.stdout) == (2, "")
        (line,) = run.stderr.splitlines()
        assert line.startswith("ultra-ports: docker compose: ")
        assert said in line
        assert str(here / FILE) in line
        assert "level=warning" not in line


def test_no_file_at_all(here: Path) -> None:
    run = ultra("preflight")
    assert (run.status, len(run.stderr.splitlines())) == (2, 1)
    assert f"there is no compose file in {here} or above" in run.stderr


def test_standard_input_is_refused() -> None:
    with pytest.raises(UsageError, match="standard input"):
        asked("-f", "-")


# --- which command there is -----------------------------------------------------------------------


def test_standalone_compose(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / FILE).write_text(WEB)
    (here / "bin").mkdir()
    (here / "bin" / "docker-compose").symlink_to(plug_in())
    monkeypatch.setenv("PATH", str(here / "bin"))
    project = asked()
    assert project.source == "docker-compose config --format json"
    assert ports(project) == [("web", 80, 8080, 8080, None, "tcp")]


def test_podmans_compose(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`podman compose` runs docker-compose, where that is installed: a script stands for podman."""
    (here / FILE).write_text(WEB)
    script = f'test "$1" = compose && shift && exec {plug_in()} "$@"'
    monkeypatch.setenv("PATH", program(here / "bin", "podman", script))
    project = asked()
    assert project.source == "podman compose config --format json"
    assert ports(project) == [("web", 80, 8080, 8080, None, "tcp")]


@pytest.mark.root
@pytest.mark.slow
def test_podmans_engine(engine: Engine, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it started is the project's own: by the engine at podman's socket, with no other here.

    In a mount namespace whose /run has that socket alone; dockerd stands for podman. (Seen with
    podman 5.8 and compose 2.40 too, whose conmon holds the port.)
    """
    if os.geteuid() != 0:
        unavailable("a mount namespace needs root")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    socket = here / "socket"
    socket.touch()
    script = f'test "$1" = compose && shift && DOCKER_HOST=unix://{socket} exec {plug_in()} "$@"'
    path = program(here / "bin", "podman", script)
    become = (
        f"mount --bind {engine.socket} {socket} && mount -t tmpfs none /run && mkdir /run/podman "
        f'&& ln -s {socket} /run/podman/podman.sock && PATH={path} exec "$@"'
    )
    prefix = ("unshare", "-m", "sh", "-c", become, "sh")
    port = free_port()
    with stack(engine, here, {"web": published(port)}) as shop:
        shop("up", "--detach")
        shop.container("web").wait_for(port)
        run = ultra("preflight", *shop.options, "--json", prefix=prefix)
        assert run.status == 0, run.stdout + run.stderr
        assert run.json["project"]["source"].startswith("podman compose ")
        assert [each["status"] for each in run.json["services"][0]["ports"]] == ["yours"]
        run = ultra("up", *shop.options, "--json", prefix=prefix)
        assert run.status == 0, run.stdout + run.stderr
        assert run.json["ports"][0]["answers"] is True


def test_a_plug_in_in_the_users_home(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes before the machine's, as docker has it."""
    (here / FILE).write_text(WEB)
    plugins = here / "home" / ".docker" / "cli-plugins"
    plugins.mkdir(parents=True)
    trace = here / "trace"
    program(plugins, "docker-compose", f'echo "$*" >>{trace}; exec {plug_in()} "$@"')
    monkeypatch.setenv("HOME", str(here / "home"))
    assert asked().source == "docker compose config --format json"
    assert "compose config --format json" in trace.read_text()


@pytest.mark.root
@pytest.mark.parametrize("how", ["plug-in", "docker"])
def test_root_runs_no_strangers_compose(
    here: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Neither a plug-in in the home that `sudo -E` leaves, nor what is first on a PATH.

    The machine's own compose is run instead; it finds no image here.
    """
    if os.geteuid() != 0:
        unavailable("giving files away needs root")
    more = "pull_policy: never, network_mode: bridge, ports"
    (here / FILE).write_text(WEB.replace("8080", str(free_port())).replace("ports", more))
    trace = here / "was-run"
    trace_it = f'echo "$*" >>{trace}; exit 0'
    folder = here / "home" / ".docker" / "cli-plugins" if how == "plug-in" else here / "bin"
    folder.mkdir(parents=True)
    os.chown(here / folder.relative_to(here).parts[0], NOBODY, NOBODY)
    name = "docker-compose" if how == "plug-in" else "docker"
    os.chown(program(folder, name, trace_it), NOBODY, NOBODY)
    os.chown(folder / name, NOBODY, NOBODY)
    if how == "plug-in":
        monkeypatch.setenv("HOME", str(here / "home"))
    else:
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for command in (["preflight", "--no-docker"], ["up"]):
        run = ultra(*command, "-p", f"lab{os.getpid()}")
        assert run.status == (0 if command[0] == "preflight" else 1), run.stderr
        said = f"docker's configuration is not used: {here / 'home'}"
        assert (said in run.stderr) == (how == "plug-in")
    assert not trace.exists()


@pytest.mark.root
def test_why_a_plug_in_is_not_used_is_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is the only one: a docker that has no other stands on the PATH."""
    if os.geteuid() != 0:
        unavailable("giving files away needs root")
    (here / FILE).write_text(WEB)
    (here / "home").mkdir()
    os.chown(here / "home", NOBODY, NOBODY)
    monkeypatch.setenv("HOME", str(here / "home"))
    monkeypatch.setenv("PATH", program(here / "bin", "docker", "exit 125"))
    with pytest.raises(UsageError, match=r"docker's configuration is not used: .*home belongs to"):
        asked()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        # recorded: docker-compose 1.29.2 of Debian 12, which has no `config --format`
        pytest.param(
            'test "$1" = version && echo 1.29.2 && exit; exit 1', "too old", id="version 1"
        ),
        pytest.param('test "$1" = version && exec kill -9 $$; kill -9 $$', "signal 9", id="killed"),
        pytest.param("echo 'unknown flag' >&2; exit 125", "missing", id="no plug-in"),
        pytest.param("echo []", "an answer that compose does not give", id="nonsense"),
        pytest.param("echo '{'", "an answer that compose does not give", id="no JSON"),
        pytest.param(
            """echo '{"name": "a", "services": {"web": {"ports": [{"target": "x"}]}}}'""",
            "Expected `int`, got `str` - at `$.services[...].ports[0].target`",
            id="not a port",
        ),
    ],
)
def test_what_is_no_compose_is_not_believed(
    here: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    (here / FILE).write_text(WEB)
    monkeypatch.setenv("PATH", program(here / "bin", "docker-compose", script))
    for command in ("preflight", "up"):
        run = ultra(command)
        assert (run.status, run.stdout) == (2, "")
        (line,) = run.stderr.splitlines()
        assert why in line


def test_a_refusal_without_words_is_one_all_the_same(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / FILE).write_text(WEB)
    script = 'test "$1" = version && echo v2.26.1 && exit; exit 15'
    monkeypatch.setenv("PATH", program(here / "bin", "docker-compose", script))
    with pytest.raises(UsageError, match="status 15, and said nothing"):
        asked()


# --- how often it is asked ------------------------------------------------------------------------


@pytest.fixture
def log(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A list of the docker command lines that were run: a wrapper on PATH writes it."""
    docker = shutil.which("docker") or unavailable("the docker command is missing")
    found = here / "log"
    bin_ = program(here / "bin", "docker", f'echo "$*" >>{found}\nexec {docker} "$@"')
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    yield found
    found.unlink(missing_ok=True)


@pytest.mark.root
def test_a_docker_without_the_plug_in_is_not_asked_in_vain(
    here: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is docker-compose; in a mount namespace whose docker has no plug-in."""
    if os.geteuid() != 0:
        unavailable("a mount namespace needs root")
    (here / FILE).write_text(WEB.replace("8080", str(free_port())))
    compose = here / "compose"
    compose.touch()
    program(here / "bin", "docker-compose", f'echo "compose: $*" >>{log}; exec {compose} "$@"')
    monkeypatch.setenv("DOCKER_CONFIG", str(here / "docker"))
    become = (
        f'mount --bind {plug_in()} {compose} && mount -t tmpfs none {plug_in().parent} && exec "$@"'
    )
    run = ultra("preflight", "--json", prefix=("unshare", "-m", "sh", "-c", become, "sh"))
    assert (run.status, run.json["project"]["source"]) == (0, "docker-compose config --format json")
    assert log.read_text().splitlines() == ["compose: config --format json"]


def test_one_question_before_preflight(here: Path, log: Path) -> None:
    (here / FILE).write_text(WEB.replace("8080", str(free_port())))
    assert ultra("preflight", "--json").status == 0
    assert log.read_text().splitlines() == ["compose config --format json"]


@pytest.mark.slow
def test_up_starts_at_most_three_processes_before_compose(
    engine: Engine, here: Path, log: Path
) -> None:
    """With options, services, and an orphan that is in the way: all that it could want to know."""
    port = free_port()
    with stack(engine, here, {"web": published(port)}) as shop:
        log.unlink(missing_ok=True)
        assert ultra("up", *shop.options, "--json", timeout=100).status == 0
        question, start = log.read_text().splitlines()
        assert question.endswith("config --format json")
        assert start.endswith("up --detach")

        log.unlink(missing_ok=True)
        shop.write({"api": published(port), "db": {}})
        arguments = ("--", "--remove-orphans", "api")
        run = ultra("up", *shop.options, "--json", *arguments, timeout=100)
        assert run.status == 0, run.stdout + run.stderr
        *before, start = log.read_text().splitlines()
        assert len(before) <= 3, before
        assert start.endswith("up --detach --remove-orphans api")
        assert json.loads(run.stdout)["ports"][0]["service"] == "api"
