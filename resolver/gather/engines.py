"""Which container engines there are to ask, and whether we run inside a container ourselves.

The chosen one comes first, by the docker command line's own order of precedence: DOCKER_HOST,
DOCKER_CONTEXT, the current context of its configuration, the default socket; then this user's
rootless socket. The others are those whose sockets exist here.
"""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from itertools import chain, pairwise

from resolver.host.files import files_in, text_of
from resolver.patterns import pattern
from resolver.programs import known_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.model import Process

DEFAULT_ENDPOINT = "unix:///var/run/docker.sock"
_ID_LENGTH = 64
_CONTAINER_ID = pattern(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
# Mounted into every container from the engine's folder for it (Docker and Podman alike)
_CONTAINER_FILES = pattern(r"containers/([0-9a-f]{64})/\S* /etc/(?:hostname|hosts|resolv\.conf) ")
# Where engines put their sockets: Docker ("Daemon socket option", "Rootless mode", "Docker
# Desktop"), podman-system-service(1), OrbStack and Colima by their own documentation
_SYSTEM_SOCKETS = ("/var/run/docker.sock", "/run/podman/podman.sock")
_USER_SOCKETS = ("docker.sock", "podman/podman.sock")  # below XDG_RUNTIME_DIR
_HOME_SOCKETS = (".docker/run/docker.sock", ".docker/desktop/docker.sock",
                 ".orbstack/run/docker.sock", ".colima/default/docker.sock")  # fmt: skip
_RUNTIME_DIRECTORIES = "/run/user"  # one for each user who is logged in


def endpoint() -> str:
    """The engine that the docker command line would talk to; else this user's rootless one."""
    chosen = _command_line_endpoint()
    rootless = f"{_runtime() or '/nonexistent'}/docker.sock"
    if chosen == DEFAULT_ENDPOINT and _socket(path_of(chosen) or "/") is None and _socket(rootless):
        return f"unix://{rootless}"
    return chosen


def endpoints(processes: Iterable[Process] = ()) -> tuple[str, ...]:
    """The chosen endpoint, which need not exist, then every other engine's socket that does.

    Two paths to one socket are one endpoint.

    Args:
        processes: what holds the ports, with all that is above it; a dockerd among them tells by
            its `--host` where it listens.
    """
    chosen = endpoint()
    found = {_socket(path_of(chosen) or "/") or (0, 0): chosen}
    for path in chain(daemon_sockets(processes), _SYSTEM_SOCKETS, _user_sockets()):
        if identity := _socket(path):
            found.setdefault(identity, f"unix://{path}")
    return tuple(found.values())


def client(endpoint: str) -> tuple[str, ...]:
    """How a command line begins that reaches this endpoint."""
    if endpoint == _command_line_endpoint():
        return ("docker",)
    if "podman" in endpoint.rpartition("/")[2]:
        return ("podman", "--url", endpoint)
    return ("docker", "-H", endpoint)


def _command_line_endpoint() -> str:
    return os.environ.get("DOCKER_HOST") or _context_host() or DEFAULT_ENDPOINT


def path_of(endpoint: str) -> str | None:
    """Where a unix endpoint's socket is; None for any other."""
    return endpoint.removeprefix("unix://") if endpoint.startswith("unix://") else None


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
    yield from (f"{_home()}/{name}" for name in _HOME_SOCKETS)


def daemon_sockets(processes: Iterable[Process]) -> Iterator[str]:
    """Where each dockerd listens (dockerd(8), `--host`), by a path that leads there from here."""
    for process in processes:
        if known_as(process, frozenset({"dockerd"})):
            for host in _hosts(process.command):
                path = path_of(DEFAULT_ENDPOINT if host == "fd://" else host)
                yield _seen_from_here(process, path or "/")


def _hosts(command: tuple[str, ...]) -> Iterator[str]:
    for word, following in pairwise((*command, "")):
        if word in {"-H", "--host"}:
            yield following
        elif word.startswith(("-H", "--host=")):
            yield word.removeprefix("--host=").removeprefix("-H").removeprefix("=")
    if not any(word.startswith(("-H", "--host")) for word in command):
        yield DEFAULT_ENDPOINT


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
    match = _CONTAINER_FILES.search(mountinfo) if "containers/" in mountinfo else None
    return match[1] if match else None


def container_id_in(text: str) -> str | None:
    """The container id in a cgroup path: 64 hexadecimal digits, whatever stands around them."""
    return next(iter(_ids(text)), None)


def _ids(text: str) -> list[str]:
    return _CONTAINER_ID.findall(text) if len(text) >= _ID_LENGTH else []


def in_container() -> bool:
    """Whether this process runs in a container: the engines leave these files in each."""
    return os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv")


def _context_host() -> str | None:
    """The endpoint of the chosen docker context; None for the default one."""
    folder = os.environ.get("DOCKER_CONFIG", f"{_home()}/.docker")
    name = os.environ.get("DOCKER_CONTEXT") or _field(f"{folder}/config.json", "currentContext")
    if not isinstance(name, str) or name in {"", "default"}:
        return None
    import hashlib  # noqa: PLC0415 - only where a context was chosen

    digest = hashlib.sha256(name.encode()).hexdigest()
    meta = f"{folder}/contexts/meta/{digest}/meta.json"
    host = _field(meta, "Endpoints", "docker", "Host")
    return host if isinstance(host, str) else None


def _field(path: str, *keys: str) -> object:
    """One value out of a JSON file; None where the file or the value is missing."""
    text = text_of(path)
    if not text:
        return None
    import json  # noqa: PLC0415 - only where there is a file

    try:
        value: object = json.loads(text)
    except ValueError:
        return None
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _home() -> str:
    """This user's home; nowhere for one who has none (no HOME, and a uid without a name)."""
    home = os.path.expanduser("~")
    return home.rstrip("/") if home.startswith("/") else "/nonexistent"


def _runtime() -> str:
    return os.environ.get("XDG_RUNTIME_DIR", "").rstrip("/")
