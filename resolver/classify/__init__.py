"""Classify: what each holder is, and what would bring it back. The folder listing is the registry.

A classifier is one module with a `RANK` and a function `classify(holder, snapshot, run)`; the
modules are asked in the order of their ranks, and the first answer counts. They suspect from facts
that were already gathered, then confirm by asking the manager through `run`.
"""

from __future__ import annotations

import os
from functools import lru_cache

from resolver.errors import CommandFailedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from resolver.model import Account, Classification, Completed, Holder, Snapshot
    from resolver.protocols import Classifier, CommandRunner


def classify(
    holders: Iterable[Holder], snapshot: Snapshot, run: CommandRunner
) -> tuple[Classification, ...]:
    """One classification for each holder, in the same order."""
    remembered = _remembering(run)
    return tuple(_classify_one(holder, snapshot, remembered) for holder in holders)


def _classify_one(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification:
    for classifier in _registry():
        found = classifier.classify(holder, snapshot, run)
        if found is not None:
            return found
    raise AssertionError("the local classifier takes everything")


@lru_cache(maxsize=1)
def _registry() -> tuple[Classifier, ...]:
    """The modules of this folder, by rank."""
    found: list[Any] = [__import__(f"{__name__}.{name}", fromlist=["RANK"]) for name in _names()]
    return tuple(sorted(found, key=lambda classifier: classifier.RANK))


def _names() -> list[str]:
    """Of the modules in this folder; what packages them in an archive is asked, and is slower."""
    try:
        files = os.listdir(__path__[0])
    except OSError:
        import pkgutil  # noqa: PLC0415 - it loads inspect

        return sorted(module.name for module in pkgutil.iter_modules(__path__))
    return sorted({file.partition(".")[0] for file in files if not file.startswith("_")})


def _remembering(run: CommandRunner) -> CommandRunner:
    """A runner that asks each question once, and waits for a silent manager once."""
    answers: dict[tuple[object, ...], Completed | CommandFailedError] = {}

    def ask(
        argv: Sequence[str],
        *,
        timeout_seconds: float,
        account: Account | None = None,
        folder: str | None = None,
    ) -> Completed:
        key = (*argv, account)
        if key not in answers:
            where = folder or "/"  # in the caller's, a stranger may have left a configuration file
            try:
                answers[key] = run(
                    argv, timeout_seconds=timeout_seconds, account=account, folder=where
                )
            except CommandFailedError as error:
                answers[key] = error
        answer = answers[key]
        if isinstance(answer, CommandFailedError):
            raise answer
        return answer

    return ask
