"""A service whose manager returns before it has stopped, or refuses since it is busy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resolver.api import Silent
from resolver.errors import CommandFailedError, TimedOutError
from resolver.gather import list_sockets
from resolver.model import (
    Binding,
    Completed,
    Manager,
    Outcome,
    Policy,
    PortNumber,
    Result,
    StopInquiry,
    StopServiceStep,
    Transport,
)
from resolver.strategies import Effects
from resolver.strategies.stop_service import stop_service

if TYPE_CHECKING:
    from collections.abc import Sequence

STOP, ASK = ("svc", "-d", "web"), ("svstat", "web")
BINDING = Binding(Transport.TCP, "0.0.0.0", PortNumber(8085))


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Answers:
    """A runner whose commands answer one after the other; the last answer is given for ever."""

    def __init__(self, **answers: Sequence[Completed | CommandFailedError]) -> None:
        self.left = {name: list(given) for name, given in answers.items()}

    def __call__(self, argv: Sequence[str], **_: object) -> Completed:
        given = self.left[argv[0]]
        answer = given.pop(0) if len(given) > 1 else given[0]
        if isinstance(answer, CommandFailedError):
            raise answer
        return answer


def told(run: Answers, clock: Clock, busy: str = "") -> Outcome:
    manager = Manager(
        "daemontools",
        "web",
        "want up",
        stop=(STOP,),
        patience_seconds=30,
        inquiry=StopInquiry(ASK, r": down "),
        busy=busy,
    )
    step = StopServiceStep((BINDING,), manager, "why")
    return stop_service(step, Policy(), Effects(clock, run, Silent(), list_sockets))


def said(text: str, status: int = 0) -> Completed:
    return Completed(status, text, "")


def test_it_is_asked_until_it_is_down() -> None:
    up, down, clock = said("web: up (pid 7) 0 seconds"), said("web: down 0 seconds"), Clock()
    run = Answers(svc=[said("")], svstat=[up, up, down])

    outcome = told(run, clock)

    assert (outcome.result, outcome.reason) == (Result.DONE, "stopped web")
    assert run.left["svstat"] == [down]


def test_what_is_never_down_has_not_stopped() -> None:
    clock = Clock()

    outcome = told(Answers(svc=[said("")], svstat=[said("web: up (pid 7) 9 seconds")]), clock)

    assert outcome.result is Result.FAILED
    assert outcome.reason == "web was told to stop, but is not down after 30 s"
    assert clock.seconds == pytest.approx(30, abs=1)


def test_one_that_cannot_be_asked_says_so() -> None:
    late = TimedOutError("svstat did not answer in 5 s")

    outcome = told(Answers(svc=[said("")], svstat=[late]), Clock())

    assert outcome.result is Result.FAILED
    assert outcome.reason == "web was told to stop, but svstat did not answer in 5 s"


def test_one_that_is_busy_is_told_again_and_not_for_ever() -> None:
    busy, down, clock = said("it is busy", 1), said("web: down 0 seconds"), Clock()

    again = told(Answers(svc=[busy, busy, said("")], svstat=[down]), clock, busy="is busy")
    assert (again.result, clock.seconds > 0) == (Result.DONE, True)

    never = told(Answers(svc=[busy], svstat=[down]), clock, busy="is busy")
    assert (never.result, never.reason) == (Result.FAILED, "it is busy")
