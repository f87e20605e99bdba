"""Our reader against compose itself: a corpus of files, each put to both.

What must agree: which services there are, what each publishes, how many containers it would have
and on which network; the project's name; and whether the files are taken at all. What differs on
purpose says so in the corpus.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resolver.compose import plugin, reader
from resolver.compose.read import read
from resolver.errors import UsageError
from tests.lab.composefiles import dotenvs, entries, others, places, variables, yaml
from tests.lab.composefiles.asking import CONFIG, ENVIRON, Runner, arguments, essence, version
from tests.lab.composefiles.case import COMPOSE, OVERRIDE, service, services
from tests.lab.processes import unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.compose.model import ComposeProject
    from tests.lab.composefiles.case import Case

pytestmark = pytest.mark.engine

TABLES = {
    "entry": entries.CASES,
    "variable": variables.CASES,
    "yaml": yaml.CASES,
    "place": places.CASES,
    "extends": others.EXTENDS,
    "include": others.INCLUDE,
}
CORPUS = tuple(
    pytest.param(case, id=f"{name}: {case.name}")
    for name, table in TABLES.items()
    for case in table
)


@pytest.fixture(autouse=True)
def _compose() -> None:
    version()


def theirs(case: Case, cwd: Path) -> tuple[str, dict[str, object]] | str:
    """The name and the services by compose, or why it refuses."""
    try:
        answer = plugin.ask(arguments(*case.arguments), Runner(cwd, case.environ))
    except UsageError as error:
        return str(error)
    return answer.name, essence(answer.services)


def ours(case: Case, cwd: Path) -> tuple[str, dict[str, object]] | str:
    """The same by our reader."""
    try:
        project = reader.read(arguments(*case.arguments), {**ENVIRON, **case.environ}, cwd)
    except UsageError as error:
        assert str(error).isprintable(), str(error)
        return str(error)
    return project.name, essence(project.services)


@pytest.mark.parametrize("case", CORPUS)
def test_our_reader_agrees_with_compose(case: Case, tmp_path: Path) -> None:
    cwd = case.write(tmp_path)
    by_compose, by_us = theirs(case, cwd), ours(case, cwd)
    if case.ours_only:
        assert isinstance(by_compose, str)
        assert not isinstance(by_us, str), by_us
    elif case.theirs_only:
        assert not isinstance(by_compose, str), by_compose
        assert isinstance(by_us, str)
    elif isinstance(by_compose, str) or isinstance(by_us, str):
        assert isinstance(by_compose, str), f"only our reader refuses: {by_us}"
        assert isinstance(by_us, str), f"only compose refuses: {by_compose}"
    else:
        assert by_us == by_compose


@pytest.mark.parametrize("text", [*dotenvs.READ, *dotenvs.REFUSED])
def test_dotenv_texts_are_recorded_as_compose_has_them(text: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(text, encoding="utf-8", newline="")
    names = [name for name in dotenvs.READ.get(text, ()) if name.isidentifier() and name.isascii()]
    labels = _labels({name: f"${{{name}-is not set}}" for name in names}, tmp_path, dotenvs.ENVIRON)
    if text in dotenvs.REFUSED:
        assert labels is None
    else:
        wanted = {**dotenvs.READ[text], **dotenvs.ENVIRON}
        assert labels == {name: wanted[name] for name in names}


def test_variables_are_recorded_as_compose_has_them(tmp_path: Path) -> None:
    expressions = dict(enumerate(variables.READ))
    labels = _labels(
        {f"l{n}": text for n, text in expressions.items()}, tmp_path, variables.ENVIRON
    )
    assert labels == {f"l{n}": variables.READ[text] for n, text in expressions.items()}


@pytest.mark.parametrize("text", variables.REFUSED)
def test_variables_that_compose_refuses(text: str, tmp_path: Path) -> None:
    assert _labels({"l": text}, tmp_path, variables.ENVIRON) is None


def _labels(
    labels: Mapping[str, str], folder: Path, environ: Mapping[str, str]
) -> dict[str, str] | None:
    """What compose makes of the labels of a service; None where it refuses."""
    text = json.dumps({"name": "shop", "services": {"web": {"image": "x", "labels": labels}}})
    (folder / COMPOSE).write_text(text, encoding="utf-8")
    run = Runner(folder, environ)
    done = run(CONFIG, timeout_seconds=60)
    if done.status:
        return None
    answer = json.loads(done.stdout)["services"]["web"].get("labels", {})
    return {name: value.replace("$$", "$") for name, value in answer.items()}  # as it escapes them


# --- the two together -----------------------------------------------------------------------------


def both(folder: Path, text: str, *words: str, **environ: str) -> ComposeProject:
    """The project of one file, by whoever the PATH has."""
    (folder / COMPOSE).write_text(text, encoding="utf-8")
    return read(arguments(*words), {**ENVIRON, **environ}, folder, Runner(folder, environ, 1.0))


def program(folder: Path, name: str, script: str) -> str:
    """A PATH on which nothing is but a script of this name, and what a shell needs."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / name).chmod(0o755)
    return str(folder)


