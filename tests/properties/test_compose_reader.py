"""Our reader against compose on what nobody thought of: random entries, variables and texts."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resolver import dotenv
from resolver.compose import plugin, reader
from resolver.compose.model import ComposeArguments
from resolver.errors import UsageError
from resolver.interpolation import interpolate
from tests.lab.composefiles.asking import CONFIG, ENVIRON, Runner, essence, version
from tests.lab.composefiles.case import COMPOSE

FEW = settings(max_examples=20)  # each of them runs compose once or twice

numbers = st.one_of(
    st.integers(0, 70000).map(str), st.sampled_from(["", "0", "080", "65535", "-1", "+1", "8 0"])
)
ranges = st.one_of(numbers, st.builds("{}-{}".format, numbers, numbers))
addresses = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map("[{}]".format),
    st.sampled_from(["", "localhost", "::1", "[]", "[127.0.0.1]", "0.0.0.0", "[::", "127.1"]),
)
short = st.builds(
    "{}{}{}".format,
    st.one_of(
        st.just(""),
        ranges.map("{}:".format),
        st.builds("{}:{}:".format, addresses, ranges),
    ),
    ranges,
    st.sampled_from(["", "", "", "/udp", "/tcp", "/SCTP", "/", "/foo", "/udp/tcp"]),
)
long = st.fixed_dictionaries(
    {"target": st.one_of(st.integers(-1, 70000), numbers, st.booleans(), st.none())},
    optional={
        "published": st.one_of(st.integers(-1, 70000), ranges, st.booleans(), st.floats(0, 9)),
        "host_ip": st.one_of(addresses.map(lambda text: text.strip("[]")), st.integers()),
        "protocol": st.sampled_from(["tcp", "UDP", "", "foo", 5]),
        "mode": st.sampled_from(["host", "ingress", 5]),
        "x-more": st.integers(),
    },
)
entries = st.one_of(short, st.integers(-1, 70000), long)

marks = (
    "$",
    "$$",
    "{",
    "}",
    "{}",
    "{a}",
    "}}",
    "A",
    "U",
    "E",
    ":-",
    "-",
    ":?",
    "?",
    ":+",
    "+",
    "x",
)
openings = ("${", "${A}", "${A:-", "${A:?", "${A:+", "${U:-", "${U:+", "${E?")
words = st.sampled_from([*marks, *openings, " "])
expressions = st.lists(words, max_size=10).map("".join)
VALUES = {"A": "a$b", "E": ""}


def compose(model: object, environ: dict[str, str]) -> object:
    """What compose makes of a file: its answer, or None where it refuses."""
    version()
    with tempfile.TemporaryDirectory(prefix="lab") as name:
        folder = Path(name)
        (folder / COMPOSE).write_text(json.dumps(model), encoding="utf-8")
        try:
            return plugin.ask(ComposeArguments(), Runner(folder, environ))
        except UsageError:
            return None


def project(ports: list[list[object]]) -> dict[str, object]:
    """A service for each list of entries."""
    services = {f"s{n}": {"image": "x", "ports": each} for n, each in enumerate(ports)}
    return {"name": "shop", "services": services}


def ours(model: object, environ: dict[str, str]) -> object:
    """What our reader makes of it: the essence, or None where it refuses."""
    with tempfile.TemporaryDirectory(prefix="lab") as name:
        folder = Path(name)
        (folder / COMPOSE).write_text(json.dumps(model), encoding="utf-8")
        try:
            found = reader.read(ComposeArguments(), {**ENVIRON, **environ}, folder)
        except UsageError:
            return None
        return essence(found.services)


@pytest.mark.engine
@FEW
@given(st.lists(st.lists(entries, min_size=1, max_size=3), min_size=1, max_size=40))
@example([[{"target": 80, "published": 80}, {"target": 80, "published": "80"}]])
def test_random_entries(ports: list[list[object]]) -> None:
    taken = [each for each in ports if ours(project([each]), {}) is not None]
    refused = [each for each in ports if each not in taken]
    if taken:
        answer = compose(project(taken), {})
        assert isinstance(answer, plugin.Answer), f"compose refuses one of {taken}"
        assert ours(project(taken), {}) == essence(answer.services)
    if refused:
        assert compose(project(refused[:1]), {}) is None


@pytest.mark.engine
@FEW
@given(st.lists(expressions, min_size=1, max_size=60))
def test_random_variables(texts: list[str]) -> None:
    taken: dict[str, str] = {}
    refused: list[str] = []
    for text in texts:
        try:
            taken[text] = interpolate(text, VALUES.get).text
        except UsageError as error:
            assert str(error).isprintable()
            refused.append(text)
    assert labels(list(taken)) == list(taken.values())
    if refused:
        assert labels(refused[:1]) is None


def labels(texts: list[str]) -> list[str] | None:
    """What compose makes of texts; None where it refuses one of them."""
    version()
    named = {f"l{n}": text for n, text in enumerate(texts)}
    model = {"name": "shop", "services": {"web": {"image": "x", "labels": named}}}
    with tempfile.TemporaryDirectory(prefix="lab") as name:
        folder = Path(name)
        (folder / COMPOSE).write_text(json.dumps(model), encoding="utf-8")
        done = Runner(folder, VALUES)(CONFIG, timeout_seconds=60)
    if done.status:
        return None
    answer = json.loads(done.stdout)["services"]["web"].get("labels", {})
    return [answer[label].replace("$$", "$") for label in named]


@given(st.text(max_size=200), st.booleans())
@example("services:\n  web:\n    ports: [*a]", False)  # noqa: FBT003 - hypothesis's way
@example("? !reset [a]\n: b", False)  # noqa: FBT003 - the same
@example("<<: !reset {}\nservices: {}", False)  # noqa: FBT003 - the same
@example("services: {web: {extends: [], ports: [!reset 1, {}, [], ~]}}", True)  # noqa: FBT003
def test_any_text_is_read_or_refused(text: str, twice: bool) -> None:  # noqa: FBT001
    with tempfile.TemporaryDirectory(prefix="lab") as name:
        (Path(name) / COMPOSE).write_text(text * (1 + twice), encoding="utf-8", newline="")
        try:
            reader.read(ComposeArguments(project="p"), {}, Path(name))
        except UsageError as error:
            assert str(error).isprintable(), str(error)


signs = st.sampled_from(
    ["A", "B", "=", ":", " ", "\n", "'", '"', "\\", "$", "{", "}", "#", "export"]
)


@given(st.one_of(st.text(max_size=60), st.lists(signs, max_size=25).map("".join)))
def test_any_dotenv_is_read_or_refused(text: str) -> None:
    try:
        found = dotenv.parse(text, VALUES)
    except UsageError as error:
        assert str(error).startswith("line ")
        assert str(error).isprintable()
    else:
        assert all(isinstance(value, str) for value in found.values())


shapes = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), expressions
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "services",
                    "ports",
                    "include",
                    "extends",
                    "web",
                    "deploy",
                    "replicas",
                    "scale",
                    "profiles",
                    "name",
                    "target",
                    "published",
                    "path",
                    "file",
                    "service",
                    "env_file",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@given(shapes)
def test_any_shape_is_read_or_refused(shape: object) -> None:
    ours(shape, VALUES)
    ours({"services": {"web": shape}}, VALUES)
    ours({"services": {"web": {"ports": shape}}, "include": shape}, VALUES)
