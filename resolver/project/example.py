"""The text of `.env.example`: the ports of a project, and the variables that this package reads.

The ports are those of the project file, or the standard ones, whatever variables are set: the text
is the same on every machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.project.load import standard
from resolver.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.project.file import Contents
    from resolver.project.model import Probe, Service

_PURPOSES = {
    "api": "the API server",
    "frontend": "the front end",
    "redis": "Redis",
    "modelrunner": "the model runner",
}


def example(contents: Contents | None) -> str:
    """An environment file with every port of the project; `contents` None: the standard ports."""
    return "\n".join((*_head(contents), *_ports(contents), *_settings(), ""))


def _head(contents: Contents | None) -> Iterator[str]:
    source = contents.path.name if contents else "the standard ports"
    yield f"# Made by `ultra-ports env --example` from {source}."
    yield "# Copy it to .env, and change what you need. A variable that is set in the environment"
    yield "# goes before .env, and .env goes before the project file."
    yield ""


def _ports(contents: Contents | None) -> Iterator[str]:
    for entry in contents.services if contents else standard():
        yield f"# {', '.join(_facts(entry, contents))}"
        yield f"{entry.variable}={entry.request.port}"
        yield ""
    for each in contents.exports if contents else ():
        yield f"# {each.name} is made by `ultra-ports assign`: {each.text}"
        yield ""


def _facts(entry: Service, contents: Contents | None) -> Iterator[str]:
    purpose = "" if contents else f" ({_PURPOSES[entry.name]})"
    yield f"{entry.name}{purpose}: {entry.request}"
    if entry.health:
        yield f"health: {_probe(entry.health)}"
    for name, ports in sorted(contents.environments.items()) if contents else ():
        if entry.name in ports:
            yield f"{name}: {ports[entry.name]}"


def _probe(probe: Probe) -> str:
    if probe.kind == "command":
        return ascii(list(probe.command))
    if probe.kind in {"http", "https"}:
        return f"{probe.kind} {probe.path}"
    return probe.kind


def _settings() -> Iterator[str]:
    yield "# The rest is read from the environment alone, not from .env: export what you need."
    for name, setting in SETTINGS.items():
        yield from ("", f"# {setting.description}", f"#{name}={setting.example}")
    yield "\n# the container engine, as for the docker command line"
    yield "#DOCKER_HOST=unix:///var/run/docker.sock"
