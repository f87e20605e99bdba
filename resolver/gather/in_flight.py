"""Sockets that are in no process's table of descriptors: on their way, or given to the kernel.

A descriptor that was sent over a Unix socket belongs to nobody until it is taken (unix(7),
SCM_RIGHTS); proc_pid_fdinfo(5) counts them as `scm_fds`. io_uring_register(2) keeps files that
their process has closed; fdinfo of the ring lists them. Looked for only where nobody has a socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.host.descriptors import PREFIX, open_files
from resolver.host.files import field_words, text_of
from resolver.host.processes import name_of, pids

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from resolver.model import Pid

_RING = "anon_inode:[io_uring]"
_MOST = 3  # processes that are named


def keepers(inodes: Collection[int]) -> str:
    """Who may keep any of these sockets without having it open; empty for nobody.

    A ring says which socket it has; of a Unix socket only how many descriptors wait in it.
    """
    wanted = {f"{PREFIX}{inode}]" for inode in inodes}
    found = list(_found(wanted))
    exact = [text for text, sure in found if sure]
    return ", or ".join(dict.fromkeys(exact or [text for text, _ in found][:_MOST]))


def _found(wanted: Collection[str]) -> Iterator[tuple[str, bool]]:
    for pid in pids():
        for number, target in open_files(pid):
            if target == _RING:
                facts = text_of(f"/proc/{pid}/fdinfo/{number}")
                if any(each in facts for each in wanted):
                    yield f"{name_of(pid)} {pid} has registered it with io_uring", True
            elif target.startswith(PREFIX) and _waiting(pid, number):
                yield f"it waits in a Unix socket of {name_of(pid)} {pid}, not yet taken", False


def _waiting(pid: Pid, number: int) -> bool:
    return field_words(f"/proc/{pid}/fdinfo/{number}", "scm_fds") not in ([], ["0"])
