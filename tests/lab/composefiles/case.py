"""One project of the corpus: its files, and how compose is called."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

COMPOSE = "compose.yaml"
OVERRIDE = "compose.override.yaml"


@dataclass(frozen=True, slots=True)
class Case:
    """A small project. `files` maps paths to texts; `where` is the directory of the call.

    `ours_only` says why our reader takes what the plug-in refuses, and `theirs_only` the reverse:
    what differs on purpose.
    """

    name: str
    files: dict[str, str]
    arguments: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)
    where: str = "."
    ours_only: str = ""
    theirs_only: str = ""

    def write(self, folder: Path) -> Path:
        """Writes the files into a directory `shop`; returns where compose is called."""
        root = folder / "shop"
        for path, text in self.files.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return (root / self.where).resolve()


def service(*ports: str, name: str = "web", more: str = "") -> str:
    """A compose file with one service, its ports as YAML has them, and `more` lines of it."""
    entries = "".join(f"      - {port}\n" for port in ports)
    listed = f"    ports:\n{entries}" if ports else ""
    return f"services:\n  {name}:\n    image: x\n{listed}{more}"


def services(**bodies: str) -> str:
    """A compose file with these services, each a mapping in YAML's flow style."""
    return "services:\n" + "".join(f"  {name}: {body}\n" for name, body in bodies.items())


def one_each(entries: Iterable[str]) -> str:
    """A compose file with a service for each entry."""
    return "services:\n" + "".join(
        f"  s{number}:\n    image: x\n    ports:\n      - {entry}\n"
        for number, entry in enumerate(entries)
    )


def ports(*entries: str) -> Case:
    """A project whose one service has these ports; the case is named after them."""
    return Case(" ".join(entries), {COMPOSE: service(*entries)})
