"""CI jobs without their service: the lines of a GitHub workflow or a GitLab job, run by a shell.

What only the hosted service could do (actions, service containers, images) is not done here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from tests.lab.cli import Run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")
_VARIABLE = re.compile(r"\$(\w+)")
_LONGEST_SECONDS = 100.0


@dataclass(frozen=True, slots=True)
class Step:
    """One `run:` step that was run, by its name or else by its first line."""

    name: str
    run: Run


def load(path: Path) -> Any:  # noqa: ANN401 - any YAML
    """The file as YAML 1.2, where `on` is a word."""
    return YAML(typ="safe", pure=True).load(path)


def run_github(
    job: Mapping[str, Any], cwd: Path, env: Mapping[str, str], contexts: Mapping[str, str]
) -> list[Step]:
    """Runs a job's `run:` steps as a runner does, as far as they get.

    Each is a script of its own for `bash -e`. After one has failed only those run whose `if:` says
    so. What a step says in its `env` goes before the job's, and `env`, the test's, before both.

    Args:
        job: what stands under the job's name.
        cwd: the workspace.
        env: the whole environment.
        contexts: the value of each expression that the job uses.
    """
    done: list[Step] = []
    failed = False
    for step in job["steps"]:
        if "run" not in step or not _is_due(step.get("if", "success()"), failed=failed):
            continue
        said = {**job.get("env", {}), **step.get("env", {})}
        values = {name: _filled(str(text), contexts) for name, text in said.items()}
        script = _filled(step["run"], contexts)
        ran = _shell(["bash", "-e", "-c", script], cwd, {**values, **env})
        done.append(Step(step.get("name", script.partition("\n")[0]), ran))
        failed = failed or ran.status != 0
    return done


def _is_due(condition: str, *, failed: bool) -> bool:
    return {"always()": True, "failure()": failed, "success()": not failed}[condition]


def _filled(text: str, contexts: Mapping[str, str]) -> str:
    return _EXPRESSION.sub(lambda match: contexts[match[1]], text)


def run_gitlab(
    job: Mapping[str, Any], part: str, enter: Sequence[str], variables: Mapping[str, str]
) -> Run:
    """Runs `script:` or `after_script:` of a job, each line of it in one shell that ends at errors.

    Args:
        job: what stands under the job's name.
        part: `script` or `after_script`.
        enter: the command that runs another one where the job runs, with variables before it.
        variables: those that the service or the test sets.
    """
    own = {
        name: _VARIABLE.sub(lambda match: variables[match[1]], str(text))
        for name, text in job.get("variables", {}).items()
    }
    assignments = [f"{name}={text}" for name, text in {**own, **variables}.items()]
    script = "\n".join(job[part])
    return _shell([*enter, "env", *assignments, "sh", "-e", "-c", script], None, None)


def _shell(argv: Sequence[str], cwd: Path | None, env: Mapping[str, str] | None) -> Run:
    done = subprocess.run(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_LONGEST_SECONDS,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Run(done.returncode, done.stdout, done.stderr)


def python_environment(folder: Path) -> Path:
    """A virtual environment that has what this one has, and its own programs; returns its `bin`."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    scheme = {"base": str(folder), "platbase": str(folder)}
    place = Path(sysconfig.get_path("purelib", "venv", scheme))
    (place / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    assert shutil.which("python", path=str(folder / "bin"))
    return folder / "bin"
