"""The release workflow's own steps, and what they make: installed by the tools that people use."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

import resolver
from tests.lab import workflows
from tests.lab.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("release")]

WORKFLOW: dict[str, Any] = workflows.load(ROOT / ".github" / "workflows" / "release.yml")
VERSION = resolver.__version__
TOOLS = ("pipx", "uv")


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The `bin` of an environment with the workflow's tools, pipx and uv."""
    place = tmp_path_factory.mktemp("tools")
    python = str(place / "bin" / "python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile"]
    wanted = ("pip", "build", "twine", "cyclonedx-bom", *TOOLS)
    subprocess.run([*pip, *wanted], check=True, timeout=300)
    yield place / "bin"
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def made(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout in which the workflow's first job was run, with a version in its changelog."""
    source = tmp_path_factory.mktemp("release") / "source"
    git = shutil.which("git") or "git"
    words = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run([git, "-C", ROOT, *words], capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    text = (source / "CHANGELOG.md").read_text(encoding="utf-8")
    dated = text.replace("## [Unreleased]", f"## [Unreleased]\n\n## [{VERSION}] - 2026-11-27")
    (source / "CHANGELOG.md").write_text(dated, encoding="utf-8")
    kept = {name: each for name, each in os.environ.items() if name != "PYTHONPATH"}
    env = {**kept, "PATH": f"{tools}:{kept['PATH']}", "GITHUB_REF_NAME": f"v{VERSION}"}
    steps = workflows.run_github(WORKFLOW["jobs"]["build"], source, env, {})
    assert [each.run.status for each in steps] == [0] * 5, steps
    yield source
    shutil.rmtree(source)


def test_the_jobs_have_no_right_that_they_do_not_need() -> None:
    assert WORKFLOW["permissions"] == {}
    assert WORKFLOW["on"] == {"push": {"tags": ["v*"]}}
    rights = {name: job["permissions"] for name, job in WORKFLOW["jobs"].items()}
    assert rights == {
        "build": {"contents": "read"},
        "pypi": {"id-token": "write"},
        "release": {"contents": "write"},
        "image": {"contents": "read", "packages": "write"},
    }
    publish = WORKFLOW["jobs"]["pypi"]
    assert publish["environment"] == "pypi"
    assert "password" not in json.dumps(publish)
    assert all("run" not in step for step in publish["steps"])


def test_what_others_made_is_pinned_by_its_commit() -> None:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    used = re.findall(r"uses: *(.*)", text)
    assert len(used) >= 5
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each) for each in used)
    assert "uses:" not in (ROOT / "action.yml").read_text(encoding="utf-8")


def test_the_sdist_has_what_its_tests_need(made: Path) -> None:
    with tarfile.open(made / "dist" / f"ultra_ports-{VERSION}.tar.gz") as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    for name in ("SECURITY.md", "action.yml", "templates/ports.yml", "tests/run", ".ci/run"):
        assert name in names
    assert not any(name.startswith((".venv", "dist")) for name in names)


def test_the_sbom_names_what_is_installed(made: Path) -> None:
    sbom = json.loads((made / "sbom" / f"ultra-ports-{VERSION}.cdx.json").read_text("utf-8"))
    assert sbom["bomFormat"] == "CycloneDX"
    assert sbom["metadata"]["component"]["name"] == "ultra-ports"
    names = {each["name"] for each in sbom["components"]}
    assert {"docker", "msgspec", "psutil", "python-dotenv", "tabulate", "typer"} <= names
    assert not names & {"pip", "pytest", "twine"}


def test_the_notes_are_those_of_the_version(made: Path) -> None:
    notes = (made / "notes.md").read_text(encoding="utf-8")
    assert notes.lstrip().startswith("### ")
    assert "## [" not in notes


@pytest.mark.parametrize("tool", TOOLS)
def test_it_is_installed_by(tool: str, made: Path, tools: Path, tmp_path: Path) -> None:
    wheel, sdist = (
        str(made / "dist" / f"ultra_ports-{VERSION}{end}")
        for end in ("-py3-none-any.whl", ".tar.gz")
    )
    places = ("PIPX_HOME", "UV_TOOL_DIR", "UV_CACHE_DIR", "PIPX_MAN_DIR")
    env = {**os.environ, **{name: str(tmp_path / name) for name in places}}
    env |= dict.fromkeys(("PIPX_BIN_DIR", "UV_TOOL_BIN_DIR"), str(tmp_path / "bin"))
    if "PIP_CERT" in env:
        env["SSL_CERT_FILE"] = env["PIP_CERT"]
    words = {
        "pipx": ("install", wheel),
        "uv": ("tool", "install", "--python", sys.executable, sdist),
    }
    argv = [str(tools / tool), *words[tool]]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr

    def said(program: str, *arguments: str) -> str:
        argv = [str(tmp_path / "bin" / program), *arguments]
        return subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert VERSION in said("ultra-ports", "--version")
    assert json.loads(said("docker-ports", "docker-cli-plugin-metadata"))["Version"] == VERSION
    assert "clear_port" in said("ultra-ports", "shell-init"), "files that are no modules come along"
