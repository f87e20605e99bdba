"""podman's command line: it tells of containers, and stops them, where no API socket is served.

It has the calls of `EngineClient` that stop a container, for one that was found this way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.errors import CommandFailedError, EngineError, StateChangedError
from resolver.settings import LONGEST_SECONDS

if TYPE_CHECKING:
    from resolver.model import Container
    from resolver.protocols import CommandRunner

NAME = "podman"
_GONE = ("no such container", "no such pod", "no container with", "no pod with")


class PodmanCommand:
    """The podman that runs one container, asked as that container's user.

    Args:
        container: one that podman's command line has told of.
        run: runs it.
        timeout_seconds: for each command, beside the container's grace.

    Every call raises:
        EngineError: podman could not be run, or refused.
        StateChangedError: there is no such container any more.
    """

    def __init__(self, container: Container, run: CommandRunner, timeout_seconds: float) -> None:
        self._account = container.account
        prefix = container.account.prefix if container.account else ()
        self._argv = container.client[len(prefix) :]
        self._run = run
        self._timeout = timeout_seconds

    def stop(self, container_id: str, seconds: int) -> None:
        """podman-stop(1), podman-pod-stop(1): the stop signal, and SIGKILL after `seconds`.

        A negative time means never.
        """
        patience = seconds if seconds >= 0 else LONGEST_SECONDS
        self._ask(("stop", "--time", str(seconds), container_id), patience)

    def exit_status(self, container_id: str) -> int | None:
        """What its main process ended with (podman-inspect(1)); None for a pod, which has many."""
        if self._argv[-1:] == ("pod",):
            return None
        said = self._ask(("inspect", "--format", "{{.State.ExitCode}}", container_id)).strip()
        return int(said) if said.isdecimal() else None

    def unpause(self, container_id: str) -> None:
        """podman-unpause(1)."""
        self._ask(("unpause", container_id))

    def close(self) -> None:
        """Nothing stays open."""

    def _ask(self, words: tuple[str, ...], extra_seconds: float = 0) -> str:
        limit = self._timeout + extra_seconds
        argv = (*self._argv, *words)
        try:
            answer = self._run(argv, timeout_seconds=limit, account=self._account, folder="/")
        except CommandFailedError as error:
            raise EngineError(str(error)) from error
        if answer.status:
            said = answer.stderr.strip().rpartition("\n")[2]
            if any(each in said for each in _GONE):
                raise StateChangedError(said)
            raise EngineError(said or f"{NAME} failed")
        return answer.stdout
