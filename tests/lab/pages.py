"""The fenced blocks of a page of documentation, and sessions in them, which are run like doctests.

A block of the language `console` is a session: lines that begin with `$ ` are typed into one bash,
the others are what it prints. An HTML comment before it, `<!-- stage: NAME -->`, says on what stage
it is played. A block after a line that links to a file (`](../examples/NAME)`) is that file.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_STAGE = re.compile(r"<!-- stage: ([\w-]+) -->\s*\Z")
_FILE = re.compile(r"\]\(\.\./(examples/[^)]+)\)[^\n]*\n+\Z")
# What differs from run to run: container ids, and numbers other than the ports of the page.
_VARYING = re.compile(r"\b[0-9a-f]{12}\b|\d+(?:\\?\.\d+)?")
_ID_LENGTH = 12
_CHECKOUT = str(Path(__file__).parents[2])
_OF_CHECKOUT = re.compile(rf" (?:PROJECT|{re.escape(Path(_CHECKOUT).name)}(?: \([^()]*\))?)$")
_LONGEST_SECONDS = 60.0
_BASH = shutil.which("bash") or "bash"


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `stage` and `file` are empty where none is named."""

    language: str
    text: str
    line: int
    stage: str
    file: str


@dataclass(slots=True)
class Command:
    """A line that is typed, what it prints, and the exit status that the page tells or implies."""

    typed: str
    printed: list[str] = field(default_factory=list)
    status: int = 0


def blocks(page: Path) -> list[Block]:
    """Every fenced block of the page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            language=match[1],
            text=match[2],
            line=text.count("\n", 0, match.start()) + 1,
            stage=_first(_STAGE, text[: match.start()]),
            file=_first(_FILE, text[: match.start()]),
        )
        for match in _FENCE.finditer(text)
    ]


def _first(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1] if match else ""


def commands(session: str) -> list[Command]:
    """What is typed. `$ echo $?` is none of it: it tells the status of the command before."""
    found: list[Command] = []
    asked = False
    for line in session.splitlines():
        if line == "$ echo $?":
            asked = True
        elif asked:
            found[-1].status, asked = int(line), False
        elif line.startswith("$ "):
            found.append(Command(line[2:]))
        else:
            found[-1].printed.append(line)
    return found


def play(
    typed: Sequence[Command],
    cwd: Path,
    env: Mapping[str, str],
    prelude: str = "",
) -> list[Command]:
    """What one bash prints and returns as the commands are run in it, one after the other.

    Its stdout and stderr are one stream, as in a terminal. The `prelude` comes before them all.
    """
    mark = uuid.uuid4().hex
    lines = (
        f"{each.typed}\n_status=$?; printf '\\n{mark} %s\\n' $_status; (exit $_status)"
        for each in typed
    )
    done = subprocess.run(
        [_BASH, "--norc", "--noprofile", "-c", "\n".join(["exec 2>&1", prelude, *lines])],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=_LONGEST_SECONDS,
    )
    parts = re.split(rf"\n{mark} (\d+)\n", done.stdout)
    return [
        Command(each.typed, text.splitlines(), int(status))
        for each, text, status in zip(typed, parts[::2], parts[1::2], strict=False)
    ]


def shown(played: Sequence[Command]) -> str:
    """A session as a page has it."""
    return "\n".join(
        "\n".join([f"$ {each.typed}", *each.printed, *_told(each.status)]) for each in played
    )


def _told(status: int) -> list[str]:
    return ["$ echo $?", str(status)] if status else []


def differences(
    told: Sequence[Command], played: Sequence[Command], exact: Collection[str]
) -> list[str]:
    """What a page tells of a session and what happened; empty where they agree.

    `...` alone on a line stands for any number of lines, and within one for anything. Numbers and
    container ids have only to be there, but for those in `exact`; runs of blanks count as one.
    """
    if len(told) != len(played):
        return [f"{len(played)} of {len(told)} commands ran"]
    found = []
    for wanted, got in zip(told, played, strict=True):
        if wanted.status != got.status:
            found.append(f"{wanted.typed}: exit {got.status}, not {wanted.status}")
        if not re.fullmatch(_pattern(wanted.printed, exact), _text(got.printed)):
            found.append(f"{wanted.typed}: prints something else")
    return found


def _pattern(lines: Sequence[str], exact: Collection[str]) -> str:
    return "".join(
        "(?:.*\n)*" if line.strip() == "..." else f"{_of_line(line, exact)}\n" for line in lines
    )


def _of_line(line: str, exact: Collection[str]) -> str:
    def loosened(match: re.Match[str]) -> str:
        if match[0] in exact:
            return match[0]
        return "[0-9a-f]{12}" if len(match[0]) == _ID_LENGTH else r"\d+(?:\.\d+)?"

    pieces = (re.escape(piece) for piece in _blanks(line).split("..."))
    return ".*".join(_VARYING.sub(loosened, piece) for piece in pieces)


def _text(lines: Sequence[str]) -> str:
    """What was printed, but for whose the stage's servers are: they run in the tests' checkout."""
    kept = (
        line
        for line in lines
        if not re.match(rf"\s+another checkout's: .*, in {re.escape(_CHECKOUT)}", line)
    )
    return "".join(f"{_OF_CHECKOUT.sub('', _blanks(line))}\n" for line in kept)


def _blanks(line: str) -> str:
    """Blanks alike, and the interpreter by one name, whatever its environment calls it."""
    return re.sub(r"\s+", " ", re.sub(r"\bpython3(?:\.\d+)?\b", "python", line)).strip()


def substituted(text: str, names: Mapping[str, str]) -> str:
    """The text with each of these words replaced, the longest first; `names` is not empty."""
    words = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.sub(rf"(?<!\w)(?:{words})(?!\w)", lambda match: names[match[0]], text)
