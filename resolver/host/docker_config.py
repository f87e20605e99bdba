"""Docker's own configuration, read only where its author is this user or root.

`sudo -E` and `su` may leave another user's HOME: what is written there says nothing for root, and a
FIFO of that name would never end.

The SDK is not asked which context is chosen (`docker.context`, up to 7.2): where there is no
config.json it looks for contexts in the working directory, be that a stranger's (docker-py's issues
2622 and 3190), it asks the default engine instead of one that is not there, it opens whatever it
finds, and it takes longer to load than everything else that a command does. The certificates of a
context are its business (`engine_sdk`).
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

from msgspec import Struct, field

from resolver.host.trust import trusted_users
from resolver.json_text import JsonError, decode

DEFAULT_ENDPOINT = "unix:///var/run/docker.sock"
_LARGEST = 1 << 20  # bytes of a file
_LONGEST_NAME = 60  # characters that are shown
_PLUGINS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)


class _CliConfig(Struct):
    """`config.json`, as far as it is of interest here."""

    current: str | None = field(name="currentContext", default=None)


class _PluginFolders(Struct):
    """The same file, of plug-ins."""

    more: tuple[str, ...] | None = field(name="cliPluginsExtraDirs", default=None)


class _ContextEndpoint(Struct, rename="pascal"):
    host: str = ""
    skip_verify: bool = field(name="SkipTLSVerify", default=False)


class _ContextEndpoints(Struct):
    docker: _ContextEndpoint


class _ContextMeta(Struct, rename="pascal"):
    """`meta.json` of a context (cli/context/store of docker/cli)."""

    endpoints: _ContextEndpoints


class CommandLineEngine(Struct, frozen=True):
    """The engine that the docker command line talks to.

    `error` says why there is none: a context that is missing or damaged, in whose place docker asks
    no other engine either; `endpoint` names it then. `tls_folder` is where a context's certificates
    are, if it has any.
    """

    endpoint: str = DEFAULT_ENDPOINT
    error: str = ""
    tls_folder: str = ""
    skip_verify: bool = False


def command_line_engine() -> CommandLineEngine:
    """By docker's own order of precedence: DOCKER_HOST, DOCKER_CONTEXT, the current context."""
    if host := os.environ.get("DOCKER_HOST"):
        return CommandLineEngine(host)
    config = f"{folder()}/config.json"
    by_variable = os.environ.get("DOCKER_CONTEXT")
    name = by_variable or _current_context(config)
    if name in {"", "default"}:
        return CommandLineEngine()
    return _of_context(name, "DOCKER_CONTEXT" if by_variable else config)


def _current_context(config: str) -> str:
    """Empty where none is chosen; as for docker, also where its configuration is damaged."""
    try:
        return decode(_text_of(config), _CliConfig).current or ""
    except JsonError:
        return ""


def _of_context(name: str, chosen_by: str) -> CommandLineEngine:
    contexts = f"{folder()}/contexts"
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    meta = f"{contexts}/meta/{digest}/meta.json"
    shown = name[:_LONGEST_NAME]
    try:
        found = decode(_text_of(meta), _ContextMeta).endpoints.docker
    except JsonError as error:
        if not os.path.lexists(meta):
            why = f"there is no such context ({chosen_by} names it, `docker context ls` lists them)"
        elif not is_ours(meta):
            why = f"{meta} is no file of this user's or root's"
        else:
            why = f"{meta} is damaged: {error}"
        return CommandLineEngine(f"context {shown}", f"docker context {shown!a}: {why}")
    host = found.host or DEFAULT_ENDPOINT
    return CommandLineEngine(host, "", f"{contexts}/tls/{digest}/docker", found.skip_verify)


def has_plugin(name: str) -> bool:
    """Whether there is a plug-in where the Docker CLI looks for it (cli-plugins/manager of it).

    A package may have taught its own CLI another place, which is not seen.
    """
    more: tuple[str, ...] = ()
    with suppress(JsonError):
        more = decode(_text_of(f"{folder()}/config.json"), _PluginFolders).more or ()
    places = (*more, folder() / "cli-plugins", *_PLUGINS)
    return any(os.path.lexists(f"{place}/docker-{name}") for place in places)


def folder() -> Path:
    """Where the Docker CLI keeps this user's configuration, contexts and plug-ins."""
    return Path(os.environ.get("DOCKER_CONFIG") or f"{home()}/.docker").absolute()


def home() -> str:
    """This user's home; nowhere for one who has none (no HOME, and a uid without a name)."""
    found = os.path.expanduser("~")
    return found.rstrip("/") if found.startswith("/") else "/nonexistent"


def is_ours(file: str | int) -> bool:
    """Whether a file, by its path or descriptor, is this user's or root's, and `is_plain`."""
    return _owner(file) in trusted_users()


def is_plain(path: str) -> bool:
    """Whether a file can be read to its end, whoever wrote it."""
    return _owner(path) is not None


def _owner(file: str | int) -> int | None:
    """Whose a regular file of a bounded length is; None for anything else."""
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None
    return found.st_uid if stat.S_ISREG(found.st_mode) and found.st_size <= _LARGEST else None


def _text_of(path: str) -> str:
    """The text of a file of ours; empty where there is none.

    It is looked at before it is opened, since opening alone can have effects, and afterwards, since
    it may be another one by then.
    """
    if not is_ours(path):
        return ""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY), "rb") as file:
            found = file.read(_LARGEST + 1) if is_ours(file.fileno()) else b""
    except (OSError, ValueError):
        return ""
    return found.decode(errors="replace") if len(found) <= _LARGEST else ""
