"""`ultra-ports docker-plugin`: makes `docker ports` of this installation, or ends that."""

from __future__ import annotations

import json
import os
import stat
import sys
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resolver.cli.docker_ports import NAME
from resolver.cli.output import fit, say
from resolver.errors import UsageError
from resolver.host import docker_config, own_files, paths, trust
from resolver.json_text import JsonError, decode
from resolver.report.escape import escape
from resolver.reservations.export import replace_file

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

PLUGIN = f"docker-{NAME}"
HOOKS = {"hooks": "run", "error-hooks": "run,compose,start"}
_SWITCH = "hooks"  # in "features"
_SWITCHED = {"switched-on": f"features.{_SWITCH}"}
QUESTION = "Shall docker say who is in the way when a port is taken (a hook in {file})?"

EPILOG = """\b
Exit status:
  0  done; of status: the plug-in is there
  1  of status: it is not
  2  usage, or what is there is somebody else's: nothing was changed"""


class Action(StrEnum):
    """What to do about the plug-in."""

    INSTALL = "install"
    REMOVE = "remove"
    STATUS = "status"


def docker_plugin(
    action: Annotated[Action, typer.Argument(help="What to do.")],
    hooks: Annotated[
        bool | None,
        typer.Option(
            "--hooks/--no-hooks",
            help="Have docker say who is in the way, or not; else install asks on a terminal.",
        ),
    ] = None,
) -> int:
    """Examples:

    \b
      ultra-ports docker-plugin install            docker ports 8085, docker ports resolve 8085
      ultra-ports docker-plugin install --hooks    also after a `docker run` that failed
      ultra-ports docker-plugin remove

    Links docker-ports into the Docker CLI's folder of this user's plug-ins and, if you
    want that, adds a hook to its config.json. Everything else in there stays as it is.
    """  # noqa: D415, D301 - a help text
    folder = docker_folder()
    plugin, file = folder / "cli-plugins" / PLUGIN, folder / "config.json"
    if action is Action.STATUS:
        return _status(plugin, file)
    if action is Action.REMOVE:
        said = f"removed {plugin}" if _unlink(plugin) else f"{plugin} was not there"
        _write(file, without_hooks)
        say([f"{said}, and no hook is left in {file}"])
        return 0
    target = _program()
    _link(plugin, target)
    say([f"{plugin} leads to {target}: `docker {NAME} 8085` says who holds a port"])
    if hooks is None and sys.stdin.isatty():
        hooks = typer.confirm(QUESTION.format(file=file), err=True)
    if hooks is not None:
        _write(file, with_hooks if hooks else without_hooks)
    say([_hooks_line(file)])
    return 0


def docker_folder() -> Path:
    """Where the Docker CLI keeps this user's plug-ins and configuration."""
    return Path(os.environ.get("DOCKER_CONFIG") or f"{docker_config.home()}/.docker").absolute()


def _status(plugin: Path, file: Path) -> int:
    target = _target(plugin)
    runs = target is not None and os.access(plugin, os.X_OK)
    broken = "" if runs else ", which cannot be run"
    about = "is not there" if target is None else f"leads to {escape(target)}{broken}"
    print(fit(f"{plugin} {about}\n{_hooks_line(file)}"))
    return 0 if runs else 1


def _hooks_line(file: Path) -> str:
    config = _config(replace_file.read(file), file) if file.exists() else {}
    plugins = config.get("plugins", {})
    found = plugins.get(NAME, {}) if isinstance(plugins, dict) else {}
    features = config.get("features")
    if isinstance(features, dict) and features.get(_SWITCH) == "false":
        return f"docker's hooks are switched off (features.{_SWITCH} in {file})"
    if found and isinstance(found, dict):
        text = "; ".join(f"{name}: {value}" for name, value in found.items())
        return f"docker says who is in the way ({escape(text)} in {file})"
    return f"docker does not say who is in the way (install --hooks adds that to {file})"


# --- the link -------------------------------------------------------------------------------------


def _program() -> str:
    """`docker-ports` of this installation.

    Raises:
        UntrustedError: somebody else could put another one in its place.
        UsageError: there is none.
    """
    folders = (os.path.dirname(os.path.abspath(sys.argv[0])), os.path.dirname(sys.executable))  # noqa: PTH100, PTH120 - links stay links
    beside = (f"{folder}/{PLUGIN}" for folder in folders)
    found = next((each for each in beside if os.access(each, os.X_OK)), which(PLUGIN))
    if found is None:
        raise UsageError(f"{PLUGIN} is not installed beside ultra-ports")
    trust.check_file(os.path.realpath(found))
    return found


