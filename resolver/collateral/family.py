"""The processes that a step would end, and what they have open: one look at their descriptors."""

from __future__ import annotations

import os
import re
from functools import cached_property
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.gather import list_sockets
from resolver.gather.hints import ephemeral_ports
from resolver.gather.processes import described
from resolver.gather.sockets import silent_connections
from resolver.host.descriptors import PREFIX, open_files
from resolver.host.files import files_in, read, text_of
from resolver.host.identity import identified
from resolver.host.processes import descendants
from resolver.host.unix_sockets import UnixSocket, unix_sockets
from resolver.model import Pid, PortRequest, SocketState, Transport
from resolver.programs import untouchable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from resolver.model import Classification, Collateral, Process, ProcessIdentity, Socket

_MOST = 100  # processes below a holder that are looked at
_FIELD = re.compile(r"^([\w-]+):\s*(.*)$", re.MULTILINE)


class Descriptor(Struct, frozen=True):
    """One open file: its number, and what proc_pid_fd(5) says that it is."""

    pid: Pid
    number: int
    target: str

    @property
    def inode(self) -> int:
        """The inode of a socket; 0 for anything else."""
        return int(self.target[len(PREFIX) : -1]) if self.target.startswith(PREFIX) else 0

    def facts(self) -> dict[str, str]:
        """What proc_pid_fdinfo(5) says of it; of repeated keys, the last."""
        return dict(_FIELD.findall(text_of(f"/proc/{self.pid}/fdinfo/{self.number}")))

    @property
    def flags(self) -> int:
        """How it was opened (open(2)); 0 where that is hidden."""
        return int(self.facts().get("flags", "0"), 8)

    @property
    def writes(self) -> bool:
        """Whether it is open for writing."""
        return bool(self.flags & (os.O_WRONLY | os.O_RDWR))


class Group:
    """Processes that would end together, whatever port they are asked about.

    `below` has what descends from the members besides.
    """

    def __init__(self, members: tuple[Process, ...], sockets: Sockets) -> None:
        self.members = members
        self._sockets = sockets
        self.lost: dict[object, tuple[Collateral, ...]] = {}

    @cached_property
    def below(self) -> tuple[Process, ...]:
        """The living descendants of the members."""
        known = {process.identity for process in self.members}
        pids = sorted(below({process.pid for process in self.members}))[:_MOST]
        return described(set(identified(pids)) - known)

    @cached_property
    def descriptors(self) -> tuple[Descriptor, ...]:
        """What members have open, as far as this user may see it."""
        return tuple(each for process in self.members for each in _descriptors(process.pid))

    @cached_property
    def files(self) -> frozenset[str]:
        """The paths of those that are no sockets."""
        return frozenset(each.target for each in self.descriptors if not each.inode)

    @cached_property
    def inodes(self) -> frozenset[int]:
        """The sockets that they and their descendants have open."""
        more = (each for process in self.below for each in _descriptors(process.pid))
        return frozenset(each.inode for each in (*self.descriptors, *more)) - {0}

    @cached_property
    def paths(self) -> list[str]:
        """Where they and their descendants listen for unix sockets, sorted."""
        mine = (e for e in self._sockets.unix if e.listening and e.inode in self.inodes)
        return sorted({each.path for each in mine})

    @cached_property
    def serving(self) -> tuple[Socket, ...]:
        """The sockets by which they hold ports."""
        return tuple(filter(self.owns, self._sockets.serving))

    @cached_property
    def accepted(self) -> tuple[Socket, ...]:
        """The connections that they accepted on any of their ports."""
        ports = {each.binding.port for each in self.serving}
        requests = [PortRequest(port) for port in sorted(ports)]
        found = list_sockets(requests, connections=True) if requests else ()
        return tuple(e for e in found if e.state is SocketState.CONNECTED and self.owns(e))

    @cached_property
    def clients(self) -> tuple[Socket, ...]:
        """Those on which both ends have spoken: whoever only knocks is no client."""
        silent = silent_connections() if self.accepted else frozenset()
        return tuple(each for each in self.accepted if each.inode not in silent)

    def owns(self, entry: Socket) -> bool:
        """Whether a socket is theirs."""
        return entry.inode in self.inodes or any(
            each == owner.identity for each in entry.owners for owner in self.members
        )


