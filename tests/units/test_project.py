"""Ports of a project: the file, the variables over it, and what is bad input."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from resolver.errors import UsageError
from resolver.project import file
from resolver.project.load import STANDARD, load
from resolver.project.model import Probe, Project

LONG = "9" * 5000
PARTS = ("port", "host", "url")


def write(folder: Path, text: str, name: str = "ultra-ports.toml") -> Path:
    (folder / ".git").mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def ports(project: Project) -> dict[str, str]:
    return {service.name: str(service.request) for service in project.services}


def test_without_a_file_there_are_the_standard_ports(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    project = load(tmp_path, {})
    assert ports(project) == {name: f"{port}/tcp" for name, port in STANDARD.items()}
    assert (project.file, project.root, project.notes) == (None, tmp_path, ())


def test_what_a_file_can_say(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        project = "shop"
        pool = ["8000-8099", "9000"]
        [services]
        web = 3000
        dns = { port = 53, protocol = "udp", address = "127.0.0.1" }
        v6 = { port = "8087/tcp", address = "::1", variable = "SIX" }
        api = { port = 8085, health = { probe = "/healthz", status = 204, timeout = 1 } }
        [environments.staging]
        api = 9085
        """,
    )
    project = load(tmp_path / ".", {})
    assert project.name == "shop"
    assert project.pool == ((8000, 8099), (9000, 9000))
    assert ports(project) == {
        "web": "3000/tcp",
        "dns": "127.0.0.1:53/udp",
        "v6": "[::1]:8087/tcp",
        "api": "8085/tcp",
    }
    assert project.service("v6").variable == "SIX"
    assert project.service("dns").variable == "DNS_PORT"
    probe = Probe("http", path="/healthz", statuses=(204,), timeout_seconds=1.0)
    assert project.service("api").health == probe
    assert ports(load(tmp_path, {"ULTRA_PORTS_ENV": "staging"}))["api"] == "9085/tcp"


def test_pyproject_is_a_project_file_too(tmp_path: Path) -> None:
    write(tmp_path, "[tool.ultra-ports.services]\napi = 8185\n", "pyproject.toml")
    inner = tmp_path / "src" / "deep"
    inner.mkdir(parents=True)
    project = load(inner, {})
    assert ports(project) == {"api": "8185/tcp"}
    assert project.root == tmp_path


def test_the_own_file_goes_before_pyproject(tmp_path: Path) -> None:
    write(tmp_path, "[tool.ultra-ports.services]\napi = 8185\n", "pyproject.toml")
    write(tmp_path, "services.api = 8285")
    assert ports(load(tmp_path, {})) == {"api": "8285/tcp"}


@pytest.mark.parametrize("said", ["[project]\nname = 'x'\n", "tool = 3\n", "tool = [{}]\n"])
def test_a_pyproject_that_says_nothing_does_not_end_the_search(tmp_path: Path, said: str) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "ultra-ports.toml").write_text("services.api = 8285")
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text(said)
    assert ports(load(inner, {})) == {"api": "8285/tcp"}


def test_the_environment_goes_before_dotenv_and_that_before_the_file(tmp_path: Path) -> None:
    write(tmp_path, "services = { a = 1001, b = 1002, c = 1003 }")
    (tmp_path / ".env").write_text("A_PORT=2001\nB_PORT=2002\n")
    project = load(tmp_path, {"A_PORT": "3001", "C_PORT": " "})
    assert ports(project) == {"a": "3001/tcp", "b": "2002/tcp", "c": "1003/tcp"}
    origins = [service.origin for service in project.services]
    assert origins == ["A_PORT in the environment", "B_PORT in .env", "ultra-ports.toml"]
    assert [service.standard.port for service in project.services] == [1001, 1002, 1003]