def _link(plugin: Path, target: str) -> None:
    """Makes the link, or turns one of ours around."""
    with _changing(plugin), own_files.folder(plugin.parent, make=True) as folder, folder.acting():
        if _ours(folder, plugin):
            os.unlink(PLUGIN, dir_fd=folder.descriptor)
        os.symlink(target, PLUGIN, dir_fd=folder.descriptor)


def _unlink(plugin: Path) -> bool:
    """Removes the link; False where there is none."""
    with (
        _changing(plugin),
        suppress(FileNotFoundError),
        own_files.folder(plugin.parent) as folder,
        folder.acting(),
    ):
        if _ours(folder, plugin):
            os.unlink(PLUGIN, dir_fd=folder.descriptor)
            return True
    return False


def _ours(folder: own_files.Folder, plugin: Path) -> bool:
    """Whether there is a link of ours; False where there is nothing.

    Raises:
        UsageError: there is something else.
    """
    found = paths.status(folder.descriptor, PLUGIN)
    if found is None:
        return False
    if stat.S_ISLNK(found.st_mode):
        target = os.readlink(PLUGIN, dir_fd=folder.descriptor)
        if os.path.basename(target) == PLUGIN:  # noqa: PTH119 - a text
            return True
    raise UsageError(f"{plugin} is no link of ours: it is left alone")


def _target(plugin: Path) -> str | None:
    try:
        return str(plugin.readlink())
    except OSError:
        return None


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"cannot change {path}: {error.strerror or error}") from error


# --- the hook -------------------------------------------------------------------------------------


def _write(file: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Changes Docker's configuration, which may get passwords later: a new one is for nobody else.

    Raises:
        UsageError: it makes no sense, or is somebody else's; it is unchanged.
    """

    def edited(raw: bytes) -> bytes:
        before = _config(raw, file)
        after = edit(before)
        return raw if after == before else _text(after, raw)

    if edit is without_hooks and not file.exists():
        return
    mask = os.umask(0o077)
    try:
        with _changing(file), own_files.folder(file.parent, make=True) as folder, folder.acting():
            replace_file.update(file, edited)
    finally:
        os.umask(mask)


def _config(raw: bytes, file: Path) -> dict[str, Any]:
    try:
        return decode(raw.decode(), dict[str, Any]) if raw.strip() else {}
    except (JsonError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is left as it is: {error}") from error


def _text(config: dict[str, Any], raw: bytes) -> bytes:
    """As the Docker CLI writes it, with tabs; or as it was indented."""
    second = raw.decode().partition("\n")[2]
    indent = second[: len(second) - len(second.lstrip(" \t"))] or "\t"
    end = "\n" if raw.endswith(b"\n") else ""
    return (json.dumps(config, indent=indent, ensure_ascii=False) + end).encode()


def with_hooks(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with our hook; whatever else is set for plug-ins stays.

    Hooks have a switch of their own, which is off where it is missing (28.5): it is set there, with
    a mark beside our hook that says so.

    Raises:
        UsageError: it has something else where plug-ins are configured.
    """
    plugins, features = config.get("plugins", {}), config.get("features", {})
    own = plugins.get(NAME, {}) if isinstance(plugins, dict) else None
    if not (isinstance(own, dict) and isinstance(features, dict)):
        raise UsageError("config.json is left as it is: its plugins or features are no objects")
    own = {**own, **HOOKS}
    if _SWITCH not in features:
        config = {**config, "features": {**features, _SWITCH: "true"}}
        own |= _SWITCHED
    return {**config, "plugins": {**plugins, NAME: own}}


def without_hooks(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without it, and without what is empty then."""
    plugins, features = config.get("plugins"), config.get("features")
    own = plugins.get(NAME) if isinstance(plugins, dict) else None
    if not (isinstance(plugins, dict) and isinstance(own, dict)):
        return config
    changed = {"plugins": {**plugins, NAME: _less(own, {*HOOKS, *_SWITCHED})}}
    if not changed["plugins"][NAME]:
        del changed["plugins"][NAME]
    if isinstance(features, dict) and own.keys() >= _SWITCHED.keys():
        changed["features"] = _less(features, {_SWITCH})
    whole = {name: changed.get(name, value) for name, value in config.items()}
    return _less(whole, {name for name, value in changed.items() if not value})


def _less(table: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in names}
