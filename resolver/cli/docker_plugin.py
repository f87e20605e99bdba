"""`ultra-ports docker-plugin`: makes `docker ports` of this installation, or ends that."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resolver.cli import fit, say
from resolver.cli.docker_ports import NAME
from resolver.cli.options import Json
from resolver.cli.output import print_json
from resolver.errors import UsageError
from resolver.host import docker_config, docker_plugins, trust
from resolver.report.docker_plugin import Action, PluginEnvelope, lines
from resolver.report.escape import escape
from resolver.reservations.export import replace_file

if TYPE_CHECKING:
    from collections.abc import Callable

PLUGIN = f"docker-{NAME}"
HOOKS = {"hooks": "run", "error-hooks": "run,compose,start"}
with_hooks = partial(docker_plugins.with_hooks, plugin=NAME, hooks=HOOKS)
without_hooks = partial(docker_plugins.without_hooks, plugin=NAME, hooks=HOOKS)
EPILOG = """\b
Exit status:
  0  done; of status: the plug-in is there
  1  of status: it is not
  2  usage, or what is there is somebody else's: nothing was changed"""


def docker_plugin(
    action: Annotated[Action, typer.Argument(help="What to do.")],
    hooks: Annotated[
        bool | None,
        typer.Option(
            "--hooks/--no-hooks",
            help="Have docker say who is in the way, or not; else install asks on a terminal.",
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Examples:

    \b
      ultra-ports docker-plugin install          then: docker ports 8085
      ultra-ports docker-plugin install --hooks  also after failed `docker run`s
      ultra-ports docker-plugin remove

    Links docker-ports into the Docker CLI's folder of this user's plug-ins and, if you
    want that, adds a hook to its config.json. Everything else in there stays as it is.
    """  # noqa: D415, D301 - a help text
    folder = docker_config.folder()
    plugin, file = folder / "cli-plugins" / PLUGIN, folder / "config.json"
    _read(file)  # what makes no sense is found out before anything is done
    if action == "install":
        docker_plugins.link(plugin, _program())
        if hooks is None and sys.stdin.isatty():
            said = "Shall docker say who is in the way when a port is taken"
            hooks = typer.confirm(f"{said} (a hook in {file})?", err=True)
        if hooks is not None:
            _configure(file, with_hooks if hooks else without_hooks)
    elif action == "remove":
        docker_plugins.link(plugin, None)
        _configure(file, without_hooks)
    found = _status(action, plugin, file)
    told = lines(found, exists=os.path.lexists(plugin))
    if json:
        print_json(found)
    elif action == "status":
        print(fit("\n".join(map(escape, told))))
    else:
        say(told)
    return found.exit_status


def _status(action: Action, plugin: Path, file: Path) -> PluginEnvelope:
    config = _read(file)
    target = str(plugin.readlink()) if plugin.is_symlink() else None
    runs = target is not None and os.access(plugin, os.X_OK)
    return PluginEnvelope(
        action=action,
        exit_status=int(action == "status" and not runs),
        plugin=str(plugin),
        target=target,
        runs=runs,
        config=str(file),
        hooks=config.plugins.get(NAME, {}),
        switched_off=config.switched_off,
    )


def _program() -> str:
    """`docker-ports` of this installation.

    Raises:
        UntrustedError: somebody else could put another one in its place.
        UsageError: there is none.
    """
    beside = (str(Path(each).absolute().parent) for each in (sys.argv[0], sys.executable))
    found = which(PLUGIN, path=os.pathsep.join((*beside, os.environ.get("PATH", ""))))
    if found is None:
        raise UsageError(f"{PLUGIN} is not installed beside ultra-ports")
    trust.check_file(os.path.realpath(found))
    return found


def _read(file: Path) -> docker_plugins.DockerConfig:
    return docker_plugins.read(replace_file.read(file) if file.exists() else b"", file)


def _configure(file: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Changes Docker's configuration, which may get passwords later: a new one is for nobody else.

    Raises:
        UsageError: it makes no sense, or is somebody else's; it is unchanged.
    """
    if edit is without_hooks and not file.exists():
        return
    mask = os.umask(0o077)
    try:
        with docker_plugins.folder_of(file):
            replace_file.update(file, lambda raw: docker_plugins.edited(raw, file, edit))
    finally:
        os.umask(mask)
