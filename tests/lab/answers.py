"""Commands that answer what a test says, in the place of a runner: recorded output, or nonsense."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.errors import CommandFailedError
from resolver.model import Completed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from resolver.model import Account

Reply = Completed | CommandFailedError


class Answers:
    """A `CommandRunner` that remembers what it was asked, and as whom.

    `folder` is the directory that every question has to be asked from; None is the caller's, which
    the classifiers' own runner replaces.
    """

    def __init__(
        self, reply: Callable[[tuple[str, ...]], Reply], folder: str | None = None
    ) -> None:
        self.reply = reply
        self.asked: list[tuple[str, ...]] = []
        self.accounts: list[Account | None] = []
        self._folder = folder

    def __call__(
        self,
        argv: Sequence[str],
        *,
        timeout_seconds: float,
        account: Account | None = None,
        folder: str | None = None,
    ) -> Completed:
        assert timeout_seconds > 0
        assert folder == self._folder, "in another one a stranger may have left something"
        self.asked.append(tuple(argv))
        self.accounts.append(account)
        said = self.reply(tuple(argv))
        if isinstance(said, CommandFailedError):
            raise said
        return said


def always(said: Reply) -> Answers:
    """Says the same to everything."""
    return Answers(lambda _: said)


def recorded(answers: Mapping[tuple[str, ...], str]) -> Answers:
    """Says what was recorded, and that there is no such program where nothing was."""

    def reply(argv: tuple[str, ...]) -> Reply:
        if argv not in answers:
            return CommandFailedError(f"{argv[0]}: No such file or directory")
        return Completed(0, answers[argv], "")

    return Answers(reply)
