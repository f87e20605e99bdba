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


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command lives; `settings` are click's context settings beside the usual ones.

    The end of its help text is its module's `EPILOG`.
    """

    module: str
    function: str
    summary: str
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
    ),
    "preflight": Command(
        "resolver.cli.compose",
        "preflight",
        "Say what a compose project would publish, and what is in its way; touch nothing.",
    ),
    "up": Command(
        "resolver.cli.up",
        "up",
        "Free a compose project's ports, start it, and prove that it answers.",
    ),
    "env": Command("resolver.cli.env", "env", "Print the port of a service, or .env.example."),
    "portserver": Command(
        "resolver.cli.portserver",
        "portserver",
        "Lend ports to programs that use python_portpicker.",
    ),
    "shell-init": Command(
        "resolver.cli.shell",
        "shell_init",
        "Print clear_port and kill_api_ports for your shell.",
    ),
    "assign": Command(
        "resolver.cli.assign",
        "assign",
        "Give each service a port of its own, and tell those who depend on it.",
    ),
    "run": Command(
        "resolver.cli.run",
        "run",
        "Run a program on ports of its own, kept from others until it takes them.",
        settings={"allow_interspersed_args": False},
    ),
    "reserve": Command(
        "resolver.cli.reservations",
        "reserve",
        "Reserve a port for a service, so that no other project takes it.",
    ),
    "release": Command(
        "resolver.cli.reservations",
        "release",
        "End reservations of this project.",
    ),
    "reservations": Command(
        "resolver.cli.reservations",
        "reservations",
        "List what is reserved, for whom, and until when.",
    ),
    "wait": Command(
        "resolver.cli.wait",
        "wait",
        "Wait until ports are free, held or healthy, and then run a program.",
    ),
    "watch": Command(
        "resolver.cli.watch",
        "watch",
        "Show what happens to ports, as it happens; touch nothing.",
    ),
    "serve": Command(
        "resolver.cli.serve",
        "serve",
        "Show whether services work: a page, /healthz and /metrics.",
    ),
    "config": Command(
        "resolver.cli.config", "config", "Show every setting, and where it came from."
    ),
    "selftest": Command(
        "resolver.cli.selftest",
        "selftest",
        "Prove on this machine that held ports are kept from others.",
    ),
}
"""In the order of the overview."""
