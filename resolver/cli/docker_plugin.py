"""`ultra-ports docker-plugin`: makes `docker ports` of this installation, or ends that."""

from __future__ import annotations

import os
import re
import stat
import sys
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from msgspec import Struct

from resolver.cli.docker_ports import NAME
from resolver.cli.options import Json
from resolver.cli.output import fit, print_json, say
from resolver.errors import UsageError
from resolver.host import docker_config, own_files, paths, trust
from resolver.json_text import Envelope, convert, decode
from resolver.report.escape import escape
from resolver.reservations.export import replace_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLUGIN = f"docker-{NAME}"
HOOKS = {"hooks": "run", "error-hooks": "run,compose,start"}
_SWITCH = "hooks"  # in "features"
_SWITCHED = {"switched-on": f"features.{_SWITCH}"}
Action = Literal["install", "remove", "status"]
EPILOG = """\b
Exit status:
  0  done; of status: the plug-in is there
  1  of status: it is not
  2  usage, or what is there is somebody else's: nothing was changed"""


class PluginEnvelope(Envelope, frozen=True, kw_only=True, tag="ultra-ports.docker-plugin/1"):
    """The answer of `docker-plugin`: what is there in the end.

    `target` is None where there is no link; `hooks` are those that docker's configuration has for
    this plug-in, and with `switched_off` docker calls nobody's.
    """

    command: str = "docker-plugin"
    action: Action
    exit_status: int
    plugin: str
    target: str | None
    runs: bool
    config: str
    hooks: dict[str, str]
    switched_off: bool


class DockerConfig(Struct, frozen=True):
    """What concerns plug-ins in Docker's `config.json` (docker/cli, `cli/config/configfile`)."""

    plugins: dict[str, dict[str, str]] = {}
    features: dict[str, str] = {}


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
    _known(file)  # what makes no sense is found out before anything is done
    if action == "install":
        _link(plugin, _program())
        if hooks is None and sys.stdin.isatty():
            said = "Shall docker say who is in the way when a port is taken"
            hooks = typer.confirm(f"{said} (a hook in {file})?", err=True)
        if hooks is not None:
            _configure(file, with_hooks if hooks else without_hooks)
    elif action == "remove":
        _link(plugin, None)
        _configure(file, without_hooks)
    found = _status(action, plugin, file)
    if json:
        print_json(found)
    elif action == "status":
        print(fit("\n".join(map(escape, _lines(found)))))
    else:
        say(_lines(found))
    return found.exit_status


def _status(action: Action, plugin: Path, file: Path) -> PluginEnvelope:
    config = _known(file)
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
        switched_off=config.features.get(_SWITCH) == "false",
    )


def _lines(found: PluginEnvelope) -> Iterator[str]:
    about = f"`docker {NAME} 8085` says who holds a port" if found.runs else "it cannot be run"
    absent = "is no link of ours" if os.path.lexists(found.plugin) else "is not there"
    yield f"{found.plugin} {f'leads to {found.target}: {about}' if found.target else absent}"
    if found.switched_off:
        yield f"docker's hooks are switched off (features.{_SWITCH} in {found.config})"
    elif found.hooks:
        said = "; ".join(f"{name}: {value}" for name, value in found.hooks.items())
        yield f"docker says who is in the way ({said} in {found.config})"
    else:
        yield f"docker does not say who is in the way (install --hooks adds that to {found.config})"


# --- the link -------------------------------------------------------------------------------------


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


def _link(plugin: Path, target: str | None) -> None:
    """Makes the link, turns one of ours around or, without a target, removes it.

    Raises:
        UsageError: there is something else, or nothing can be changed there.
    """
    if target is None and not os.path.lexists(plugin):
        return
    with _folder_of(plugin) as folder:
        found = paths.status(folder.descriptor, PLUGIN)
        if found is not None:
            link = (
                os.readlink(PLUGIN, dir_fd=folder.descriptor) if stat.S_ISLNK(found.st_mode) else ""
            )
            if Path(link).name != PLUGIN:
                raise UsageError(f"{plugin} is no link of ours: it is left alone")
            os.unlink(PLUGIN, dir_fd=folder.descriptor)
        if target is not None:
            os.symlink(target, PLUGIN, dir_fd=folder.descriptor)


@contextmanager
def _folder_of(path: Path) -> Iterator[own_files.Folder]:
    """The folder of what is to be changed, made where it is missing, with its owner's rights."""
    try:
        with own_files.folder(path.parent, make=True) as folder, folder.acting():
            yield folder
    except OSError as error:
        raise UsageError(f"cannot change {path}: {error.strerror or error}") from error


# --- the hook -------------------------------------------------------------------------------------


def _configure(file: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Changes Docker's configuration, which may get passwords later: a new one is for nobody else.

    Raises:
        UsageError: it makes no sense, or is somebody else's; it is unchanged.
    """

    def edited(raw: bytes) -> bytes:
        before = _config(raw, file)
        after = edit(before)
        if after == before:
            return raw
        indent = re.search(rb"\n([ \t]+)", raw)  # as it was, or as the Docker CLI writes it
        text = dumps(after, indent=indent[1].decode() if indent else "\t", ensure_ascii=False)
        return text.encode() + (b"\n" if raw.endswith(b"\n") else b"")

    if edit is without_hooks and not file.exists():
        return
    mask = os.umask(0o077)
    try:
        with _folder_of(file):
            replace_file.update(file, edited)
    finally:
        os.umask(mask)


def _known(file: Path) -> DockerConfig:
    """What the configuration says of plug-ins; raises as `_configure` does."""
    return convert(_config(replace_file.read(file) if file.exists() else b"", file), DockerConfig)


def _config(raw: bytes, file: Path) -> dict[str, Any]:
    """All of Docker's configuration, in which `DockerConfig` fits."""
    try:
        text = raw.decode().strip() or "{}"
        decode(text, DockerConfig)
        return decode(text, dict[str, Any])
    except ValueError as error:
        raise UsageError(f"{file} is left as it is: {error}") from error


def with_hooks(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with our hook; whatever else is set for plug-ins stays.

    Hooks have a switch of their own, which is off where it is missing (28.5): it is set there, with
    a mark beside our hook that says so.
    """
    plugins, features = config.get("plugins", {}), config.get("features", {})
    own = plugins.get(NAME, {}) | HOOKS
    if _SWITCH not in features:
        features, own = features | {_SWITCH: "true"}, own | _SWITCHED
    return config | {"plugins": plugins | {NAME: own}, "features": features}


def without_hooks(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without it, and without what is empty then."""
    plugins, features = config.get("plugins", {}), config.get("features", {})
    own = plugins.get(NAME, {})
    if own.keys() >= _SWITCHED.keys():
        features = {name: value for name, value in features.items() if name != _SWITCH}
    rest = {name: value for name, value in own.items() if name not in HOOKS | _SWITCHED}
    others = {name: value for name, value in plugins.items() if name != NAME}
    changed = {"plugins": plugins | {NAME: rest} if rest else others, "features": features}
    whole = {name: changed.get(name, value) for name, value in config.items()}
    return {name: value for name, value in whole.items() if value or not config[name]}
