"""Which container engines there are to ask, and whether we run inside a container ourselves.

Order of precedence as in the docker command line: DOCKER_HOST, DOCKER_CONTEXT, the current context
of its configuration, the default socket; then this user's rootless socket.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

DEFAULT_ENDPOINT = "unix:///var/run/docker.sock"
_CONTAINER_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_CONTAINER_FILES = re.compile(r"/containers/([0-9a-f]{64})/")


def endpoint() -> str:
    """The engine that the docker command line would talk to."""
    if host := os.environ.get("DOCKER_HOST"):
        return host
    if (host := _context_host()) is not None:
        return host
    rootless = Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent")) / "docker.sock"
    default = Path(DEFAULT_ENDPOINT.removeprefix("unix://"))
    if not default.exists() and rootless.exists():
        return f"unix://{rootless}"
    return DEFAULT_ENDPOINT


def own_container_id() -> str | None:
    """The id of the container that this process runs in; None outside of one.

    cgroup v1 names it in /proc/self/cgroup; else /proc/self/mountinfo does, in the sources of the
    files that the engine mounts into every container (on a host it names everybody's).
    """
    if found := container_id_in(_read(Path("/proc/self/cgroup"))):
        return found
    mounts = _CONTAINER_FILES.search(_read(Path("/proc/self/mountinfo")))
    return mounts[1] if mounts and in_container() else None


def container_id_in(text: str) -> str | None:
    """The container id in a cgroup path: 64 hexadecimal digits, whatever stands around them."""
    match = _CONTAINER_ID.search(text)
    return match[0] if match else None


def in_container() -> bool:
    """Whether this process runs in a container: the engines leave these files in each."""
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def _context_host() -> str | None:
    """The endpoint of the chosen docker context; None for the default one."""
    folder = Path(os.environ.get("DOCKER_CONFIG", Path.home() / ".docker"))
    name = os.environ.get("DOCKER_CONTEXT") or _field(folder / "config.json", "currentContext")
    if not isinstance(name, str) or name in {"", "default"}:
        return None
    digest = hashlib.sha256(name.encode()).hexdigest()
    meta = folder / "contexts" / "meta" / digest / "meta.json"
    host = _field(meta, "Endpoints", "docker", "Host")
    return host if isinstance(host, str) else None


def _field(path: Path, *keys: str) -> object:
    """One value out of a JSON file; None where the file or the value is missing."""
    try:
        value: object = json.loads(_read(path) or "{}")
    except ValueError:
        return None
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
