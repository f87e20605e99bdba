"""Who holds a port that cannot be bound, and whether that is the project's own server."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from resolver import api

if TYPE_CHECKING:
    from resolver.model import Classification, Container, PortReport, PortRequest, Process

WORKING_DIR_LABEL = "com.docker.compose.project.working_dir"


class Whose(StrEnum):
    """Whether a holder belongs to a project."""

    OURS = "ours"
    FOREIGN = "foreign"
    UNKNOWN = "unknown"


class Holders:
    """Answers for a project, looked up once for each port, and only where somebody asks."""

    def __init__(self, place: str, *, use_docker: bool = True) -> None:
        self._place = place
        self._use_docker = use_docker
        self._reports: dict[PortRequest, PortReport] = {}

    def whose(self, request: PortRequest) -> Whose:
        """Whether the project's own server holds the port; of several holders, the worst.

        A working directory or a compose project inside of the root speaks for the project. One in
        quite another place speaks against it; a directory above the root, such as `/`, where
        daemons live, says nothing, and neither does a container that compose did not start.
        """
        found = [_judge(each, self._place) for each in self._holders(request)]
        for verdict in (Whose.FOREIGN, Whose.UNKNOWN):
            if verdict in found:
                return verdict
        return Whose.OURS if found else Whose.UNKNOWN

    def names(self, request: PortRequest) -> str:
        """The holders in a few words, such as `node 4711`; "" where none is seen."""
        return ", ".join(dict.fromkeys(_name(each) for each in self._holders(request)))

    def _holders(self, request: PortRequest) -> tuple[Classification, ...]:
        if request not in self._reports:
            answer = api.who(str(request), use_docker=self._use_docker)
            self._reports[request] = answer.ports[0]
        return tuple(each.classification for each in self._reports[request].holders)


def _judge(found: Classification, place: str) -> Whose:
    holder = found.holder
    if holder.container is not None:
        return _by_folder(_compose_folder(holder.container), place)
    verdicts = {_by_folder(process.cwd, place) for process in holder.processes}
    if Whose.OURS in verdicts:
        return Whose.OURS
    return Whose.FOREIGN if verdicts == {Whose.FOREIGN} else Whose.UNKNOWN


def _compose_folder(container: Container) -> str | None:
    return container.label(WORKING_DIR_LABEL)


def _by_folder(folder: str | None, place: str) -> Whose:
    if not folder or not place:
        return Whose.UNKNOWN
    there, root = Path(folder), Path(place)
    if there.is_relative_to(root):
        return Whose.OURS
    return Whose.UNKNOWN if root.is_relative_to(there) else Whose.FOREIGN


def _name(found: Classification) -> str:
    holder = found.holder
    if holder.container is not None:
        return f"container {holder.container.name}"
    if holder.master is not None:
        return _process(holder.master, found)
    if holder.redirect is not None:
        return f"a NAT rule to {holder.redirect.target}"
    if holder.cgroup:
        return f"a process of {holder.cgroup}"
    return f"somebody: {holder.hidden}" if holder.hidden else "the kernel"


def _process(process: Process, found: Classification) -> str:
    return f"{process} ({found.manager.name})" if found.manager else str(process)