def test_the_address_of_a_linked_service_is_left_out_with_a_note(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    project = load(tmp_path, {"REDIS_PORT": "tcp://10.0.0.3:6379"})
    redis = project.service("redis")
    assert str(redis.request) == "6379/tcp"
    assert "REDIS_PORT in the environment" in redis.notes[0]
    assert project.service("api").notes == ()


def test_dotenv_decides_where_the_environment_has_a_linked_service(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".env").write_text("REDIS_PORT=7000\n")
    project = load(tmp_path, {"REDIS_PORT": "tcp://10.0.0.3:6379"})
    assert project.service("redis").request.port == 7000


@pytest.mark.parametrize("text", ["0", "65536", "0000800000", "80a", "-1", "8085/udp", "٣", LONG])
def test_a_variable_that_is_no_port_is_bad_input(tmp_path: Path, text: str) -> None:
    (tmp_path / ".git").mkdir()
    with pytest.raises(UsageError, match="API_PORT in the environment"):
        load(tmp_path, {"API_PORT": text})


def test_leading_zeros_are_no_trouble(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert load(tmp_path, {"API_PORT": "00008085"}).service("api").request.port == 8085


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services.api = 8085\nservices.docs = 8085", "api and docs have one port: 8085/tcp"),
        ("services.api = 8085\nservices.docs = {port=8085, address='127.0.0.1'}", "have one port"),
        ("services.api = 8085\nservices.docs = {port=8085, protocol='udp'}", ""),
        (
            (
                "services.a = {port=8085, address='127.0.0.1'}\n"
                "services.b = {port=8085, address='127.0.0.2'}"
            ),
            "",
        ),
    ],
)
def test_two_services_with_one_port_are_a_warning(tmp_path: Path, text: str, said: str) -> None:
    project = load(write(tmp_path, text), {})
    for service in project.services:
        assert said in " ".join(service.notes)
        assert bool(service.notes) == bool(said)


def test_two_services_that_variables_bring_together_are_a_warning(tmp_path: Path) -> None:
    project = load(write(tmp_path, "services = { a = 1, b = 2 }"), {"A_PORT": "2"})
    assert project.service("a").notes == ("a and b have one port: 2/tcp",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services = 3", "services: expected `table`, got `int`"),
        ("service.api = 3", "the project file has no 'service'"),
        ("services.api = {}", "services.api: table missing required field `port`"),
        ("services.api = 0", "services.api: expected `int` >= 1"),
        ("services.api = true", "services.api: expected `int | str`, got `bool`"),
        ("services.api = 8085.0", "services.api: expected `int | str`, got `float`"),
        ("services.api = '8000-8001'", "services.api: expected one port, not a range"),
        ("services.api = {port=1, protocol='sctp'}", "services.api: "),
        ("services.api = {port=1, protocol=6}", "services.api.protocol: expected `str`, got `int`"),
        ("services.api = {port=1, address='localhost'}", "host names are not taken"),
        ("services.api = {port=1, colour='red'}", "services.api has no 'colour'"),
        (
            "services.api = {port=1, variable='A-B'}",
            "services.api.variable: expected a name such as API_PORT",
        ),
        ("services.'a b' = 1", "'a b' is no name of a service"),
        (
            "services.'a-b' = 1\nservices.a_b = 2",
            "services.a_b.variable: expected one of its own, since a-b and a_b share",
        ),
        ("services.api = {port=1, health='ftp://x/'}", "services.api.health: "),
        ("services.api = {port=1, health='http://x:81/'}", "asks the service's own"),
        ("services.api = {port=1, health='http://u@x/'}", "is no probe"),
        (
            "services.api = {port=1, health='/a b'}",
            "services.api.health: '/a b' is no probe: such as",
        ),
        ("services.api = {port=1, health=[]}", "a command is a list of words"),
        ("services.api = {port=1, health=['']}", "a command is a list of words"),
        ('services.api = {port=1, health=["a\\u0000"]}', "a command is a list of words"),
        (
            "services.api = {port=1, health={probe='tcp', status=99}}",
            "services.api.health.status: expected `int` >= 100",
        ),
        (
            "services.api = {port=1, health={probe='tcp', timeout=nan}}",
            "services.api.health.timeout: expected `float` > 0",
        ),
        (
            "services.api = {port=1, health={probe='tcp', wait=1}}",
            "services.api.health has no 'wait' (there are: probe, status, timeout)",
        ),
        ("environments.x.api = 1", "environments.x has no 'api'"),
        ("environments.x = 1", "environments.x: expected `table`, got `int`"),
        ("export = 1", "export: expected `table`, got `int`"),
        ("export.A = 1", "export.A: expected `str | list`, got `int`"),
        ("export.A = [1]", "export.A[0]: expected `str`, got `int`"),
        ("export.'A B' = ''", "export.'A B': expected the name of a variable, such as API_URL"),
        ('export.A = "a\\nb"', "export.A: expected one line without ', not 'a\\nb'"),
        ('export.A = "it\'s"', "export.A: expected one line without '"),
        (
            "services.api = 1\nexport.A = '{web.port}'",
            (
                "export.A: expected {SERVICE.port}, {SERVICE.host}, {SERVICE.url} or {checkout}, "
                "not '{web.port}' (services there are: api)"
            ),
        ),
        ("services.api = 1\nexport.A = '{api}'", "not '{api}' (services there are: api)"),
        ("services.api = 1\nexport.A = '{api.port!r:>9}'", "not '{api.port!r:>9}'"),
        ("services.api = 1\nexport.A = '{}'", "not '{}'"),
        ("export.A = '{'", "export.A: expected braces around {SERVICE.port}"),
        (
            "services.api = 1\nexport.API_PORT = '2'",
            "export.API_PORT: expected another name: api has its port there",
        ),
        ("env_files = '.env'", "env_files: expected `list`, got `str`"),
        ("env_files = [1]", "env_files[0]: expected `str`, got `int`"),
        ("env_files = ['/etc/profile']", "env_files: expected a file below the project's root"),
        ("env_files = ['a/../../b']", "env_files: expected a file below the project's root"),
        ("env_files = ['.git/hooks/post-checkout']", "not '.git/hooks/post-checkout'"),
        (
            "services.api=1\nenvironments.x.api = '1'",
            "environments.x.api: expected `int`, got `str`",
        ),
        ("pool = '9-8'", "'9-8' is no range of ports"),
        ("pool = 8000", "pool: expected `str | list`, got `int`"),
        ("pool = ['8000-']", "pool[0]: expected a range such as 8000-8099"),
        ("project = 5", "project: expected `str`, got `int`"),
        ('project = "a\\u001bb"', "project: expected a name that can be printed, not 'a\\x1bb'"),
        ("services", "is not TOML"),
        (f"services.api = {LONG}", "is not TOML"),
        ("services.api = 0x" + "f" * 9000, "services.api: expected `int` <= 65535"),
        (
            "services.api.port = 1\nservices.api.health." + "probe." * 3000 + "probe = 1",
            "services.api.health.probe: expected `str | list`",
        ),
        ("services = " + "[" * 3000, "is not TOML"),
    ],
    ids=lambda text: text[:40],
)
def test_what_makes_no_sense_is_said_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(write(tmp_path, text), {})
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "ultra-ports.toml"))