def test_compose_is_asked_and_our_reader_tells_the_rest(tmp_path: Path) -> None:
    text = service('"${P}:80"', '"${H}:8081:81"', '"8082:82"')
    (tmp_path / OVERRIDE).write_text(services(web="{scale: 2}"))
    project = both(tmp_path, "name: shop\n" + text)
    assert project.source == "docker compose config --format json"
    assert project.name == "shop"
    assert project.working_dir == tmp_path
    assert project.files == (tmp_path / COMPOSE, tmp_path / OVERRIDE)
    (web,) = project.services
    assert web.replicas == 2
    automatic, exposed, plain = sorted(web.published, key=lambda entry: entry.target)
    assert (automatic.first, automatic.unset, automatic.where) == (None, ("P",), f"{COMPOSE}:6")
    assert (exposed.first, exposed.address, exposed.exposed_by) == (8081, None, ("H",))
    assert (plain.first, plain.unset, plain.text) == (8082, (), "8082:82")
    (note,) = project.notes
    assert "H is not set, or empty: ${H}:8081:81 would be published on every address" in note


@pytest.mark.parametrize(
    ("entry", "trouble"),
    [
        ('{target: 80, published: "abc"}', "'abc'"),
        ("{target: 80, published: 70000}", "'70000'"),
        ("{target: 80, published: 80, host_ip: localhost}", "'localhost'"),
        ("{target: 0}", "0 is no port"),
    ],
)
@pytest.mark.parametrize("path", [{}, {"PATH": "/nonexistent"}], ids=["compose", "our reader"])
def test_trouble_is_told_either_way(
    entry: str, trouble: str, path: dict[str, str], tmp_path: Path
) -> None:
    ((found,),) = (each.published for each in both(tmp_path, service(entry), **path).services)
    assert trouble in found.trouble


