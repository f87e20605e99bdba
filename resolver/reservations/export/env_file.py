"""An environment file that gets a block of assigned ports, and what there is to say about it.

A value may be a secret, so it is spoken of by its key and its line only.
"""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import UsageError
from resolver.reservations.export import block, replace_file
from resolver.reservations.export.variables import env_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from resolver.reservations.terms import Assigned


class Change(Struct, frozen=True):
    """A service's port that was another one."""

    service: str
    old: int
    new: int


class EnvFile:
    """One file, for one call.

    Args:
        path: as it was given.
        keep: whether the block's variables of other services stay, as those of a call that names
            its services do.

    Raises:
        UsageError: it cannot be read or replaced, or its block is damaged.
    """

    def __init__(self, path: Path, *, keep: bool) -> None:
        self._path = path
        self._keep = keep
        block.split(replace_file.check(self._path), self._path)

    def write(
        self, assigned: Sequence[Assigned], found: Mapping[str, str], environ: Mapping[str, str]
    ) -> tuple[str, ...]:
        """Writes the block with the variables that were found; returns what is to be said.

        Raises:
            UsageError: the file cannot be replaced, or its block is damaged; it is unchanged.
            UltraPortsError: others keep it busy; it is unchanged.
        """
        said: list[str] = []

        def edit(raw: bytes) -> bytes:
            said[:] = self._mentions(raw, assigned)
            return block.apply(raw, self._variables(raw, found), self._path)

        new = replace_file.update(self._path, edit)
        return (*said, *self._overrides(new, found), *self._environment(found, environ))

    def preview(self, assigned: Sequence[Assigned], found: Mapping[str, str]) -> tuple[str, ...]:
        """What would be said of a file that stays as it is."""
        raw = replace_file.read(self._path)
        return (
            f"{self._path} would get {', '.join(self._variables(raw, found))}",
            *self._mentions(raw, assigned),
        )

    def _variables(self, raw: bytes, found: Mapping[str, str]) -> dict[str, str]:
        """What the block is to say, as a file has it."""
        earlier = block.values_in_block(raw, self._path) if self._keep else {}
        return earlier | {name: env_value(text) for name, text in found.items()}

    def _mentions(self, raw: bytes, assigned: Sequence[Assigned]) -> Iterator[str]:
        """Values outside of our block that hold a port which its service no longer has."""
        made = changes(assigned, block.values_in_block(raw, self._path))
        for line in block.lines(raw, self._path):
            for change in made:
                if not line.block and line.says(change.old):
                    yield (
                        f"{self._path}:{line.number}: {line.key} says {change.old}, and "
                        f"{change.service} has {change.new} now"
                    )

    def _overrides(self, raw: bytes, found: Mapping[str, str]) -> Iterator[str]:
        """Who else sets our variables in the file: of two lines the last one wins."""
        for line, wins in block.overrides(raw, tuple(found), self._path):
            where = f"{self._path}:{line.number}: {line.key} is set here too"
            if wins:
                yield f"{where}, below the block, and wins: remove that line"
            else:
                yield f"{where}, above the block, which wins"

    def _environment(self, found: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[str]:
        for name, text in found.items():
            if environ.get(name, text) != text:
                yield (
                    f"{name} is something else in the environment, which wins over "
                    f"{os.path.basename(self._path)} for most who read it"  # noqa: PTH119
                )


def disagreements(
    path: Path, assigned: Sequence[Assigned], told: Mapping[str, str]
) -> Iterator[str]:
    """Which lines of a file that is not written say something else; a stranger's has none.

    Of the lines outside of our block, those that set a service's port count.
    """
    ports = {each.wanted.variable for each in assigned}
    with suppress(UsageError):
        for line in block.lines(replace_file.read(path), path):
            meant = told.get(line.key, line.text)
            if line.text != meant and (line.block or line.key in ports):
                yield (
                    f"{path}:{line.number}: {line.key} is not {meant}, which was assigned "
                    f"(ultra-ports assign --env-file {shlex.quote(str(path))})"
                )


def changes(assigned: Sequence[Assigned], earlier: Mapping[str, str]) -> tuple[Change, ...]:
    """Old ports that are nobody's by now, each with the only service that it can have been of.

    Args:
        assigned: what the services have now; each may have had what it prefers.
        earlier: what our block says until now.
    """
    taken = {each.request.port for each in assigned}
    heirs: dict[int, list[Assigned]] = {}
    for each in assigned:
        said = earlier.get(each.wanted.variable, "")
        old = {each.wanted.preferred.port, *([int(said)] if said.isdecimal() else [])}
        for port in old - taken:
            heirs.setdefault(port, []).append(each)
    return tuple(
        Change(each.wanted.service, port, each.request.port)
        for port, (each, *others) in sorted(heirs.items())
        if not others
    )
