"""Many conversations at once, each with a deadline of its own, in one thread.

A conversation is a generator that says what it waits for, and is resumed when that has come. When
its time is up, TimeoutError is raised where it waits, and it answers with what it knows by then.
So no peer can keep anybody waiting, and fifty of them take as long as the slowest.
"""

from __future__ import annotations

import selectors
import time
from collections import deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.health.model import Answer

AT_ONCE = 100  # conversations: each takes a descriptor or two, of which there may be 256
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Wait(Struct, frozen=True):
    """Until a descriptor can be read or written, or for so many seconds, whichever comes first.

    `descriptor` -1: only for the time. `seconds` None: only for the descriptor.
    """

    descriptor: int = -1
    events: int = READ
    seconds: float | None = None


Talk = Generator[Wait, None, "Answer"]


class Appointment(Struct, frozen=True):
    """A conversation that is to be begun, and how many seconds it may take from then on."""

    begin: Callable[[], Talk]
    seconds: float


def converse(appointments: Sequence[Appointment]) -> tuple[Answer, ...]:
    """Holds every conversation, and returns their answers in the same order.

    Whatever ends this early (Ctrl-C, an error) ends every conversation, which lets go of its
    connection.
    """
    waiting = deque(enumerate(appointments))
    answers: dict[int, Answer] = {}
    with selectors.DefaultSelector() as selector:
        running: dict[int, _Running] = {}
        try:
            while waiting or running:
                while waiting and len(running) < AT_ONCE:
                    number, each = waiting.popleft()
                    running[number] = _Running(each, selector)
                for number in _ready(running, selector):
                    answer = running[number].go_on()
                    if answer is not None:
                        answers[number] = answer
                        del running[number]
        finally:
            for left in running.values():
                left.end()
    return tuple(answers[number] for number in range(len(appointments)))


def _ready(running: dict[int, _Running], selector: selectors.BaseSelector) -> list[int]:
    """The conversations that can go on, after waiting for the first of them."""
    now = time.monotonic()
    sleep = min((each.due for each in running.values()), default=now) - now
    events = selector.select(max(0.0, sleep))
    come = {id(key.data) for key, _ in events}
    now = time.monotonic()
    return [number for number, each in running.items() if id(each) in come or each.due <= now]


class _Running:
    """A conversation that has begun; `due` is when it goes on, come what may (monotonic)."""

    def __init__(self, appointment: Appointment, selector: selectors.BaseSelector) -> None:
        self._talk = appointment.begin()
        self._selector = selector
        self._deadline = time.monotonic() + appointment.seconds
        self._registered = -1
        self._begun = False
        self.due = 0.0

    def go_on(self) -> Answer | None:
        """Its answer, or None where it waits for something else now."""
        self._forget()
        late = self._begun and time.monotonic() >= self._deadline
        self._begun = True
        try:
            wait = self._talk.throw(TimeoutError()) if late else next(self._talk)
        except StopIteration as end:
            answer: Answer = end.value
            return answer
        self._expect(wait)
        return None

    def _expect(self, wait: Wait) -> None:
        if wait.descriptor >= 0:
            self._selector.register(wait.descriptor, wait.events, self)
            self._registered = wait.descriptor
        self.due = self._deadline
        if wait.seconds is not None:
            self.due = min(self.due, time.monotonic() + wait.seconds)

    def _forget(self) -> None:
        if self._registered >= 0:
            self._selector.unregister(self._registered)
            self._registered = -1

    def end(self) -> None:
        """Lets go of everything."""
        self._forget()
        self._talk.close()
