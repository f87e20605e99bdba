"""Golden files: what the program says of a situation, word for word, kept in `tests/golden`.

`GOLDEN=write tests/run FILES` writes them anew; the difference is then read, and committed with
what made it. What a run does not choose is the same in each: the nearest free port is 8086, every
number of three digits or more that has no name (process IDs, start times) is 1000, and columns are
two spaces apart, however wide a number made them.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from typing import TYPE_CHECKING, Any

import psutil

from tests.lab.cli import COMMAND
from tests.lab.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.lab.cli import Run

FOLDER = ROOT / "tests" / "golden"
_NEAREST, _NUMBER = "8086", "1000"
_SAME = (
    (r"\blab[-_]?[0-9a-f]{10,12}", "lab"),
    (r"(?<=/)lab[\w]{8}(?=/)", "lab"),
    (r"ultra-ports-lab:[0-9a-f]{32}", "ultra-ports-lab"),
    (r"\b[0-9a-f]{64}\b", "4f1d"),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+\+00:00)?", "TIME"),
    (r"\bhost:[0-9a-f]{16}\b", "host:4f1d"),
    (r"/dev/pts/\d+", "/dev/pts/0"),
    (r"(?<=[,·] )\d+ (min|h|days?)\b", "just started"),
    (r"started from [\w.-]+ \d+", "started from a shell 1000"),
    (r"(?<![\w.])\d+(\.\d+)? m?s\b", "1 s"),
    (r"(?<![\w.])\d+\.\d+(?![\w.])", "0.5"),
    (r"(?<=\S) {2,}(?=[^ #])", "  "),
)


def same(text: str, names: Mapping[str, str]) -> str:
    """The text without what differs from run to run; `names` are real words, and those for them."""
    for real, told in sorted(names.items(), key=lambda pair: -len(pair[0])):
        text = re.sub(rf"(?<![\w/]){re.escape(real)}\b", told, text)
    free = re.search(r"\b(\d+) is free: |\"nearest_free\": (\d+)", text)
    if free:
        text = re.sub(rf"\b{free[1] or free[2]}\b", _NEAREST, text)
    for pattern, told in _SAME:
        text = re.sub(pattern, told, text)
    kept = "|".join((_NEAREST, _NUMBER, *(told for told in names.values() if told.isdigit())))
    return re.sub(rf"(?<![\w.])(?!(?:{kept})\b)\d{{3,}}\b(?!\.\d)", _NUMBER, text)


def hold(name: str, runs: Iterable[tuple[str, Run]], names: Mapping[str, str]) -> None:
    """Fails where a run does not say what its golden file says; writes it with `GOLDEN=write`.

    `runs` come with what was typed. An envelope is kept without what is not ours to say: the
    parents of the tests themselves, and the options of an engine's forwarder.
    """
    words = {**names, "65535": "65535", str(ROOT): "/srv/checkout", COMMAND: "ultra-ports"}
    said = "\n".join(same(_session(typed, run), words) for typed, run in runs)
    path = FOLDER / f"{name}.txt"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(said, encoding="utf-8")
    kept = path.read_text(encoding="utf-8").splitlines()
    differs = difflib.unified_diff(kept, said.splitlines(), path.name, "now", lineterm="")
    assert kept == said.splitlines(), "\n".join(differs)


def _session(typed: str, run: Run) -> str:
    out = run.stdout
    if out.startswith("{"):
        out = json.dumps(_envelope(json.loads(out)), indent=1, ensure_ascii=False) + "\n"
    status = f"(exit status {run.status})\n" if run.status else ""
    return f"$ {typed}\n{out}{run.stderr}{status}"


def _envelope(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, list):
        return [_envelope(each) for each in value if not _is_ours(each)]
    if not isinstance(value, dict):
        return value
    if value.get("name") == "docker-proxy":
        value |= {"command": [], "cwd": ""}
    return {key: "" if key == "version" else _envelope(each) for key, each in value.items()}


def _is_ours(value: Any) -> bool:  # noqa: ANN401 - JSON
    """Whether it is a member of a chain, `bash 4711`, that is a parent of the tests."""
    ours = (psutil.Process(), *psutil.Process().parents())
    return isinstance(value, str) and value.endswith(tuple(f" {each.pid}" for each in ours))
