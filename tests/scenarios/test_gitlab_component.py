"""The CI/CD component of GitLab: its inputs filled in, and the shell inside of it run."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from tests.lab import workflows
from tests.lab.ports import free_port
from tests.lab.processes import ROOT
from tests.lab.shells import BIN

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.cli import Run
    from tests.lab.processes import Lab

pytestmark = pytest.mark.slow
TEMPLATE = (ROOT / "templates" / "ports.yml").read_text(encoding="utf-8")
SPEC, JOB = TEMPLATE.split("\n---\n")
YAML_1_2 = YAML(typ="safe", pure=True)


def job(**inputs: str) -> tuple[str, dict[str, Any]]:
    """The name and the content of the job, as GitLab makes them of the inputs."""
    spec = YAML_1_2.load(SPEC)["spec"]["inputs"]
    assert set(inputs) <= set(spec)
    assert inputs.get("command", "resolve") in spec["command"]["options"]
    values = {name: inputs.get(name, each.get("default")) for name, each in spec.items()}
    filled = re.sub(r"\$\[\[ inputs\.(\w+) \]\]", lambda match: str(values[match[1]]), JOB)
    [(name, found)] = YAML_1_2.load(filled).items()
    return name, found


def run(folder: Path, **inputs: str) -> tuple[Run, dict[str, str], str]:
    """What the job does: its end, what later jobs have, and the artifact."""
    name, found = job(**inputs)
    enter = ("env", "-C", str(folder))
    path = {"PATH": f"{BIN}:{os.environ['PATH']}"}
    done = workflows.run_gitlab(found, "script", enter, path)
    assert found["artifacts"]["paths"] == [f"{name}-story.txt"]
    later = (folder / found["artifacts"]["reports"]["dotenv"]).read_text(encoding="utf-8")
    story = (folder / f"{name}-story.txt").read_text(encoding="utf-8")
    return done, dict(line.split("=", 1) for line in later.splitlines()), story


def test_it_frees_a_port_and_tells_the_story(tmp_path: Path, lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)

    done, later, story = run(tmp_path, arguments=f"{port} --settle 0.3")

    assert done.status == 0, done.stdout + done.stderr
    assert not server.alive
    assert later == {"PORTS_STATUS": "0"}
    assert str(server.pid) in story
    assert story in done.stdout


def test_it_assigns_ports_for_later_jobs(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "ultra-ports.toml").write_text(
        f"services.api = {port}\nexport.ORIGINS = '[\"{{api.url}}\"]'\n", encoding="utf-8"
    )
    done, later, _ = run(tmp_path, job="mine", command="assign")
    assert done.status == 0, done.stdout + done.stderr
    assert later["API_PORT"] == str(port)
    assert later["ORIGINS"] == f'["http://127.0.0.1:{port}"]', "no reader of it takes quotes off"


def test_it_fails_as_the_command_does(tmp_path: Path) -> None:
    done, later, _ = run(tmp_path, command="resolve", arguments="nonsense:*")
    assert (done.status, later) == (2, {"PORTS_STATUS": "2"})


def test_its_defaults_are_a_job() -> None:
    name, found = job()
    assert (name, found["stage"]) == ("ports", ".pre")
    assert found["tags"] == []
    assert set(found) == {"stage", "image", "tags", "variables", "script", "artifacts"}
