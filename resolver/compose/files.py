"""Which files make up the project, so that they can be named; what is in them compose says.

They are found as compose finds them (by measurement: 2.26): `-f`, else `COMPOSE_FILE`, of the
environment or of `.env`, else the nearest directory upwards that has one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.errors import UsageError
from resolver.project import variables
from resolver.project.location import is_file
from resolver.project.names import working_directory
from resolver.project.reading import open_regular, read

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})  # Go's strconv.ParseBool


def find(given: Sequence[str]) -> tuple[Path, ...]:
    """The project's files, absolute; empty where there is none, or where they are remote.

    Raises:
        UsageError: the working directory is gone, a name is none of a file here, or one of the
            files may not be read.
    """
    found = _find(given, working_directory())
    for path in found if os.geteuid() == 0 else ():
        if path.is_symlink() and path.lstat().st_uid != 0:
            with suppress(OSError), open_regular(path):
                pass  # compose would quote what it leads to
    return found


def _find(given: Sequence[str], cwd: Path) -> tuple[Path, ...]:
    if not given and (listed := _variable("COMPOSE_FILE", cwd)):
        separator = _variable("COMPOSE_PATH_SEPARATOR", cwd) or os.pathsep
        given = listed.split(separator)
    if "-" in given:
        raise UsageError("-f - is not taken: standard input can be read once", "save it to a file")
    if any("\0" in name for name in given):
        raise UsageError("a path has no NUL")
    if given:
        local = (name for name in given if "://" not in name)
        return tuple(Path(os.path.normpath(cwd / name)) for name in local)
    return _search(cwd)


def _search(cwd: Path) -> tuple[Path, ...]:
    for folder in (cwd, *cwd.parents):
        found = [folder / name for name in NAMES if is_file(folder / name)]
        if found:
            overrides = [folder / name for name in OVERRIDES if is_file(folder / name)]
            return (found[0], *overrides[:1])
    return ()


def _variable(name: str, cwd: Path) -> str:
    """A variable of the environment, else of the files of variables that compose reads for it."""
    if name in os.environ:
        return os.environ[name]
    if given := os.environ.get("COMPOSE_ENV_FILES"):
        paths = [cwd / each for each in given.split(",")]
    else:
        disabled = os.environ.get("COMPOSE_DISABLE_ENV_FILE") in _TRUE
        paths = [] if disabled else [cwd / ".env"]
    found = ""
    for path in filter(is_file, paths):
        text = read(path, "replace")
        with suppress(UsageError):  # compose says what it makes of such a file
            found = variables.parse(text, os.environ).get(name) or found
    return found
