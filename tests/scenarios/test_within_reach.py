"""The doors in CI: the action's own steps, hooks by the real pre-commit, annotations."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import workflows
from tests.lab.cli import Run, ultra
from tests.lab.ports import free_port
from tests.lab.processes import ROOT, unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.processes import Lab

pytestmark = pytest.mark.slow

ACTION: dict[str, Any] = workflows.load(ROOT / "action.yml")
FILES = ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_STEP_SUMMARY")


@pytest.fixture(scope="module")
def source() -> Iterator[Path]:
    """What a runner checks out of the action's repository: what git has, and what it will have."""
    listed = subprocess.run(
        [
            shutil.which("git") or unavailable("git is missing"),
            "-C",
            ROOT,
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    with tempfile.TemporaryDirectory() as name:
        for path in filter(None, listed.split("\0")):
            if (ROOT / path).is_file() and not path.startswith("tests/"):
                (Path(name) / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / path, Path(name) / path)
        yield Path(name)


@pytest.fixture(scope="module")
def temporary(source: Path) -> Iterator[Path]:
    """RUNNER_TEMP, after the action's first step, which installs it from its own folder."""
    with tempfile.TemporaryDirectory() as name:
        [step] = run_steps(ACTION["runs"]["steps"][:1], Path(name), source, {})
        assert step.run.status == 0, step.run.stderr
        yield Path(name)


def run_steps(
    steps: list[Any], temporary: Path, source: Path, inputs: dict[str, str]
) -> list[workflows.Step]:
    given = {name: str(each["default"]) for name, each in ACTION["inputs"].items()}
    given |= {"python": sys.executable, **inputs}
    environ = {
        **{name: text for name, text in os.environ.items() if name != "PYTHONPATH"},
        "RUNNER_TEMP": str(temporary),
        "GITHUB_ACTION_PATH": str(source),
        **{name: str(temporary / name) for name in FILES},
    }
    for name in FILES:
        (temporary / name).write_text("")
    return workflows.run_github(
        {"steps": steps}, temporary, environ, {f"inputs.{name}": given[name] for name in given}
    )


def acted(temporary: Path, **inputs: str) -> tuple[Run, dict[str, str]]:
    """The action's second step, and what it wrote for the workflow."""
    [step] = run_steps(ACTION["runs"]["steps"][1:], temporary, temporary, inputs)
    return step.run, {name: (temporary / name).read_text() for name in FILES}


def test_the_action_frees_a_port(temporary: Path, lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)

    run, written = acted(temporary, arguments=f"{port} --settle 0.3")

    assert run.status == 0, run.stdout + run.stderr
    assert not server.alive
    assert written["GITHUB_OUTPUT"] == "status=0\n"
    assert written["GITHUB_STEP_SUMMARY"] == ""


def test_the_action_tells_the_story_where_it_is_asked(temporary: Path, lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port, "--name", "::error::x")

    run, written = acted(temporary, command="who", arguments=str(port))

    lines = run.stdout.splitlines()
    begin = lines[0].removeprefix("::stop-commands::")
    assert (run.status, lines[-1]) == (0, f"::{begin}::")
    assert len(begin) == 32
    assert "::error::x" in run.stdout
    summary = written["GITHUB_STEP_SUMMARY"]
    *before, story = summary.split("### ultra-ports who\n\n")
    assert all(line.startswith("    ") for line in story.splitlines() if line)
    assert str(server.pid) in story
    assert "### ultra-ports" not in "".join(before) or "resolve" in before[0]


def test_what_was_freed_is_told_when_a_later_step_fails(temporary: Path, lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)
    acted(temporary, arguments=f"{port} --settle 0.3")

    _, written = acted(temporary, command="who", arguments=str(port))

    told = written["GITHUB_STEP_SUMMARY"]
    freed, _, now = told.partition("### ultra-ports who")
    assert "### ultra-ports resolve" in freed
    assert str(server.pid) in freed
    assert str(port) in now
    assert acted(temporary, command="who", arguments=str(port))[1][
        "GITHUB_STEP_SUMMARY"
    ].startswith("### ultra-ports who"), "it was told once"


def test_the_action_assigns_ports_for_later_steps(temporary: Path) -> None:
    port = free_port()

    run, written = acted(temporary, command="assign", arguments=f"api:{port}\nweb:{free_port()}")

    assert run.status == 0, run.stdout + run.stderr
    assert f"API_PORT={port}\n" in written["GITHUB_ENV"]
    (temporary / "ultra-ports.toml").write_text(
        f"services.api = {port}\nexport.ORIGINS = '[\"{{api.url}}\"]'\n"
    )
    _, whole = acted(temporary, command="assign")
    assert f'ORIGINS=["http://127.0.0.1:{port}"]\n' in whole["GITHUB_ENV"]
    outputs = dict(line.split("=", 1) for line in written["GITHUB_OUTPUT"].splitlines())
    assert json.loads(outputs["ports"])["API_PORT"] == str(port)
    assert {*ACTION["outputs"]} == {*outputs}


def test_the_action_fails_as_the_command_does(temporary: Path) -> None:
    run, written = acted(temporary, arguments="nonsense:8085")
    assert (run.status, written["GITHUB_OUTPUT"]) == (2, "status=2\n")
    run, _ = acted(temporary, command="serve")
    assert run.status == 2
    assert "::error::" in run.stdout


# --- pre-commit -----------------------------------------------------------------------------------


def test_the_hooks_of_pre_commit(source: Path, tmp_path: Path, lab: Lab) -> None:
    pre_commit = str(Path(sys.executable).with_name("pre-commit"))
    git = shutil.which("git") or unavailable("git is missing")
    if not Path(pre_commit).exists():
        unavailable("pre-commit is missing")
    port, project = free_port(), tmp_path / "project"
    project.mkdir()
    environ = {
        **{name: text for name, text in os.environ.items() if name != "PYTHONPATH"},
        "PRE_COMMIT_HOME": str(tmp_path / "pre-commit"),
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{
            f"GIT_{who}_{what}": "a@b"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }

    def run(*argv: str, cwd: Path = project) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, cwd=cwd, env=environ, capture_output=True, text=True, timeout=110, check=False
        )

    for folder in (source, project):
        run(git, "init", "--quiet", cwd=folder)
    run(git, "add", "--all", cwd=source)
    assert run(git, "commit", "--quiet", "--message=x", cwd=source).returncode == 0
    head = run(git, "rev-parse", "HEAD", cwd=source).stdout.strip()
    hooks = [{"id": "preflight"}, {"id": "env-example"}]
    config = {"repos": [{"repo": str(source), "rev": head, "hooks": hooks}]}
    (project / ".pre-commit-config.yaml").write_text(json.dumps(config))
    (project / "ultra-ports.toml").write_text("[services]\nshopfront = 3000\n")
    service = {"image": "nothing", "ports": [f"{port}:80"]}
    (project / "compose.yaml").write_text(json.dumps({"services": {"web": service}}))
    server = lab.start("answering", port)
    run(git, "add", "--all")

    done = run(pre_commit, "run", "--all-files")

    assert done.returncode == 1
    assert f"{port}/tcp for web is held" in done.stdout, done.stdout + done.stderr
    assert "SHOPFRONT_PORT" in (project / ".env.example").read_text()
    assert server.alive
    lab.reap()
    run(git, "add", "--all")
    assert run(pre_commit, "run", "--all-files").returncode == 0


# --- annotations ----------------------------------------------------------------------------------


def test_preflight_annotates_a_workflow(tmp_path: Path, lab: Lab) -> None:
    port, twice = free_port(), free_port()
    lab.start("answering", port)
    folder = tmp_path / "a,b%"
    folder.mkdir()
    ports = {"web": [f"{port}:80"], "one": [f"{twice}:80"], "two": [f"{twice}:80"]}
    services = {name: {"image": "nothing", "ports": each} for name, each in ports.items()}
    text = json.dumps({"services": services}, indent=1)
    (folder / "compose.yaml").write_text(text)
    file = ("-f", str(folder / "compose.yaml"))

    run = ultra("preflight", "--format", "github", *file, cwd=tmp_path)

    assert run.status == 3
    begin = "::error file=a%2Cb%25/compose.yaml,line="
    lines = [line for line in run.stdout.splitlines() if line.startswith("::error")]
    assert len(lines) == 2
    assert all(line.startswith(begin) for line in lines)
    at = {number for number, line in enumerate(text.splitlines(), 1) if f'"{twice}:80"' in line}
    [held] = [line for line in lines if "title=ultra-ports%3A held::" in line]
    assert f"line={text[: text.index(str(port))].count(chr(10)) + 1}," in held
    assert f"::{port}/tcp for web is held" in held
    [both] = [line for line in lines if "title=ultra-ports%3A two-services::" in line]
    assert both.startswith(f"{begin}{max(at)},")
    assert ultra("preflight", "--json", "--format", "github", *file).status == 2
