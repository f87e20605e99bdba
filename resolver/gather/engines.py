"""Which container engines there are to ask, and whether we run inside a container ourselves.

The chosen one comes first, by the docker command line's own order of precedence: DOCKER_HOST,
DOCKER_CONTEXT, the current context of its configuration, the default socket; then this user's
rootless socket. The others are those whose sockets exist here. What was not chosen is asked only
where this user or root listens; for root also a user's own engine in that user's directory, which
may explain that user's ports only.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.host import docker_config
from resolver.host.docker_config import DEFAULT_ENDPOINT, home
from resolver.host.engine_client import socket_path
from resolver.host.files import files_in, status_words, text_of
from resolver.host.peer import listener, owner_uid
from resolver.model import EngineState
from resolver.programs import known_as, options

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.model import Process

_ID_LENGTH = 64
_CONTAINER_ID = r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])"
# Mounted into every container from the engine's folder for it (Docker and Podman alike)
_CONTAINER_FILES = r"containers/([0-9a-f]{64})/\S* /etc/(?:hostname|hosts|resolv\.conf) "
# Where engines put their sockets: Docker ("Daemon socket option", "Rootless mode", "Docker
# Desktop"), podman-system-service(1), OrbStack and Colima by their own documentation
_SYSTEM_SOCKETS = ("/var/run/docker.sock", "/run/podman/podman.sock")
_USER_SOCKETS = ("docker.sock", "podman/podman.sock")  # below XDG_RUNTIME_DIR
_HOME_SOCKETS = (".docker/run/docker.sock", ".docker/desktop/docker.sock",
                 ".orbstack/run/docker.sock", ".colima/default/docker.sock")  # fmt: skip
_RUNTIME_DIRECTORIES = "/run/user"  # one for each user who is logged in (pam_systemd(8))
_RUNTIME_DIRECTORY = r"(?:/var)?/run/user/(\d{1,10})(?:/|\Z)"
_AT_ONCE = 0.0  # seconds: an engine that is too busy to be connected to says nothing of itself


def known_engines(processes: Iterable[Process] = ()) -> tuple[EngineState, ...]:
    """The chosen engine, which need not exist, then every other one whose socket does.

    Two paths to one socket are one engine. One that is not to be asked, since somebody else
    listens, says so in its `error`.

    Args:
        processes: what holds the ports, with all that is above it; a dockerd among them tells by
            its `--host` where it listens.
    """
    first = chosen_engine()
    found = {_socket(socket_path(first.endpoint) or "/") or (0, 0): first}
    for path in chain(daemon_sockets(processes), _SYSTEM_SOCKETS, _user_sockets()):
        identity = _socket(path)
        if identity and identity not in found:
            there = f"unix://{path}"
            found[identity] = _judged(EngineState(there, chosen=False, client=client(there)), path)
    return tuple(found.values())


def chosen_engine() -> EngineState:
    """The engine that the docker command line would talk to; else this user's rootless one.

    Whether it is there is not known.
    """
    chosen = docker_config.command_line_engine()
    if chosen.error:
        return EngineState(chosen.endpoint, chosen.error, asked=False)
    endpoint, rootless = chosen.endpoint, f"unix://{_runtime() or '/nonexistent'}/docker.sock"
    path = socket_path(endpoint)
    if endpoint == DEFAULT_ENDPOINT and not _socket(path or "/") and _is_believed(rootless):
        endpoint, path = rootless, socket_path(rootless)
    state = EngineState(endpoint, client=client(endpoint))
    return _judged(state, path) if path else state


def _is_believed(rootless: str) -> bool:
    """Whether this user's own engine is there, and counts for more than that user's ports."""
    path = socket_path(rootless) or "/"
    if not _socket(path):
        return False
    found = _judged(EngineState(rootless, chosen=False), path)
    return not (found.error or found.foreign) or _is_neighbour(path)


def _judged(state: EngineState, path: str) -> EngineState:
    """The engine with the user who listens at its socket, and whether it may be asked."""
    uid = listener(path, _AT_ONCE).uid
    whose, euid = _owner_of_directory(path), os.geteuid()
    ours = whose in {None, euid}
    if state.chosen and (ours or _is_neighbour(path)):
        return replace(state, uid=uid)
    uid = owner_uid(path) if uid is None else uid
    if uid is None:
        return replace(state, error=f"there is no engine at {path}", absent=True)
    if uid in {0, euid} if ours else (euid == 0 and uid == whose):
        return replace(state, uid=uid, foreign=not ours)
    where = "" if ours else f", in the directory of user {whose}"
    error = f"{state.endpoint} was not asked: user {uid} listens there{where}"
    return replace(state, uid=uid, error=error, forbidden=True, asked=False)


def _is_neighbour(path: str) -> bool:
    """Whether the listener is in another PID namespace: beside the container that we run in.

    Uids may be mapped there, and whoever started us has let its socket in.
    """
    return listener(path, _AT_ONCE).pid == 0


def _owner_of_directory(path: str) -> int | None:
    """The user in whose runtime directory a path is or leads; None where it is nobody's."""
    for each in (os.path.normpath(path), os.path.realpath(path)):
        below = f"{_RUNTIME_DIRECTORIES}/" in each  # mostly not: the pattern is not even compiled
        if below and (found := re.match(_RUNTIME_DIRECTORY, each)):
            return int(found[1])
    return None


