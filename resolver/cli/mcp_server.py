"""The tools of `ultra-ports mcp`, for agents: each is a command of this package, run as it is.

A tool's answer is the command's exit status, its messages and its JSON (`report/agents.py`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from msgspec import UNSET
from pydantic import Field

from resolver import __version__
from resolver.cli.options import PORT_HELP
from resolver.json_text import encode
from resolver.model import ExitStatus
from resolver.report.agents import LONGEST, LONGEST_MESSAGE, NOTICE, ToolAnswer, cut, messages
from resolver.report.escape import escape

INSTRUCTIONS = (
    "Ports of this machine: who holds them, and how to free them without doing harm. In place of "
    "pkill, fuser -k or lsof | xargs kill: `plan`, show the plan to the user, then `apply` its "
    "text. In place of a port that you guess: `assign`. " + NOTICE
)
_LONGEST_SECONDS = 600.0
_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_GRANTS = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
_ENDS = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False)

Ports = Annotated[list[str], Field(description=PORT_HELP)]
Services = Annotated[list[str], Field(description="api, or api:8085 with the port it prefers.")]
Directory = Annotated[
    str, Field(description="Absolute path of the checkout; empty: where the server was started.")
]
Plan = Annotated[str, Field(description="The text in `plan` of an answer of the tool `plan`.")]
Mine = Annotated[bool, Field(description="Spare whatever is not this checkout's own.")]


def who(ports: Ports, directory: Directory = "") -> str:
    """Who holds ports, why, and what would free them; without a port every one that is held."""
    return _answer(["who", "--json", "--", *ports], directory)


def health(services: Ports, directory: Directory = "") -> str:
    """Whether services have their ports and answer; without a name all of the project file."""
    return _answer(["health", "--json", "--", *services], directory)


def reservations(directory: Directory = "") -> str:
    """What ports are reserved, for whom, and until when."""
    return _answer(["reservations", "--json"], directory)


def plan(
    ports: Ports,
    *,
    mine: Mine = True,
    stop_services: Annotated[bool, Field(description="Also managers' stop commands.")] = False,
    directory: Directory = "",
) -> str:
    """What freeing ports would end; nothing is touched. Show it to the user before `apply`."""
    options = ["--mine" if mine else "--anybody", *(["--stop-services"] if stop_services else [])]
    with NamedTemporaryFile() as file:
        words = ["resolve", "--json", "--plan-out", file.name, *options, "--", *ports]
        return _answer(words, directory, plan=Path(file.name))


def apply(plan: Plan, directory: Directory = "") -> str:
    """Frees ports by a plan that was shown, if no holder has changed; proves it by binding them."""
    return _answer(["apply", "--json", "-"], directory, plan)


def assign(services: Services, directory: Directory = "") -> str:
    """Gives each service a port of its own, which stays this checkout's; all of them if empty."""
    return _answer(["assign", "--json", "--", *services], directory)


def reserve(
    service: Annotated[str, Field(description="The service (api).")],
    port: Annotated[str, Field(description="A port or a range; empty: the project's.")] = "",
    ttl: Annotated[str, Field(description="How long: 90s, 10m, 8h, 2d.")] = "8h",
    directory: Directory = "",
) -> str:
    """Reserves a port for a service, so that no other project takes it."""
    words = [service, *([port] if port else [])]
    return _answer(["reserve", "--json", f"--ttl={ttl}", "--", *words], directory)


def release(
    wanted: Annotated[list[str], Field(description="Services or ports.")], directory: Directory = ""
) -> str:
    """Ends reservations of this checkout; what holds a port is not touched."""
    return _answer(["release", "--json", "--", *wanted], directory)


def server() -> MCPServer:
    """The server with its tools, and what each of them may do."""
    made = MCPServer(
        "ultra-ports", version=__version__, instructions=INSTRUCTIONS, log_level="ERROR"
    )
    for hints, functions in (
        (_READS, (who, health, reservations, plan)),
        (_GRANTS, (assign, reserve)),
        (_ENDS, (apply, release)),
    ):
        for function in functions:
            made.tool(annotations=hints, structured_output=False)(function)
    return made


def _answer(words: list[str], directory: str, stdin: str = "", plan: Path | None = None) -> str:
    """Runs one of our commands, in a thread of the package's; it goes on where a client gives up.

    Returns:
        A `ToolAnswer` as JSON, with what was written to the file `plan`.

    Raises:
        ToolError: it does not understand what it was given; nothing was touched.
    """
    try:
        done = subprocess.run(
            # -P: a folder of this name in the working directory is somebody else's
            [sys.executable, "-P", "-m", "resolver", *words],
            input=stdin,
            cwd=directory or None,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=_LONGEST_SECONDS,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise ToolError(escape(str(error), LONGEST)) from error
    if done.returncode == ExitStatus.USAGE:
        raise ToolError(f"{NOTICE} {escape(done.stderr.strip(), LONGEST_MESSAGE)}")
    answer = ToolAnswer(
        exit_status=done.returncode,
        messages=messages(done.stderr),
        result=cut(json.loads(done.stdout or "null")),
        plan=plan.read_text(encoding="utf-8") if plan else UNSET,
    )
    return encode(answer, indent=None)
