"""An environment file that is told of assigned ports, and what there is to say about it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from resolver.reservations.telling import dependents, envfile, formats, rewriting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from resolver.reservations.terms import Assigned


class EnvFile:
    """One file, for one call.

    Args:
        path: as it was given.
        keep: whether the block's variables of other services stay, as those of a call that names
            its services do.
        rewrites: whether old ports in other values are replaced.
    """

    def __init__(self, path: Path, *, keep: bool, rewrites: bool) -> None:
        self._path = path
        self._keep = keep
        self._rewrites = rewrites

    def check(self) -> None:
        """Makes sure that it can be read, and that its block is whole.

        Raises:
            UsageError: it cannot, or is not.
        """
        envfile.split(rewriting.check(self._path), self._path)

    def write(self, assigned: Sequence[Assigned], environ: Mapping[str, str]) -> tuple[str, ...]:
        """Writes the block; returns what is to be said.

        Raises:
            UsageError: the file cannot be replaced, or its block is damaged; it is unchanged.
            UltraPortsError: others keep it busy; it is unchanged.
        """
        said: list[str] = []

        def edit(raw: bytes) -> bytes:
            said[:] = self._mentions(raw, assigned, done=self._rewrites)
            changed = raw
            if self._rewrites:
                changed = dependents.rewrite(raw, self._changes(raw, assigned), self._path)
            return envfile.apply(changed, self._variables(raw, assigned), self._path)

        new = rewriting.update(self._path, edit)
        return (*said, *self._overrides(new, assigned), *self._environment(assigned, environ))

    def preview(self, assigned: Sequence[Assigned]) -> tuple[str, ...]:
        """What would be said of a file that stays as it is."""
        raw = rewriting.read(self._path)
        return (
            f"{self._path} would get {', '.join(self._variables(raw, assigned))}",
            *self._mentions(raw, assigned, done=False),
        )

    def _variables(self, raw: bytes, assigned: Sequence[Assigned]) -> dict[str, str]:
        earlier = envfile.values_in_block(raw, self._path) if self._keep else {}
        return earlier | formats.variables(assigned)

    def _changes(self, raw: bytes, assigned: Sequence[Assigned]) -> tuple[dependents.Change, ...]:
        earlier = envfile.values_in_block(raw, self._path)
        old, new = {}, {}
        for each in assigned:
            said = earlier.get(each.wanted.variable, "")
            ports = [each.wanted.preferred.port, *([int(said)] if said.isdecimal() else [])]
            old[each.wanted.service] = ports
            new[each.wanted.service] = int(each.request.port)
        return dependents.changes(old, new)

    def _mentions(self, raw: bytes, assigned: Sequence[Assigned], *, done: bool) -> Iterator[str]:
        for found in dependents.mentions(raw, self._changes(raw, assigned), self._path):
            change = found.change
            where = f"{self._path}:{found.line}: {found.key}"
            if done and found.rewritable:
                yield f"{where}: {change.old} → {change.new} ({change.service})"
            elif found.rewritable:
                yield (
                    f"{where} still says {change.old}, and {change.service} has {change.new} now "
                    "(--rewrite changes it)"
                )
            else:
                yield (
                    f"{where} says {change.old}, which may mean {change.service}, who has "
                    f"{change.new} now: it is left alone"
                )

    def _overrides(self, raw: bytes, assigned: Sequence[Assigned]) -> Iterator[str]:
        """Who else sets our variables in the file: of two lines the last one wins."""
        keys = tuple(formats.variables(assigned))
        for line, wins in dependents.overrides(raw, keys, self._path):
            where = f"{self._path}:{line.number}: {line.key} is set here too"
            if wins:
                yield f"{where}, below the block, and wins: remove that line"
            else:
                yield f"{where}, above the block, which wins"

    def _environment(
        self, assigned: Sequence[Assigned], environ: Mapping[str, str]
    ) -> Iterator[str]:
        for name, text in formats.variables(assigned).items():
            if environ.get(name, text) != text:
                yield (
                    f"{name} is something else in the environment, which wins over "
                    f"{os.path.basename(self._path)} for most who read it"  # noqa: PTH119
                )