def client(endpoint: str) -> tuple[str, ...]:
    """How a command line begins that reaches this endpoint."""
    if endpoint == docker_config.command_line_engine().endpoint:
        return ("docker",)
    if "podman" in endpoint.rpartition("/")[2]:
        return ("podman", "--url", endpoint)
    return ("docker", "-H", endpoint)


def _socket(path: str) -> tuple[int, int] | None:
    """What a socket's file is known by, whatever its path; None where it is no socket."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISSOCK(found.st_mode) else None


def _user_sockets() -> Iterator[str]:
    """This user's, and for root everybody's."""
    runtime = _runtime()
    folders = [runtime] if runtime else []
    if os.geteuid() == 0:
        folders += files_in(_RUNTIME_DIRECTORIES)
    yield from (f"{folder}/{name}" for folder in folders for name in _USER_SOCKETS)
    yield from (f"{home()}/{name}" for name in _HOME_SOCKETS)


def daemon_sockets(processes: Iterable[Process]) -> Iterator[str]:
    """Where each dockerd listens (dockerd(8), `--host`), by a path that leads there from here.

    Anybody can call a process so: only root's and this user's count.
    """
    for process in processes:
        if known_as(process, frozenset({"dockerd"})) and _is_trusted(process):
            for host in list(options(process.command, "-H", "--host")) or [DEFAULT_ENDPOINT]:
                path = socket_path(DEFAULT_ENDPOINT if host == "fd://" else host)
                yield _seen_from_here(process, path or "/")


def _is_trusted(process: Process) -> bool:
    """Whether a process is wholly root's, or wholly this user's: by its real, effective, saved uid.

    A program that changes its user is somebody else's in part (credentials(7)).
    """
    uids = {process.uid}
    if sys.platform == "linux":
        uids = set(map(int, status_words(process.pid, "Uid")))
    return uids in ({0}, {os.geteuid()})


def _seen_from_here(process: Process, path: str) -> str:
    """A path of another process, which may live in another root directory (a container's)."""
    root = f"/proc/{process.pid}/root"
    try:
        return path if os.path.samefile(root, "/") else f"{root}/{path.lstrip('/')}"
    except OSError:
        return path


@lru_cache(maxsize=1)  # a process stays where it is, and there are as many mounts as containers
def own_container_id() -> str | None:
    """The id of the container that this process runs in; None outside of one.

    cgroup v1 names it in /proc/self/cgroup; else /proc/self/mountinfo does, in the sources of the
    files that the engine mounts into every container (on a host it names everybody's).
    """
    lines = text_of("/proc/self/cgroup").splitlines()
    if found := [each for line in lines for each in _ids(line)]:
        return found[-1]  # the innermost
    return mounted_container_id(text_of("/proc/self/mountinfo")) if in_container() else None


def mounted_container_id(mountinfo: str) -> str | None:
    """The container whose files are mounted over those of its root (proc_pid_mountinfo(5))."""
    match = re.search(_CONTAINER_FILES, mountinfo) if "containers/" in mountinfo else None
    return match[1] if match else None


def container_id_in(text: str) -> str | None:
    """The container id in a cgroup path: 64 hexadecimal digits, whatever stands around them."""
    return next(iter(_ids(text)), None)


def _ids(text: str) -> list[str]:
    return re.findall(_CONTAINER_ID, text) if len(text) >= _ID_LENGTH else []


def in_container() -> bool:
    """Whether this process runs in a container: the engines leave these files in each."""
    return os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv")


def _runtime() -> str:
    return os.environ.get("XDG_RUNTIME_DIR", "").rstrip("/")
