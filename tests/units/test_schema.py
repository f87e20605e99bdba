"""JSON Schemas: of every envelope, and of the project file."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from resolver.cli.schema import SHAPES, schema_of
from tests.lab import npm
from tests.lab.cli import Run, ultra, ultra_each
from tests.lab.contracts import check, validator
from tests.lab.ports import free_port

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "ultra-ports.toml"


def test_every_envelope_has_one() -> None:
    listed = [line.split() for line in ultra("schema").stdout.splitlines()]
    assert [tuple(each) for each in listed] == [(name, schema_of(name)["title"]) for name in SHAPES]
    *runs, nonsense = ultra_each(("schema", name) for name in (*SHAPES, "nonsense"))
    for name, run in zip(SHAPES, runs, strict=True):
        assert run.status == 0, name
        validator(name).check_schema(run.json)
    assert nonsense.status == 2


def test_no_envelope_is_without_one() -> None:
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "resolver").rglob("*.py"))
    named = re.compile(r'"(ultra-ports\.[a-z-]+/\d+)"')
    made = {found for text in sources for found in named.findall(text)}
    assert made == {schema_of(name)["title"] for name in SHAPES} - {"ultra-ports.toml"}


@pytest.mark.parametrize(
    "output",
    [
        '{"schema": "ultra-ports.report/1"}',
        '{"schema": "ultra-ports.event/1"}\n{"schema": "ultra-ports.event/1"}\n',
        'a line\n{"schema": "ultra-ports.health/1", "tool": {}}',
        '{"notice": "", "result": {"schema": "ultra-ports.assignment/1"}}',
        '{"schema": "ultra-ports.unheard-of/1"}',
    ],
)
def test_whatever_a_test_sees_is_compared(output: str) -> None:
    with pytest.raises(AssertionError):
        Run(0, output, "")


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        (("who", "--json"), {"ports": [{}]}),
        (("health", "--json"), {"services": 1}),
        (("reservations", "--json"), {"store": {}}),
        (("config", "--json"), {"settings": [1]}),
        (("assign", "--format", "json", "--dry-run"), {"services": [{}]}),
        (("resolve", "--plan-out", "-"), {"machine": None}),
    ],
)
def test_what_is_printed_has_the_shape(arguments: tuple[str, ...], changed: dict[str, Any]) -> None:
    port = str(free_port())
    what = {"assign": (f"api:{port}",), "reservations": (), "config": ()}
    run = ultra(*arguments, *what.get(arguments[0], (port,)))

    check(run.stdout)
    with pytest.raises(AssertionError):
        check(json.dumps({**run.json, **changed}))


def test_the_project_file() -> None:
    project = validator("project")
    assert project.is_valid(tomllib.loads(EXAMPLE.read_text()))
    assert project.is_valid({"services": {"api": {"port": 80, "health": "/x"}, "dns": "53/udp"}})
    assert not project.is_valid({"services": {"api": {"protocol": "tcp"}}})
    assert not project.is_valid({"services": {"api": 70000}})
    assert not project.is_valid({"resolve": {"only": "everybody"}})


def test_an_editors_checker_takes_it(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(ultra("schema", "project").stdout)
    taplo = npm.install("@taplo/cli@0.7", "taplo")
    file = tmp_path / "ultra-ports.toml"

    def lint(text: str) -> int:
        file.write_text(f"#:schema ./schema.json\n{text}")
        argv = [str(taplo), "lint", file.name]
        return subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False).returncode

    assert lint(EXAMPLE.read_text()) == 0
    assert lint("[services]\napi = 80850\n") == 1
