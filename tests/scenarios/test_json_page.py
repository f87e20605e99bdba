"""docs/json.md: its table has every field of the report, and its examples do what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resolver.cli.commands import COMMANDS
from resolver.cli.schema import SHAPES
from resolver.model import Verdict
from resolver.report import machine
from tests.lab.cli import COMMAND, ultra
from tests.lab.ports import free_port
from tests.lab.processes import ROOT, unavailable

if TYPE_CHECKING:
    from tests.lab.engine import Engine
    from tests.lab.processes import Lab

PAGE = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- jq: (\w+) -->\n```sh\n(.*?)```", PAGE, re.DOTALL))


def example(name: str, port: int, cwd: Path) -> str:
    """What an example of the page prints, for another port."""
    if shutil.which("jq") is None:
        unavailable("jq is missing")
    done = subprocess.run(
        ["/bin/sh", "-c", EXAMPLES[name].replace("8085", str(port))],
        env={**os.environ, "PATH": f"{Path(COMMAND).parent}:{os.environ['PATH']}"},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_examples_are_three() -> None:
    assert set(EXAMPLES) == {"who", "mine", "commands"}


def test_the_examples_work(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    port, other = free_port(), free_port()
    server = lab.start("answering", port, prefix=("env", "-C", str(tmp_path)))
    lab.start("answering", other, prefix=("env", "-C", "/"))

    assert example("who", port, tmp_path) == f"{port}\t{server.pid}\tpython\tlocal\n"
    assert example("mine", port, tmp_path) == f"{port}\n"
    (line,) = example("commands", port, tmp_path).splitlines()
    assert json.loads(line) == ["kill", str(server.pid)]


@pytest.mark.engine
def test_a_container_is_named_with_its_own_pid(engine: Engine, tmp_path: Path) -> None:
    port = free_port()
    web = engine.publish(f"{port}:80")
    web.wait_for(port)
    pid = int(engine("inspect", "--format", "{{.State.Pid}}", web.name))

    assert set(example("who", port, tmp_path).splitlines()) == {
        f"{port}\t{pid}\t{web.name}\tcontainer"
    }
    holders = ultra("who", str(port), "--json").port(f"{port}/tcp")["holders"]
    proxies = {each["pid"] for holder in holders for each in holder["processes"]}
    assert pid not in proxies


def test_the_table_has_every_field_and_no_other() -> None:
    table = PAGE[PAGE.index("| field |") : PAGE.index("`commands` and `undo`")]
    named = set(re.findall(r"`(?:\w+\[\]\.|\.)?([\w-]+)(?:\[\])?`", table))
    structs = (
        *(machine.ReportEnvelope, machine.PortEntry, machine.HolderEntry, machine.EngineEntry),
        *(machine.ManagerEntry, machine.ProcessEntry, machine.ContainerEntry, machine.StepEntry),
        *(machine.CollateralEntry, machine.OutcomeEntry, machine.SuccessorEntry),
    )
    fields = {field for struct in structs for field in struct.__struct_fields__}
    fields.add(str(machine.ReportEnvelope.__struct_config__.tag_field))
    assert fields <= named, fields - named
    assert set(Verdict) <= named
    left = " ".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))
    leading = {re.sub(r".*\.|\[\]", "", each) for each in re.findall(r"`(.*?)`", left)}
    assert leading <= fields, leading - fields


def test_every_shape_is_named() -> None:
    others = PAGE[PAGE.index("## The others") :]
    missing = {name for name in SHAPES if f"`{name}`" not in others} - {"report", "plan", "project"}
    assert not missing


def test_every_command_has_it_or_is_said_not_to() -> None:
    said = PAGE[PAGE.index("have no `--json`") :].partition("\n\n")[0]
    without = {name for name in COMMANDS if "--json" not in ultra(name, "-h").stdout}
    assert without == {name for name in COMMANDS if f"`{name}`" in said}
