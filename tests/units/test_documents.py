"""The README says what the command really says, and the documents name what is really there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from resolver.classify import CLASSIFIERS
from resolver.cli.options import EPILOG
from resolver.model import ExitStatus
from tests.lab.cli import ultra

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LONGEST_README = 180  # lines
MOST_OF_DOORS = 900  # lines, as wc(1) counts them


def test_the_readme_is_one_screen_of_problem_one_of_solution_and_links() -> None:
    assert len(README.splitlines()) <= LONGEST_README


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), (page.name, target)


@pytest.mark.parametrize(("command", "never"), [("resolve", set()), ("who", {ExitStatus.ADVISED})])
def test_every_exit_status_is_documented_everywhere(command: str, never: set[ExitStatus]) -> None:
    text = ultra(command, "-h").stdout
    for status in set(ExitStatus) - never:
        assert re.search(rf"^ +{status:d}  ", text, re.MULTILINE), status
        assert re.search(rf"^\| {status:d} \|", README, re.MULTILINE), status
        assert f"  {status:d}  " in EPILOG


def test_the_map_names_every_module() -> None:
    the_map = (ROOT / "ARCHITECTURE.md").read_text()
    for path in sorted((ROOT / "resolver").iterdir()):
        if path.is_dir() and (path / "__init__.py").exists():
            assert f"`resolver/{path.name}/`" in the_map
        elif path.suffix == ".py" and not path.name.startswith("_"):
            assert f"{path.name}`" in the_map


def test_the_map_names_every_file_of_the_pipeline() -> None:
    the_map = (ROOT / "ARCHITECTURE.md").read_text()
    for room in ("gather", "strategies"):
        for path in (ROOT / "resolver" / room).glob("[a-z]*.py"):
            assert f"`{path.name}`" in the_map, path


def test_no_two_classes_have_one_name() -> None:
    homes: dict[str, list[str]] = {}
    for path in (ROOT / "resolver").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name.lstrip("_"), []).append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_the_doors_are_small() -> None:
    """Those that the map names, and nothing that it does not: every new one is added there."""
    cli = (
        "docker_ports",
        "docker_hook",
        "docker_plugin",
        "completing",
        "mcp",
        "mcp_server",
        "schema",
        "man",
    )
    files = [ROOT / "resolver" / "cli" / f"{name}.py" for name in cli]
    files += [ROOT / "action.yml", ROOT / ".pre-commit-hooks.yaml", *(ROOT / "templates").iterdir()]
    lines = sum(path.read_bytes().count(b"\n") for path in files)
    assert lines <= MOST_OF_DOORS


def test_every_classifier_is_asked_once() -> None:
    files = {path.stem for path in (ROOT / "resolver" / "classify").glob("[a-z]*.py")}
    names = [classifier.__name__.rpartition(".")[2] for classifier in CLASSIFIERS]  # type: ignore[attr-defined]
    assert sorted(names) == sorted(files)
    assert names[-1] == "local"


def test_what_is_asked_of_an_engine_is_in_the_security_page() -> None:
    client = (ROOT / "resolver" / "host" / "engine_client.py").read_text(encoding="utf-8")
    requests = {
        "containers": "/containers/json",
        "inspect_container": "/containers/{id}/json",
        "info": "/info",
        "events": "/events",
        "stop": "/containers/{id}/stop",
        "unpause": "/unpause",
    }
    assert set(re.findall(r"self\._api\.(\w+)\(", client)) == set(requests)
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert all(path in page for path in requests.values())