class Sockets:
    """Every socket of this network namespace, listed when it is first asked for; and who has it."""

    def __init__(self) -> None:
        self._groups: dict[tuple[ProcessIdentity, ...], Group] = {}
        self._containers: dict[str, tuple[Collateral, ...]] = {}

    @cached_property
    def serving(self) -> tuple[Socket, ...]:
        """Those that hold a port, without connections."""
        return list_sockets(None)

    @cached_property
    def unix(self) -> tuple[UnixSocket, ...]:
        """Those of AF_UNIX that have a path."""
        return unix_sockets()

    def clients_at(self, path: str) -> int:
        """How many are connected to a unix socket."""
        return sum(each.connected and each.path == path for each in self.unix)

    def of_container(
        self, container_id: str, look: Callable[[], Iterable[Collateral]]
    ) -> tuple[Collateral, ...]:
        """What is lost with a container: looked for once, however many ports it publishes."""
        if container_id not in self._containers:
            self._containers[container_id] = tuple(look())
        return self._containers[container_id]

    def group(self, members: tuple[Process, ...]) -> Group:
        """What these processes have: looked at once, however many ports they hold."""
        key = tuple(process.identity for process in members)
        return self._groups.setdefault(key, Group(members, self))


class Family:
    """A classified holder with its processes.

    `members` own the port or start its owner again, but for those that no step ends (PID 1, which
    listens for a unit); `group` has what they have.
    """

    def __init__(self, classified: Classification, sockets: Sockets) -> None:
        self.holder = classified.holder
        self.sockets = sockets
        found = dict.fromkeys((*classified.respawners, *classified.holder.processes))
        self.group = sockets.group(tuple(each for each in found if not untouchable(each)))
        self.members = self.group.members

    def above(self, near: int) -> tuple[Process, ...]:
        """The nearest processes above the members: so many of each."""
        return described(each for one in self.members for each in one.ancestors[:near])

    def once(self, look: Callable[[Family], Iterable[Collateral]]) -> tuple[Collateral, ...]:
        """What is lost with these processes, on whatever port: looked for once."""
        if look not in self.group.lost:
            self.group.lost[look] = tuple(look(self))
        return self.group.lost[look]

    @cached_property
    def others(self) -> tuple[Socket, ...]:
        """The sockets by which they serve other ports; what a client sends from is none."""
        own = self.holder.binding
        ephemeral, _ = ephemeral_ports()
        return tuple(
            each
            for each in self.group.serving
            if each.state is not SocketState.BOUND
            and (each.binding.transport is Transport.TCP or each.binding.port not in ephemeral)
            and (each.binding.port, each.binding.transport) != (own.port, own.transport)
        )


def _descriptors(pid: Pid) -> Iterator[Descriptor]:
    return (Descriptor(pid, number, target) for number, target in open_files(pid))


def below(pids: set[Pid]) -> set[Pid]:
    """Their descendants: from the kernel's lists of children, where it has these."""
    found: set[Pid] = set()
    rest = list(pids)
    while rest and len(found) < _MOST:
        pid = rest.pop()
        children = _children(pid)
        if children is None:
            return set().union(*map(descendants, pids)) - pids
        rest += children - found
        found |= children
    return found - pids


def _children(pid: Pid) -> set[Pid] | None:
    """The children of all threads (proc_tid_children(5)); None where there is no such list."""
    found: set[Pid] = set()
    for thread in files_in(f"/proc/{pid}/task"):
        try:
            found.update(Pid(int(word)) for word in read(f"{thread}/children").split())
        except FileNotFoundError:
            return None
        except OSError:
            continue
    return found
