"""Options that several commands have, for typer, and what they mean."""

from __future__ import annotations

import os
import sys
from shutil import which
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resolver.cli import completing
from resolver.errors import UsageError
from resolver.model import Policy
from resolver.project import names
from resolver.project.probe import read_probe
from resolver.settings import LONGEST_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resolver.project.model import Probe

_PLANNED = "     (--dry-run: would be)\n"
EPILOG = f"""\b
Exit status:
  0  every port is free: bound for proof, and still free after --settle
{_PLANNED}\
  1  still held, or taken back
  2  usage: nothing was touched
  3  advisory or refusal: nothing was touched, the right command is printed
  4  hidden or not permitted: what to run with sudo is printed
  5  undecidable: the engine did not answer, and nothing local explains it
  130  interrupted
Several ports: the worst, in the order 1, 5, 4, 3, 0."""
APPLY_EPILOG = EPILOG.replace(_PLANNED, "")

PRINT_EPILOG = """\b
Exit status:
  0  printed
  1  the store of reservations cannot be read
  2  usage, or a project file that makes no sense"""

PORT_HELP = (
    "8085, 8085/udp, 127.0.0.1:8085, [::1]:8085/tcp, 8000-8010, the name of a service (api), "
    "or a comma list."
)
DEFAULT = Policy()


def time_from(least: float, most: float) -> Callable[[float], float]:
    """Takes a time that the user may choose, for typer; in seconds."""

    def check(value: float) -> float:
        if not least <= value <= most:
            raise typer.BadParameter(f"{value:g} is not a time from {least} to {most} seconds")
        return value

    return check


seconds = time_from(0, LONGEST_SECONDS)
"""Any time."""


Ports = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PORT...]", help=PORT_HELP, autocompletion=completing.ports),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Say what would be done, and do nothing.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON envelope on stdout.")]
NoDocker = Annotated[bool, typer.Option("--no-docker", help="Do not ask any container engine.")]
DockerTimeout = Annotated[
    float,
    typer.Option(
        "--docker-timeout", metavar="SECONDS", callback=seconds, help="How long an engine may take."
    ),
]
Grace = Annotated[
    float,
    typer.Option(metavar="SECONDS", callback=seconds, help="Time between SIGTERM and SIGKILL."),
]
Settle = Annotated[
    float,
    typer.Option(metavar="SECONDS", callback=seconds, help="How long a freed port is watched."),
]
StopServices = Annotated[
    bool, typer.Option("--stop-services", help="Also run the manager's own stop command.")
]
AcceptLoss = Annotated[
    bool,
    typer.Option(
        "--accept-loss", help="Go on where more than the port ends: a guest, a session, siblings."
    ),
]
Mine = Annotated[
    bool, typer.Option("--mine", help="End only what belongs to this checkout; spare the rest.")
]
Anybody = Annotated[
    bool, typer.Option("--anybody", help="Also what is another checkout's, whatever the settings.")
]
Take = Annotated[
    bool,
    typer.Option("--take", help="End what runs under another checkout's lease, and take the port."),
]
Stale = Annotated[
    bool, typer.Option("--stale", help="What deleted checkouts and ended sessions left behind.")
]
Yes = Annotated[bool, typer.Option("--yes", help="With --stale: do not ask.")]
Force = Annotated[
    bool,
    typer.Option("--force", help="SIGKILL at once; also clients' connections; see the README."),
]
Interactive = Annotated[bool, typer.Option("--interactive", "-i", help="Ask before each step.")]
ProjectName = Annotated[
    str, typer.Option(metavar="NAME", help="The project's name, in place of its own.")
]
Files = Annotated[
    list[str] | None,
    typer.Option("--file", "-f", metavar="FILE", help="A compose file; may be repeated."),
]
Profiles = Annotated[
    list[str] | None,
    typer.Option("--profile", metavar="NAME", help="A profile to enable; may be repeated."),
]
ComposeProject = Annotated[
    str,
    typer.Option("--project", "-p", metavar="NAME", help="The project's name.", show_default=False),
]
ProbeText = Annotated[
    str,
    typer.Option(
        "--probe",
        metavar="PROBE",
        help="Ask by tcp, redis, postgres, /path or https://host/path, not as the file says.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="Also the evidence, and what was left out.")
]


def policy(*, no_docker: bool = False, **given: Any) -> dict[str, Any]:  # noqa: ANN401 - several types
    """The fields of `Policy` that the options stand for; an advice repeats this command line."""
    unit = {"grace": "grace_seconds", "settle": "settle_seconds"}
    unit["docker_timeout"] = "docker_timeout_seconds"
    fields = {unit.get(name, name): each for name, each in given.items()}
    return {"use_docker": not no_docker, "rerun_command": command_line(), **fields}


def refuse(objections: Mapping[str, object]) -> None:
    """Refuses what makes no sense together.

    Raises:
        UsageError: the first objection that holds.
    """
    for said, holds in objections.items():
        if holds:
            raise UsageError(said)


def probe(text: str) -> Probe | None:
    """How `--probe` says to ask; None where it says nothing.

    Raises:
        UsageError: it is no probe.
    """
    return read_probe(text, "--probe") if text else None


def wanted(ports: list[str] | None, *, everything: bool = False) -> list[str]:
    """The ports that were given, and those of every service of the project file for `--all`.

    Raises:
        UsageError: one is empty, as a shell variable may be.
    """
    if any(not port for port in ports or ()):
        raise UsageError("'' is not a port: it is empty")
    return [*(ports or ()), *(names.everything() if everything else ())]


def split(arguments: list[str] | None) -> tuple[list[str], list[str]]:
    """What was typed before `--`, and behind it; typer has taken `--` itself away."""
    words = list(arguments or ())
    behind = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    count = len(words) - len(behind)
    return words[:count], words[count:]


def command_line() -> tuple[str, ...]:
    """This command line as it can be typed behind sudo."""
    return (program(), *sys.argv[1:])


def in_earnest() -> tuple[str, ...]:
    """This command line without `--dry-run`; empty where it has none."""
    words = sys.argv[1:]
    kept = [word for word in words if word not in {"-n", "--dry-run"}]
    return ("ultra-ports", *kept) if len(kept) < len(words) else ()


def program() -> str:
    """This command as it can be typed behind sudo, which has a search path of its own."""
    name = "ultra-ports"
    path = None
    if os.geteuid() != 0:
        path = which(name)
    if path is None and sys.argv[0].endswith(name):
        path = os.path.abspath(sys.argv[0])  # noqa: PTH100 - a link in a search path stays a link
    if path and not path.startswith(("/usr/bin/", "/usr/local/bin/")):
        name = path
    return name
