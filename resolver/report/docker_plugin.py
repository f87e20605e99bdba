"""What there is of the plug-in of the Docker CLI, as lines and as JSON. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from resolver.json_text import Envelope

if TYPE_CHECKING:
    from collections.abc import Iterator

Action = Literal["install", "remove", "status"]


class PluginEnvelope(Envelope, frozen=True, kw_only=True, tag="ultra-ports.docker-plugin/1"):
    """The answer of `docker-plugin`: what is there in the end.

    `target` is None where there is no link; `hooks` are those that docker's configuration has for
    this plug-in, and with `switched_off` docker calls nobody's.
    """

    command: str = "docker-plugin"
    action: Action
    exit_status: int
    plugin: str
    target: str | None
    runs: bool
    config: str
    hooks: dict[str, str]
    switched_off: bool


def lines(found: PluginEnvelope, *, exists: bool) -> Iterator[str]:
    """The link and where it leads, and whether docker calls the hook.

    Args:
        found: what there is.
        exists: whether there is anything in the link's place.
    """
    about = "`docker ports 8085` says who holds a port" if found.runs else "it cannot be run"
    absent = "is no link of ours" if exists else "is not there"
    yield f"{found.plugin} {f'leads to {found.target}: {about}' if found.target else absent}"
    if found.switched_off:
        yield f"docker's hooks are switched off (features.hooks in {found.config})"
    elif found.hooks:
        said = "; ".join(f"{name}: {value}" for name, value in found.hooks.items())
        yield f"docker says who is in the way ({said} in {found.config})"
    else:
        yield f"docker does not say who is in the way (install --hooks adds that to {found.config})"