def test_options_are_passed_on(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(services(a="{image: x, ports: ['1:1'], profiles: [p]}"))
    (tmp_path / "b.yaml").write_text(services(b="{image: x, ports: ['2:2'], profiles: [q]}"))
    words = ("-f", "a.yaml", "-f", "b.yaml", "--profile", "p", "--profile", "q", "-p", "other")
    project = both(tmp_path, service(), *words)
    assert project.name == "other"
    assert [each.name for each in project.services] == ["a", "b"]


def test_what_compose_refuses_is_refused_in_its_words_and_ours(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        both(tmp_path, service('"${UNSET}8080:80"', '"abc:80"'))
    message = str(caught.value)
    assert message.startswith("docker compose: Invalid hostPort: abc")
    assert f"{tmp_path / COMPOSE}:6: services.web.ports" in message
    assert "level=warning" not in message
    assert message.isprintable()


def test_what_only_compose_refuses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^docker compose: .*prots"):
        both(tmp_path, service("80", more="    prots: [80]\n"))


def test_what_only_compose_can_read_is_told_without_our_part(tmp_path: Path) -> None:
    """A plug-in that knows more than our reader does: it answers, and a note says what is amiss."""
    deep = "x-a: " + "[" * 70 + "]" * 70 + "\n" + service('"${P}:80"')
    project = both(tmp_path, deep)
    ((found,),) = (each.published for each in project.services)
    assert (found.first, found.unset) == (None, ())
    (note,) = project.notes
    assert note.startswith("which variables are not set was not checked: ")


def test_without_compose_our_reader_answers(tmp_path: Path) -> None:
    project = both(tmp_path, service('"8080:80"', '"${P}:81"'), PATH="/nonexistent")
    assert project.source == reader.SOURCE
    assert [entry.first for each in project.services for entry in each.published] == [8080, None]
    assert "compose could not be asked" in project.notes[0]


def test_standalone_compose_is_asked_where_the_plug_in_is_missing(tmp_path: Path) -> None:
    found = [Path(each) / "docker-compose" for each in plug_in_folders()]
    plug_in = next((each for each in found if each.exists()), None)
    if plug_in is None:
        unavailable("the compose plug-in is not where packages put it")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker-compose").symlink_to(plug_in)
    project = both(tmp_path, service('"8080:80"'), PATH=str(tmp_path / "bin"))
    assert project.source == "docker-compose config --format json"
    assert [entry.first for each in project.services for entry in each.published] == [8080]


def plug_in_folders() -> tuple[str, ...]:
    """Where docker looks for plug-ins."""
    roots = ("/usr/libexec", "/usr/lib", "/usr/local/lib", "/usr/local/libexec")
    return (
        str(Path("~/.docker/cli-plugins").expanduser()),
        *(f"{x}/docker/cli-plugins" for x in roots),
    )


@pytest.mark.parametrize(
    "script",
    [
        # recorded: docker-compose 1.29.2 of Debian 12, which has no `config --format`
        pytest.param('test "$1" = version && echo 1.29.2 && exit; exit 1', id="version 1"),
        pytest.param("echo 'unknown flag' >&2; exit 125", id="no plug-in"),  # docker without it
        pytest.param("exec /bin/sleep 60", id="hung"),
        pytest.param('test "$1" = version && echo 2.26.1 && exit; kill -9 $$', id="killed"),
        pytest.param('test "$1" = version && echo 2.26.1 && exit; echo []', id="nonsense"),
        pytest.param('test "$1" = version && echo 2.26.1 && exit; echo "{"', id="no JSON"),
        pytest.param(
            'test "$1" = version && echo 2.26.1 && exit; exec /bin/sleep 60', id="hung later"
        ),
    ],
)
def test_what_is_no_compose_is_not_believed(script: str, tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "docker-compose", script)
    project = both(tmp_path, service('"8080:80"'), PATH=path)
    assert project.source == reader.SOURCE
    assert [entry.first for each in project.services for entry in each.published] == [8080]
    assert "could not be asked" in project.notes[0]


def test_a_refusal_without_words_is_one_all_the_same(tmp_path: Path) -> None:
    script = 'test "$1" = version && echo v2.26.1 && exit; exit 15'
    path = program(tmp_path / "bin", "docker-compose", script)
    with pytest.raises(UsageError, match="status 15, and said nothing"):
        both(tmp_path, service(), PATH=path)


def test_words_are_not_believed(tmp_path: Path) -> None:
    """What a refusal says is quoted, and nothing is decided on it."""
    script = (
        'test "$1" = version && echo 2.26.1 && exit\n'
        'echo "time=now level=warning msg=x" >&2\n'
        "printf 'compose is not a docker command\\n\\n\\033[31mred' >&2; exit 1"
    )
    path = program(tmp_path / "bin", "docker-compose", script)
    with pytest.raises(UsageError, match="not a docker command") as caught:
        both(tmp_path, service(), PATH=path)
    assert "level=warning" not in str(caught.value)


def test_standard_input_is_refused_before_compose_is_asked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="standard input"):
        both(tmp_path, service(), "-f", "-")
