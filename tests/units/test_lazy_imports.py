"""What Python loads lazily (PEP 810) has no submodules until they are imported by their names."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2] / "resolver"


def unloaded(text: str) -> set[str]:
    """The submodules that a module reaches as attributes of a package, and does not import."""
    tree = ast.parse(text)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    names = {alias.name for node in imports for alias in node.names}
    packages = {name for name in names if "." not in name and _is_package(name)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            path = f"{node.value.id}.{node.attr}"
            if node.value.id in packages - {"resolver"} and path not in names and _is_module(path):
                found.add(path)
    return found


def _is_package(name: str) -> bool:
    spec = find_spec(name)
    return spec is not None and spec.submodule_search_locations is not None


def _is_module(path: str) -> bool:
    return find_spec(path) is not None


def test_submodules_are_imported_by_their_names() -> None:
    found = {str(path): unloaded(path.read_text(encoding="utf-8")) for path in ROOT.rglob("*.py")}
    assert {path: names for path, names in found.items() if names} == {}


def test_the_rule_finds_one() -> None:
    assert unloaded("import docker\nFAILURE = docker.errors.APIError") == {"docker.errors"}
    assert unloaded("import docker.errors\nFAILURE = docker.errors.APIError") == set()
