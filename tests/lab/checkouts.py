"""A repository with two worktrees, and servers of each."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

from tests.lab.cli import COMMAND, ultra

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.cli import Run
    from tests.lab.processes import Lab, Server


class Checkouts:
    """A repository with a second worktree; the tests stand in the second."""

    def __init__(self, folder: Path, port: int, lab: Lab) -> None:
        self.main, self.other, self.port, self._lab = folder / "shop", folder / "agent", port, lab
        self.main.mkdir()
        self._git("init", "-q", "-b", "trunk")
        (self.main / "ultra-ports.toml").write_text(
            f'project = "shop"\n[services]\napi = {port}\n', encoding="utf-8"
        )
        self.commit()
        self.add(self.other, "fix")

    def commit(self) -> None:
        """Commits what is in the first worktree."""
        self._git("add", ".")
        self._git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "more")

    def add(self, place: Path, branch: str, env: dict[str, str] | None = None) -> None:
        """Makes another worktree."""
        self._git("worktree", "add", "-q", "-b", branch, str(place), env=env)

    def remove(self, place: Path) -> None:
        """Removes a worktree with what is in it."""
        self._git("worktree", "remove", "--force", str(place))

    def _git(self, *words: str, env: dict[str, str] | None = None) -> None:
        argv = ["/usr/bin/git", *words]
        subprocess.run(argv, cwd=self.main, env=env, check=True, capture_output=True)

    def serve(self, place: Path, port: int = 0, *, leased: bool = False) -> Server:
        """A server whose working directory is `place`, under a lease where that is wanted."""
        number = port or self.port
        run = (COMMAND, "run", "-p", f"api:{number}", "--") if leased else ()
        return self._lab.start("answering", number, prefix=("env", "-C", str(place), *run))

    def ultra(self, *words: str, **variables: str) -> Run:
        """The command, in the second worktree."""
        return ultra(*words, cwd=self.other, env=variables)

    def ownership(self, port: int = 0) -> dict[str, Any]:
        """Whose the first holder is, as JSON has it."""
        run = self.ultra("who", "--no-docker", "--json", str(port or self.port))
        found: dict[str, Any] = run.json["ports"][0]["holders"][0]["ownership"]
        return found