def test_an_unknown_environment_is_named_with_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, "services.api = 1\nenvironments.test.api = 2\nenvironments.stage.api = 3")
    with pytest.raises(UsageError, match=r"'prod'.*\(there are: stage, test\)"):
        load(tmp_path, {"ULTRA_PORTS_ENV": "prod"})


KEYS = st.sampled_from(
    [
        *("project", "pool", "services", "environments", "api", "web", "port", "protocol"),
        *("address", "variable", "health", "probe", "status", "timeout", "export", "env_files"),
    ]
) | st.text(max_size=5)
SCALARS = st.one_of(
    st.integers(-5, 70_000),
    st.integers(),
    st.booleans(),
    st.floats(),
    st.dates(),
    st.text(max_size=20),
    st.sampled_from(
        [
            "tcp",
            "udp",
            "::1",
            "127.0.0.1",
            "/healthz",
            "http://[::1",
            "8000-8010",
            "{api.port}",
            "{",
        ]
    ),
)
TABLES = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
        max_leaves=12,
    ),
    max_size=5,
)


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        TABLES,
        st.fixed_dictionaries({"services": st.dictionaries(KEYS, TABLES | SCALARS, max_size=4)}),
        st.fixed_dictionaries(
            {
                "services": st.fixed_dictionaries({"api": st.integers(1, 70_000)}),
                "environments": TABLES,
            }
        ),
        st.fixed_dictionaries(
            {
                "services": st.fixed_dictionaries({"api": st.integers(1, 70_000)}),
                "export": st.dictionaries(st.sampled_from(["A", "B C"]), SCALARS),
            }
        ),
    )
)
@example({"services": {"api": {"port": 10**5000}}})
def test_any_contents_are_a_project_or_bad_input(raw: dict[str, Any]) -> None:
    try:
        contents = file.contents(Path("/x/ultra-ports.toml"), raw)
    except UsageError as error:
        assert len(str(error)) < 1000
    else:
        assert all(1 <= entry.request.port <= 65535 for entry in contents.services)
        fields = {f"{each.name}.{part}": "" for each in contents.services for part in PARTS}
        for each in contents.exports:
            each.filled({"checkout": "", **fields})


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(max_size=80) | st.binary(max_size=80))
def test_any_text_is_a_project_or_bad_input(tmp_path: Path, text: str | bytes) -> None:
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    path = tmp_path / "ultra-ports.toml"
    path.write_bytes(raw)
    try:
        load(tmp_path, {})
    except UsageError:
        return
    tomllib.loads(raw.decode())
