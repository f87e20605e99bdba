"""Which files make up the project, its environment and its name, as compose finds them.

By measurement (plug-in 2.26): `.env` is read from the directory of the first compose file, and what
it sets may name other files (`COMPOSE_FILE`), beside which another `.env` fills in what is missing.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver import dotenv
from resolver.errors import UsageError
from resolver.interpolation import shown
from resolver.project.reading import doubt, open_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from resolver.compose.model import ComposeArguments

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
_LARGEST = 1 << 20  # bytes of a file of variables
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})  # Go's strconv.ParseBool
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


class Found(Struct, frozen=True):
    """The project's place: its files are absolute; `notes` are for the user."""

    files: tuple[Path, ...]
    working_dir: Path
    environ: dict[str, str]
    notes: tuple[str, ...] = ()


def find(arguments: ComposeArguments, environ: Mapping[str, str], cwd: Path) -> Found:
    """Where the project is; `cwd` is absolute.

    Raises:
        UsageError: there is no compose file, or a file of variables makes no sense.
    """
    known = dict(environ)
    for _ in range(2):
        files, notes = _files(arguments.files, known, cwd)
        folder = files[0].parent if files else cwd
        known = over(known, _variables(environ, known, folder, cwd))
    files, notes = _files(arguments.files, known, cwd)
    if not files:
        raise UsageError(f"there is no compose file in {cwd} or above", "-f FILE names one")
    return Found(files, files[0].parent, known, notes + _foreign(files))


def _foreign(files: Iterable[Path]) -> tuple[str, ...]:
    """What root is told where the compose files are another user's."""
    if os.geteuid() != 0:
        return ()
    doubts = {each: why for each in files if _exists(each) and (why := doubt(each))}
    if not doubts:
        return ()
    names, why = " and ".join(each.name for each in doubts), next(iter(doubts.values()))
    return (f"{why}: what {names} says would be started with the rights of root",)


def over(upper: Mapping[str, str], lower: Mapping[str, str]) -> dict[str, str]:
    """The variables of both; the upper ones win."""
    return {**lower, **upper}


# --- the compose files ----------------------------------------------------------------------------


def _files(
    given: Sequence[str], environ: Mapping[str, str], cwd: Path
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    if not given and "COMPOSE_FILE" in environ:
        separator = environ.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
        given = environ["COMPOSE_FILE"].split(separator)
    if "-" in given:
        raise UsageError("-f - is not taken: standard input can be read once", "save it to a file")
    if given:
        return tuple(absolute(cwd, name) for name in given), ()
    return _search(cwd)


def _search(cwd: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """The default files of the nearest directory that has one, upwards; empty where none has."""
    for folder in (cwd, *cwd.parents):
        if found := _present(folder, NAMES):
            overrides = _present(folder, OVERRIDES)
            notes = tuple(
                f"{folder} has {' and '.join(each.name for each in several)}: {several[0].name} "
                "is the one that counts"
                for several in (found, overrides)
                if len(several) > 1
            )
            return (found[0], *overrides[:1]), notes
    return (), ()


def _present(folder: Path, names: Iterable[str]) -> list[Path]:
    return [folder / name for name in names if _exists(folder / name)]


def absolute(folder: Path, name: str) -> Path:
    """The path of a name in a folder, without `.` and `..`, as compose writes it.

    Raises:
        UsageError: it has a character that no path has.
    """
    if "\0" in name:
        raise UsageError(f"{shown(name)} is no path")
    return Path(os.path.normpath(folder / name))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


# --- the variables --------------------------------------------------------------------------------


def _variables(
    environ: Mapping[str, str], known: Mapping[str, str], folder: Path, cwd: Path
) -> dict[str, str]:
    """What the project's files of variables set; `known` is what they may use."""
    if given := environ.get("COMPOSE_ENV_FILES"):
        return variables((absolute(cwd, name) for name in given.split(",")), known)
    if _switched(environ, "COMPOSE_DISABLE_ENV_FILE"):
        return {}
    return variables(default(folder), known)


def default(folder: Path) -> tuple[Path, ...]:
    """The folder's `.env`, where it has one that is a file."""
    path = folder / ".env"
    return (path,) if _exists(path) and not path.is_dir() else ()


def variables(paths: Iterable[Path], environ: Mapping[str, str]) -> dict[str, str]:
    """What the files set, a later one over an earlier one; they may use one another's variables.

    Raises:
        UsageError: a file is missing, or makes no sense.
    """
    found: dict[str, str] = {}
    for path in paths:
        text = read_text(path, _LARGEST)
        try:
            found.update(dotenv.parse(text, over(environ, found)))
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error
    return found


def read_text(path: Path, largest: int) -> str:
    """The text of a file, which is no larger than so many bytes and no device or pipe.

    Raises:
        UsageError: it cannot be read, is none of that, or is no text.
    """
    if path == Path(os.devnull):  # by which compose is told that there is none
        return ""
    try:
        with open_regular(path) as file:
            raw = file.read(largest + 1)
        if len(raw) > largest:
            raise UsageError(f"{path}: more than {largest >> 20} MiB is too much")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text (in UTF-8)") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no path"
        raise UsageError(f"cannot read {path}: {reason}") from error


def _switched(environ: Mapping[str, str], name: str) -> bool:
    value = environ.get(name)
    if value is not None and value not in _TRUE | _FALSE:
        raise UsageError(f"{name} is {shown(value)}: true or false is wanted")
    return value in _TRUE


# --- the name -------------------------------------------------------------------------------------


def given_name(arguments: ComposeArguments, environ: Mapping[str, str]) -> str:
    """The project's name, where the command line or the environment has it; else empty.

    Raises:
        UsageError: it is no name for a project.
    """
    name = arguments.project or environ.get("COMPOSE_PROJECT_NAME", "")
    if name != normalized(name):
        raise UsageError(
            f"{shown(name)} is no name for a project: "
            "lower-case letters, digits, - and _, a letter or a digit first"
        )
    return name


def normalized(name: str) -> str:
    """The name as compose makes it of a directory's: what does not fit is left out."""
    return re.sub(r"[^a-z0-9_-]", "", name.lower()).lstrip("_-")
