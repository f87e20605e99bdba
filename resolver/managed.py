"""What the classifiers of managers share: asking one, and what is said of a service of its.

Nothing here knows any manager.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

from msgspec import Struct

from resolver import json_text
from resolver.errors import CommandFailedError
from resolver.host import trust
from resolver.model import Account, Classification, Command, Confidence, Kind, Manager, Respawn
from resolver.settings import COMMAND_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.model import Completed, Holder, Process
    from resolver.protocols import CommandRunner

T = TypeVar("T")


class ManagedService(Manager, frozen=True, kw_only=True):
    """What a manager keeps running: how it is stopped and started, and what is said of it.

    `title` is what people call it, with its name (`program web:web`), and `policy` the manager's
    own words. `keeper` ends the chain: the process that starts it again. `stop` and `start` are
    empty where it is not known how to reach the manager.
    """

    title: str
    keeper: str
    evidence: tuple[str, ...]
    policy: str = "restart policy unknown"
    respawn: Respawn = Respawn.UNKNOWN
    confidence: Confidence = Confidence.CONFIRMED
    commands: tuple[Command, ...] = ()
    reason: str = ""


class Daemon(Struct, frozen=True):
    """A manager that runs here, the words that reach it, and the user as whom it is asked.

    `account` is None where that is the caller himself. `file` is what its command reads, as far as
    that is known: a configuration, or a directory.
    """

    manager: str
    process: Process
    control: tuple[str, ...]
    account: Account | None
    file: str | None = None

    @classmethod
    def of(cls, manager: str, process: Process, *control: str, file: str | None = None) -> Self:
        """One that is asked as its owner."""
        return cls(manager, process, control, trust.owner_account(process.uid), file)

    def check(self, about: Process | None) -> None:
        """Sees to it that it may be asked about a process.

        Raises:
            UntrustedError: it may not, or others could change the file that the caller would read.
        """
        trust.account_for(self.process, about)
        if self.file and self.account is None:
            trust.check_file(self.file)

    def ask(self, run: CommandRunner, *words: str) -> Completed:
        """What its own command says, whatever its status.

        Raises:
            CommandFailedError: it could not be run, or did not end in time.
        """
        return ask(run, (*self.control, *words), self.account)

    @property
    def keeper(self) -> str:
        """What people call it."""
        return str(self.process)

    def command(self, *words: str, comment: str = "") -> Command:
        """A command line for people."""
        prefix = self.account.prefix if self.account else ()
        return Command((*prefix, *self.control, *words), comment)

    def service(self, name: str, *target: str, **facts: Any) -> ManagedService:  # noqa: ANN401 - its fields
        """What it keeps running: its commands stop and start the `target`, or else the name."""
        words = target or (name,)
        known = {
            "kind": self.manager,
            "name": name,
            "keeper": self.keeper,
            "stop": ((*self.control, "stop", *words),),
            "start": ((*self.control, "start", *words),),
            "prefix": sudo_for(self.process),
            "account": self.account,
        }
        return ManagedService(**(known | facts))

    def unknown(
        self,
        title: str,
        policy: str,
        evidence: tuple[str, ...],
        reason: str,
        commands: tuple[Command, ...],
    ) -> ManagedService:
        """Something that it may keep running: what that is, and how to stop it, is not known."""
        return ManagedService(
            kind=self.manager,
            name="",
            title=title,
            keeper=self.keeper,
            policy=policy,
            confidence=Confidence.SUSPECTED,
            evidence=evidence,
            reason=reason,
            commands=commands,
        )


def classification(
    holder: Holder, line: Iterable[object], service: ManagedService
) -> Classification:
    """A holder that is a manager's service; `line` runs from its master up to what was started."""
    return Classification(
        holder,
        Kind.SERVICE,
        respawn=service.respawn,
        confidence=service.confidence,
        manager=alone(service) if service.stop else None,
        chain=(*map(str, line), service.title, service.policy, service.keeper),
        evidence=service.evidence,
        reason=service.reason or f"{service.title} of {service.kind} ({service.policy})",
        commands=service.commands,
    )


def alone(service: Manager) -> Manager:
    """How it is stopped and started, without what is said of it."""
    return Manager(**{name: getattr(service, name) for name in Manager.__struct_fields__})


def sudo_for(daemon: Process) -> tuple[str, ...]:
    """What others than root put in front of a manager's commands."""
    return ("sudo",) if daemon.uid == 0 else ()


def asked_once(run: CommandRunner) -> CommandRunner:
    """A runner that asks each question once, and waits for a silent manager once."""
    answers: dict[tuple[object, ...], Completed | CommandFailedError] = {}

    def asked(
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

    return asked


def ask(run: CommandRunner, argv: tuple[str, ...], account: Account | None = None) -> Completed:
    """What a manager's own command says, whatever its status.

    Raises:
        CommandFailedError: it could not be run, or did not end in time.
    """
    return run(argv, timeout_seconds=COMMAND_TIMEOUT_SECONDS, account=account)


def ask_text(run: CommandRunner, argv: tuple[str, ...], account: Account | None = None) -> str:
    """What it prints.

    Raises:
        CommandFailedError: also where its status is not 0.
    """
    answer = ask(run, argv, account)
    if answer.status != 0:
        raise CommandFailedError(refusal(argv[0], answer))
    return answer.stdout


def ask_json(
    run: CommandRunner, argv: tuple[str, ...], shape: type[T], account: Account | None = None
) -> T:
    """The JSON that it prints, as a value of the type `shape`.

    Raises:
        CommandFailedError: also where its status is not 0, or it printed something else.
    """
    answer = ask(run, argv, account)
    if answer.status != 0:  # kubectl tells what it tried first, and then what is wrong
        raise CommandFailedError(refusal(argv[0], answer, line=-1))
    return read_json(argv[0], answer.stdout, shape)


def read_json(program: str, text: str, shape: type[T]) -> T:
    """The value in a manager's answer.

    Raises:
        CommandFailedError: it is none of the type `shape`.
    """
    try:
        return json_text.decode(text, shape)
    except json_text.JsonError as error:
        raise CommandFailedError(
            f"{program} gave an answer that is not understood: {error}"
        ) from error


def refusal(program: str, answer: Completed, line: int = 0) -> str:
    """Why a command gave no answer: that line of what it said."""
    said = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
    return f"{program} said: {said[line]}" if said else f"{program} failed"
