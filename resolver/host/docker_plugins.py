"""Plug-ins of the Docker CLI: their links in a user's folder, their hooks in its configuration.

docker/cli has both in `cli-plugins/manager` and `cli/config/configfile`. What is changed is changed
with the rights of the folder's owner.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from resolver.errors import UsageError
from resolver.host import own_files, paths
from resolver.json_text import convert, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SWITCH = "hooks"  # in "features"
_SWITCHED = {"switched-on": f"features.{_SWITCH}"}


class DockerConfig(Struct, frozen=True):
    """What concerns plug-ins in Docker's `config.json`."""

    plugins: dict[str, dict[str, str]] = {}
    features: dict[str, str] = {}

    @property
    def switched_off(self) -> bool:
        """Whether nobody's hooks are called."""
        return self.features.get(_SWITCH) == "false"


@contextmanager
def folder_of(path: Path) -> Iterator[own_files.Folder]:
    """The folder of what is to be changed, made where it is missing, with its owner's rights.

    Raises:
        UsageError: nothing can be changed there.
    """
    try:
        with own_files.folder(path.parent, make=True) as folder, folder.acting():
            yield folder
    except OSError as error:
        raise UsageError(f"cannot change {path}: {error.strerror or error}") from error


def link(path: Path, target: str | None) -> None:
    """Makes the link, turns one of this plug-in around or, without a target, removes it.

    Raises:
        UsageError: there is something else, or nothing can be changed there.
    """
    if target is None and not os.path.lexists(path):
        return
    with folder_of(path) as folder:
        found = paths.status(folder.descriptor, path.name)
        if found is not None:
            is_link = stat.S_ISLNK(found.st_mode)
            leads = os.readlink(path.name, dir_fd=folder.descriptor) if is_link else ""
            if Path(leads).name != path.name:
                raise UsageError(f"{path} is no link of ours: it is left alone")
            os.unlink(path.name, dir_fd=folder.descriptor)
        if target is not None:
            os.symlink(target, path.name, dir_fd=folder.descriptor)


def read(raw: bytes, file: Path) -> DockerConfig:
    """What the configuration says of plug-ins.

    Raises:
        UsageError: it makes no sense.
    """
    return convert(_parsed(raw, file), DockerConfig)


def edited(raw: bytes, file: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> bytes:
    """The text of the configuration, changed, in the form that it had.

    Raises:
        UsageError: it makes no sense.
    """
    before = _parsed(raw, file)
    after = edit(before)
    if after == before:
        return raw
    indent = re.search(rb"\n([ \t]+)", raw)  # as it was, or as the Docker CLI writes it
    text = dumps(after, indent=indent[1].decode() if indent else "\t", ensure_ascii=False)
    return text.encode() + (b"\n" if raw.endswith(b"\n") else b"")


def _parsed(raw: bytes, file: Path) -> dict[str, Any]:
    """All of the configuration, in which `DockerConfig` fits."""
    try:
        text = raw.decode().strip() or "{}"
        decode(text, DockerConfig)
        return decode(text, dict[str, Any])
    except ValueError as error:
        raise UsageError(f"{file} is left as it is: {error}") from error


def with_hooks(config: dict[str, Any], plugin: str, hooks: Mapping[str, str]) -> dict[str, Any]:
    """The configuration with these hooks; whatever else is set for plug-ins stays.

    Hooks have a switch of their own, which is off where it is missing (28.5): it is set there, with
    a mark beside the hooks that says so.
    """
    plugins, features = config.get("plugins", {}), config.get("features", {})
    own = plugins.get(plugin, {}) | hooks
    if _SWITCH not in features:
        features, own = features | {_SWITCH: "true"}, own | _SWITCHED
    return config | {"plugins": plugins | {plugin: own}, "features": features}


def without_hooks(config: dict[str, Any], plugin: str, hooks: Mapping[str, str]) -> dict[str, Any]:
    """The configuration without them, and without what is empty then."""
    plugins, features = config.get("plugins", {}), config.get("features", {})
    own = plugins.get(plugin, {})
    if own.keys() >= _SWITCHED.keys():
        features = {name: value for name, value in features.items() if name != _SWITCH}
    rest = {name: value for name, value in own.items() if name not in {*hooks, *_SWITCHED}}
    others = {name: value for name, value in plugins.items() if name != plugin}
    changed = {"plugins": plugins | {plugin: rest} if rest else others, "features": features}
    whole = {name: changed.get(name, value) for name, value in config.items()}
    return {name: value for name, value in whole.items() if value or not config[name]}
