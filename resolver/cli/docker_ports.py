"""`docker-ports`: these commands as a plug-in of the Docker CLI, and the hook that it calls.

The protocol (docker/cli, `cli-plugins/metadata` and `cli-plugins/hooks`; measured with 28.2 and
28.5): `docker-ports docker-cli-plugin-metadata`, `docker-ports [docker's options] ports ARGUMENTS`
and, after a command, `docker-ports ports docker-cli-plugin-hooks JSON`. The hook's words are a Go
template. Where it has nothing to say it prints nothing, and loads next to nothing.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stdout, suppress
from shlex import join
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver import __version__, cli
from resolver.cli.commands import COMMANDS, MEANT
from resolver.host.engine_messages import taken_ports
from resolver.json_text import JsonError, decode, encode

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

NAME = "ports"
METADATA, HOOKS = "docker-cli-plugin-metadata", "docker-cli-plugin-hooks"
_COMPLETE = {"__complete", "__completeNoDesc"}
_NO_FILES = ":4"  # cobra's ShellCompDirectiveNoFileComp
_OWN = {"-h", "--help", "--version"}
_VARIABLES = {
    **dict.fromkeys(("-H", "--host"), "DOCKER_HOST"),
    **dict.fromkeys(("-c", "--context"), "DOCKER_CONTEXT"),
    "--config": "DOCKER_CONFIG",
}
_VALUED = {*_VARIABLES, "-l", "--log-level", "--tlscacert", "--tlscert", "--tlskey"}


class Metadata(Struct, frozen=True, rename="pascal"):
    """What the Docker CLI asks of each plug-in before it lists or runs it."""

    schema_version: str = "0.1.0"
    vendor: str = "ultra-ports"
    version: str = __version__
    short_description: str = "Say who holds ports, and free them without doing harm"


class HookCall(Struct, frozen=True, rename="pascal"):
    """What the Docker CLI says of a command that has ended; `command_error` empty: it did well."""

    root_cmd: str = ""
    flags: dict[str, str] = {}
    command_error: str = ""


class HookAnswer(Struct, frozen=True, rename="pascal"):
    """What it prints under "What's next:"; `template` is a Go template of at most 10 lines."""

    template: str
    type: int = 0


def main() -> None:
    """Answers the Docker CLI, or runs the command line of `docker ports`."""
    if hasattr(sys, "set_lazy_imports"):
        sys.set_lazy_imports("all")
    words = sys.argv[1:]
    if words == [METADATA]:
        print(encode(Metadata(), indent=None))
    elif words[:2] == [NAME, HOOKS]:
        _hook("".join(words[2:3]))
    elif words[1:2] == [NAME] and words[0] in _COMPLETE:
        _complete(words[2:] or [""])
    else:
        sys.argv = [command(), *_command_line(arguments(words, os.environ))]
        cli.main()


def command() -> str:
    """`ultra-ports` beside the file that this is, wherever the Docker CLI's link to it stands."""
    return os.path.join(os.path.dirname(os.path.realpath(sys.argv[0])), "ultra-ports")  # noqa: PTH118, PTH120 - a text


def arguments(words: Sequence[str], environ: MutableMapping[str, str]) -> list[str]:
    """The words behind `ports`; the options of docker in front of it become variables."""
    rest = iter(words)
    for word in rest:
        if word == NAME:
            return [*rest]
        if word == "help":  # docker help ports
            return ["--help"]
        if not word.startswith("-"):  # called without docker
            break
        long = word.startswith("--")
        name, _, value = word.partition("=") if long else (word[:2], "", word[2:].removeprefix("="))
        if name in _VALUED and name == word:
            value = next(rest, "")
        if variable := _VARIABLES.get(name):
            environ[variable] = value
            if variable == "DOCKER_CONTEXT":  # it wins over the environment's DOCKER_HOST
                environ.pop("DOCKER_HOST", None)
    return [*words]


def _command_line(words: list[str]) -> list[str]:
    """`docker ports [PORT…]` is `who`."""
    known = words and words[0] in {*COMMANDS, *MEANT, *_OWN}
    return words if known else ["who", *words]


def _complete(words: list[str]) -> None:
    """What `docker ports … <TAB>` offers, as cobra has it: a line for each, and a directive.

    It is what typer tells fish, which has the same form: what is offered, a tab, what it is.
    """
    alone = len(words) == 1 and not words[0].startswith("-")
    offered = io.StringIO()
    for line in (words, ["who", *words]) if alone else (words,):
        os.environ |= {
            cli.COMPLETION_VARIABLE: "complete_fish",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "_TYPER_COMPLETE_ARGS": f"{join(['ultra-ports', *line[:-1]])} {line[-1]}",
        }
        sys.argv = ["ultra-ports"]
        with redirect_stdout(offered), suppress(SystemExit):
            cli.main()
    print("\n".join([*dict.fromkeys(filter(None, offered.getvalue().splitlines())), _NO_FILES]))


def _hook(text: str) -> None:
    """Answers what the Docker CLI asks after a command; not where no port was taken."""
    try:
        call = decode(text, HookCall)
    except JsonError:
        return  # a later protocol: the user has asked nothing of us
    wanted = taken_ports(call.command_error)
    if wanted or (call.command_error and call.root_cmd.split(" ")[0] == "compose"):
        from resolver.cli import docker_hook

        if lines := docker_hook.answer(wanted, call.flags, command()):
            template = "\n".join(lines).replace("{{", '{{"{{"}}')
            print(encode(HookAnswer(template), indent=None))
