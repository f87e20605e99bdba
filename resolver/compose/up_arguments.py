"""PURE: what the arguments for `docker compose up` mean for the ports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

# docker compose up --help, compose 2.26 to 2.40: options that take a value
_WITH_VALUE = {
    *("--attach", "--exit-code-from", "--no-attach", "--pull", "--scale", "--timeout", "-t"),
    *("--wait-timeout",),
}
# With these, nothing is started, or compose stays in the foreground
_UNFIT = {
    *("--no-start", "--dry-run", "--watch", "-w", "--menu", "--abort-on-container-exit"),
    *("--abort-on-container-failure", "--exit-code-from", "--attach", "--attach-dependencies"),
}


class UpArguments(Struct, frozen=True):
    """The services that are named, the scale that is asked for, and what becomes of orphans.

    No services: all of them. `alone`: without the services that they depend on.
    """

    services: tuple[str, ...] = ()
    scale: tuple[tuple[str, int], ...] = ()
    removes_orphans: bool = False
    alone: bool = False


EVERYTHING = UpArguments()


def parse(arguments: Sequence[str]) -> UpArguments:
    """What is in the arguments.

    Raises:
        UsageError: an option with which compose would not start the project in the background.
    """
    services: list[str] = []
    scale: dict[str, int] = {}
    words = iter(arguments)
    for word in words:
        name, equals, given = word.partition("=") if word.startswith("-") else ("", "", "")
        if name in _UNFIT:
            raise UsageError(f"{name} does not go with `ultra-ports up`, which starts and returns")
        if name in _WITH_VALUE and not equals:
            given = next(words, "")
        if name == "--scale":
            service, count = _scaled(given)
            scale[service] = count
        if not name:
            services.append(word)
    return UpArguments(
        tuple(dict.fromkeys(services)),
        tuple(scale.items()),
        "--remove-orphans" in arguments,
        "--no-deps" in arguments,
    )


def _scaled(text: str) -> tuple[str, int]:
    service, _, count = text.partition("=")
    if not service or not (count.isascii() and count.isdecimal()):
        raise UsageError(f"--scale {text!a}: SERVICE=NUMBER is wanted")
    return service, int(count)
