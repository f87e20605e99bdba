"""Classifiers and gatherers run commands and open files by the one rule, and in no other way."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from resolver.gather import cgroups
from resolver.host import files

ROOT = Path(__file__).parents[2] / "resolver"
FOLDERS = ("classify", "collateral", "gather")
# What runs a program, or opens what a name leads to
MODULES = {"subprocess", "pathlib", "glob", "shutil", "tempfile", "io", "ctypes", "asyncio", "pty"}
CALLS = {"open", "exec", "eval", "compile", "__import__"}
METHODS = {
    *("open", "listdir", "scandir", "walk", "fwalk", "system", "popen", "posix_spawn", "fork"),
    *("execv", "execve", "execvp", "spawnv", "spawnvp", "Popen", "read_text", "read_bytes"),
}
# These may import the runner, to be the default of an argument
RUNNERS = {"gather/__init__.py"}


def offences(text: str, *, may_run: bool = False) -> list[str]:
    """What a module's text does that it shall not, with the line of each."""
    return [
        f"line {node.lineno}: {ast.unparse(node)[:60]}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.expr | ast.stmt) and _offends(node, may_run=may_run)
    ]


def _offends(node: ast.AST, *, may_run: bool) -> bool:
    match node:
        case ast.Import(names=names):
            return any(each.name.partition(".")[0] in MODULES for each in names)
        case ast.ImportFrom(module=module):
            runs = module == "resolver.host.runner" and not may_run
            return runs or (module or "").partition(".")[0] in MODULES
        case ast.Call(func=ast.Name(id=name)):
            return name in CALLS
        case ast.Call(func=ast.Attribute(attr=name)):
            return name in METHODS
        case ast.Attribute(attr=name):
            return name == "AF_UNIX"
        case _:
            return False


@pytest.mark.parametrize(
    "path", [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.py"))], ids=str
)
def test_nothing_is_run_or_opened_but_through_the_rule(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    assert offences(path.read_text(encoding="utf-8"), may_run=name in RUNNERS) == []


@pytest.mark.parametrize(
    "text",
    [
        "import subprocess",
        "from subprocess import run",
        "open('/etc/passwd')",
        "import os\nos.open('/x', os.O_RDONLY)",
        "from pathlib import Path",
        "from resolver.host.runner import run_command",
        "import socket\nsocket.socket(socket.AF_UNIX)",
        "import psutil\npsutil.Popen(['sh'])",
    ],
)
def test_what_it_would_find(text: str) -> None:
    assert offences(text)


@pytest.mark.parametrize("path", ["/etc/passwd", "pm2.pid", "/procfs", "/tmp/x"])  # noqa: S108
def test_the_kernels_reader_reads_nothing_else(path: str) -> None:
    with pytest.raises(ValueError, match="no file of the kernel"):
        files.read(path)


def test_a_hierarchy_mounted_elsewhere_names_no_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where that is so, every process is looked into: nothing breaks."""
    group = tmp_path / "web.slice"
    group.mkdir()
    (group / "cgroup.procs").write_text("1\n", encoding="ascii")
    monkeypatch.setattr(cgroups, "_mount_point", lambda: str(tmp_path))
    assert cgroups.paths_of([group.stat().st_ino]) == {group.stat().st_ino: "/web.slice"}
    assert cgroups.members_of([group.stat().st_ino]) is None
