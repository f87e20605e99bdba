"""Every command: the file and the function that it is, and what the overview says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

EPILOG = """\b
Exit status:
  0  every port is free: bound for proof, and still free after --settle
  1  still held, or taken back
  2  usage: nothing was touched
  3  advisory or refusal: nothing was touched, the right command is printed
  4  hidden or not permitted: what to run with sudo is printed
  5  undecidable: the engine did not answer, and nothing local explains the port
  130  interrupted
Several ports: the worst, in the order 1, 5, 4, 3, 0.
`who` exits 0 when it could answer (held or free), 4 or 5 when it could not."""

PRINT_EPILOG = """\b
Exit status:
  0  printed
  1  the store of reservations cannot be read
  2  usage, or a project file that makes no sense"""
RUN_EPILOG = """\b
Exit status: that of CMD; 128+N where signal N ended it. Of ultra-ports itself:
  1    a port is taken, or reserved by another; CMD was not started
  2    usage
  126  CMD cannot be executed
  127  CMD was not found"""

RESERVATIONS_EPILOG = """\b
Exit status:
  0  done
  1  it is somebody else's, or the store cannot be reached or written; nothing was changed
  2  usage: nothing was changed
  4  this user may not bind the port, so it cannot be proved free
  5  the engine did not answer (--scope engine)
  130  interrupted"""

COMPOSE_EPILOG = """\b
Exit status:
  0  preflight: nothing is in the way; up: each published port answers
  1  up: compose failed, or a port does not answer (which, and why, is printed)
  2  usage, no compose file, or one that makes no sense: nothing was touched
  3  conflicts: nothing was started, the right command is printed
  4  a port is held by somebody who is hidden from this user
  5  undecidable: the engine did not answer
  130  interrupted"""

ASSIGN_EPILOG = """\b
Exit status:
  0  every service has a port, which is leased to the project
  1  no port is left, or with --strict one is held or reserved by another
  2  usage, or a damaged file: nothing was touched
  130  interrupted
The order: the preferred port, the one used last, the project's pool, and then
ports below the ephemeral range."""

WAIT_EPILOG = """\b
Exit status: that of CMD, where there is one. Of ultra-ports itself:
  0    all the ports are as they shall be
  1    not in time; what is missing is said for each port
  2    usage
  4    this user may not bind a port that shall be free, so it can never be proved
  126  CMD cannot be executed
  127  CMD was not found
  130  interrupted"""

WATCH_EPILOG = """\b
Exit status:
  0    ended by q
  1    nobody reads its output any more
  2    usage
  130  interrupted"""

HEALTH_EPILOG = """\b
Exit status:
  0  every service is healthy
  1  one is not, or that cannot be told
  2  usage, or a project file that makes no sense
  130  interrupted"""

SERVE_EPILOG = """\b
Exit status:
  0    ended by SIGTERM
  1    somebody has the port to listen on
  2    usage, or a project file that makes no sense
  4    this user may not bind the port to listen on
  130  interrupted
/healthz answers with the status 200 where every service is healthy, else with 503."""

SELFTEST_EPILOG = """\b
Exit status:
  0  every promise was proved
  1  one is not kept here, or could not be found out"""


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command lives; `settings` are click's context settings beside the usual ones."""

    module: str
    function: str
    summary: str
    epilog: str | None = EPILOG
    settings: dict[str, Any] = field(default_factory=dict)


COMMANDS = {
    "resolve": Command(
        "resolver.cli.ports",
        "resolve",
        "Free ports without doing harm, and prove it by binding them.",
    ),
    "who": Command(
        "resolver.cli.ports",
        "who",
        "Say who holds ports, why, and what would free them; touch nothing.",
    ),
    "apply": Command(
        "resolver.cli.plan",
        "apply",
        "Do what a plan file says, if no holder has changed since.",
    ),
    "health": Command(
        "resolver.cli.health",
        "health",
        "Say whether services work: who holds each port, and what it answers.",
        HEALTH_EPILOG,
    ),
    "preflight": Command(
        "resolver.cli.compose",
        "preflight",
        "Say what a compose project would publish, and what is in its way; touch nothing.",
        COMPOSE_EPILOG,
    ),
    "up": Command(
        "resolver.cli.up",
        "up",
        "Free a compose project's ports, start it, and prove that it answers.",
        COMPOSE_EPILOG,
    ),
    "env": Command(
        "resolver.cli.env", "env", "Print the port of a service, or .env.example.", PRINT_EPILOG
    ),
    "portserver": Command(
        "resolver.cli.portserver",
        "portserver",
        "Lend ports to programs that use python_portpicker.",
        None,
    ),
    "shell-init": Command(
        "resolver.cli.shell",
        "shell_init",
        "Print clear_port and kill_api_ports for your shell.",
        PRINT_EPILOG,
    ),
    "assign": Command(
        "resolver.cli.assign",
        "assign",
        "Give each service a port of its own, and tell those who depend on it.",
        ASSIGN_EPILOG,
    ),
    "run": Command(
        "resolver.cli.run",
        "run",
        "Run a program on ports of its own, kept from others until it takes them.",
        RUN_EPILOG,
        {"allow_interspersed_args": False},
    ),
    "reserve": Command(
        "resolver.cli.reservations",
        "reserve",
        "Reserve a port for a service, so that no other project takes it.",
        RESERVATIONS_EPILOG,
    ),
    "release": Command(
        "resolver.cli.reservations",
        "release",
        "End reservations of this project.",
        RESERVATIONS_EPILOG,
    ),
    "reservations": Command(
        "resolver.cli.reservations",
        "reservations",
        "List what is reserved, for whom, and until when.",
        RESERVATIONS_EPILOG,
    ),
    "wait": Command(
        "resolver.cli.wait",
        "wait",
        "Wait until ports are free, held or healthy, and then run a program.",
        WAIT_EPILOG,
    ),
    "watch": Command(
        "resolver.cli.watch",
        "watch",
        "Show what happens to ports, as it happens; touch nothing.",
        WATCH_EPILOG,
    ),
    "serve": Command(
        "resolver.cli.serve",
        "serve",
        "Show whether services work: a page, /healthz and /metrics.",
        SERVE_EPILOG,
    ),
    "config": Command(
        "resolver.cli.config", "config", "Show every setting, and where it came from.", None
    ),
    "selftest": Command(
        "resolver.cli.selftest",
        "selftest",
        "Prove on this machine that held ports are kept from others.",
        SELFTEST_EPILOG,
    ),
}
"""In the order of the overview."""
