"""What is loaded, and when.

What Python loads lazily (PEP 810) has no submodules until they are imported by their names.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.lab.ports import free_port

ROOT = Path(__file__).parents[2] / "resolver"
MOST_INSIDE_FUNCTIONS = 12
LOADED_AT_ONCE = {
    "psutil",
    "shutil",
    "logging",
    "concurrent.futures",
    "resolver.gather.podman",
    "resolver.gather.processes",
    "resolver.model.holders",
    "resolver.ownership",
    "resolver.strategies.choose",
}
"""Where imports are not lazy: what a free port does not need, and stands at the top of a file."""


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


def late(text: str) -> int:
    """How many import statements stand inside functions."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    inside = (node for each in ast.walk(ast.parse(text)) if isinstance(each, functions)
              for node in ast.walk(each))  # fmt: skip
    return len({node for node in inside if isinstance(node, ast.Import | ast.ImportFrom)})


def test_few_imports_stand_inside_functions() -> None:
    """Which ones, and why: pyproject.toml names their files for PLC0415."""
    found = {path: late(path.read_text(encoding="utf-8")) for path in ROOT.rglob("*.py")}
    found = {path: count for path, count in found.items() if count}
    assert 0 < sum(found.values()) <= MOST_INSIDE_FUNCTIONS, found


def loaded(script: str, folder: Path) -> set[str]:
    """The packages and modules that a script has loaded when it ends; coverage has its own.

    Root, who would read the rules of the machine's packet filter, runs it where there are none.
    """
    alone = ["unshare", "--net"] if os.geteuid() == 0 else []
    unmeasured = {name: text for name, text in os.environ.items() if not name.startswith("COV")}
    said = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
    done = subprocess.run(
        [*alone, sys.executable, "-c", said + script],
        cwd=folder,
        env={**unmeasured, "ULTRA_PORTS_STATE": str(folder / "none")},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


def test_the_sdk_is_not_loaded_for_an_engine_that_is_not_there(tmp_path: Path) -> None:
    script = """
from resolver.errors import EngineAbsentError
from resolver.host.engine_client import EngineClient
try:
    EngineClient("unix:///nonexistent/docker.sock", 1.0).containers()
except EngineAbsentError:
    print("absent")
"""
    found = loaded(script, tmp_path)
    assert "resolver.host.engine_client" in found
    assert "docker" not in found


def test_a_free_port_loads_nothing_that_is_for_others(tmp_path: Path) -> None:
    words = ["ultra-ports", "resolve", "--no-docker", str(free_port())]
    script = f"import sys; sys.argv = {words}; from resolver.__main__ import main; main()"
    found = loaded(script, tmp_path)
    assert "resolver.pipeline" in found
    others = {"docker", "tabulate", "sqlite3", "tomllib", "dotenv", "resolver.classify"}
    assert found.isdisjoint(others)
    is_lazy = hasattr(sys, "set_lazy_imports")
    assert found & LOADED_AT_ONCE == (set() if is_lazy else LOADED_AT_ONCE)
