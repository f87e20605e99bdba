"""Root in another user's directory: what its project files say is read, said, and never run."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import ultra
from tests.lab.exporter import Serving
from tests.lab.ports import free_port
from tests.lab.processes import ROOT, unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.processes import Lab

pytestmark = pytest.mark.root
NOBODY = 65534
MARK = "root-only-hunter2"
RENAME_EXCHANGE = 2  # renameat2(2)
AT_FDCWD = -100
READER = """
import sys, time
from pathlib import Path
from resolver.errors import UsageError
from resolver.project.reading import read
read_once, until = 0, time.monotonic() + 3
while time.monotonic() < until:
    try:
        print(read(Path(sys.argv[1])))
        read_once += 1
    except UsageError:
        pass
print(f"read {read_once}")
"""


class Checkout:
    """A directory of nobody's with a project file whose health command would leave a file."""

    def __init__(self, root: Path, port: int) -> None:
        self.root, self.port = root / "checkout", port
        (self.root / ".git").mkdir(parents=True)
        self.file = self.root / "ultra-ports.toml"
        self.trace = root / "was-run"
        self.file.write_text(
            f'[services.api]\nport = {port}\nhealth = ["touch", "{self.trace}"]\n', encoding="utf-8"
        )
        self.give_away(self.root, self.file)

    @staticmethod
    def give_away(*paths: Path, uid: int = NOBODY) -> None:
        for path in paths:
            os.chown(path, uid, uid, follow_symlinks=False)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab: Lab) -> Checkout:
    if os.geteuid() != 0:
        unavailable("giving files away needs root")
    checkout = Checkout(tmp_path, free_port())
    monkeypatch.chdir(checkout.root)
    monkeypatch.delenv("SUDO_UID", raising=False)
    lab.start("answering", checkout.port)
    return checkout


def said(checkout: Checkout, why: str) -> str:
    return (
        f"ultra-ports: {why}: ports and names are read from {checkout.file.name}, "
        "and no command of it is run\n"
    )


@pytest.mark.parametrize("caller", ["", str(NOBODY)], ids=["root", "sudo"])
def test_a_health_command_is_not_run(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, caller: str
) -> None:
    """Not even that of the user who called sudo: it would be run with more rights than he has."""
    monkeypatch.setenv("SUDO_UID", caller)
    run = ultra("health", "--json", "--no-docker")

    [service] = run.json["services"]
    why = f"{checkout.file} belongs to nobody"
    assert (run.status, service["healthy"], service["level"]) == (1, None, "accepts")
    assert service["reason"] == f"not run: {why}"
    assert service["label"] == f"{checkout.port}/tcp"
    assert run.stderr == said(checkout, why)
    assert not checkout.trace.exists()


@pytest.mark.parametrize("whose", ["file", "directory", "above", "link", "group"])
def test_whoever_could_put_another_file_in_its_place(checkout: Checkout, whose: str) -> None:
    root, file = checkout.root, checkout.file
    checkout.give_away(root, file, uid=0)
    why = ""
    if whose == "above":
        inner = root / "inner"
        inner.mkdir()
        file.rename(inner / file.name)
        checkout.give_away(root)
        root, why = inner, f"{root} belongs to nobody"
    elif whose == "link":
        file.rename(root / "other")
        file.symlink_to("other")
        checkout.give_away(file, root / "other")
    elif whose == "group":
        os.chown(file, 0, NOBODY)
        file.chmod(0o664)
        why = f"group {NOBODY} may write to {file}"
    else:
        checkout.give_away(file if whose == "file" else root)
        why = "" if whose == "file" else f"{root} belongs to nobody"
    run = ultra("health", "--json", "--no-docker", cwd=root)

    [service] = run.json["services"]
    assert service["reason"] == f"not run: {why or f'{file} belongs to nobody'}"
    assert not checkout.trace.exists()


def test_what_is_all_roots_is_run(checkout: Checkout) -> None:
    checkout.give_away(checkout.root, checkout.file, uid=0)
    run = ultra("health", "--no-docker")
    assert (run.status, run.stderr) == (0, "")
    assert checkout.trace.exists()


def test_nobody_runs_his_own(lab: Lab, as_nobody: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own lets nobody but root in
        checkout = Checkout(Path(folder), free_port())
        checkout.give_away(checkout.trace.parent)
        lab.start("answering", checkout.port)
        quiet = {"ULTRA_PORTS_STATE": "/nonexistent"}
        run = ultra("health", "--no-docker", prefix=as_nobody, env=quiet, cwd=checkout.root)
        assert run.status == 0, run.stdout + run.stderr
        assert checkout.trace.stat().st_uid == NOBODY


def test_nor_while_waiting(checkout: Checkout) -> None:
    run = ultra("wait", "--no-docker", "api", "--until", "healthy", "--timeout", "1")
    assert run.status == 1
    assert said(checkout, f"{checkout.file} belongs to nobody") in run.stderr
    assert f"not run: {checkout.file} belongs to nobody" in run.stderr
    assert not checkout.trace.exists()


def test_nor_by_serve(checkout: Checkout) -> None:
    with Serving() as serving:
        assert serving.get("/healthz").status == 503
        assert serving.get("/metrics").status == 200
        assert serving.stderr == said(checkout, f"{checkout.file} belongs to nobody")
    assert not checkout.trace.exists()


@pytest.mark.parametrize(
    "command",
    [["who", "--no-docker", "api"], ["resolve", "--no-docker", "--dry-run", "api"], ["env", "api"]],
)
def test_its_ports_are_read_and_that_is_said(checkout: Checkout, command: list[str]) -> None:
    run = ultra(*command)
    assert str(checkout.port) in run.stdout
    assert said(checkout, f"{checkout.file} belongs to nobody") == run.stderr


def test_an_env_file_is_said_too(checkout: Checkout) -> None:
    env = checkout.root / ".env"
    env.write_text("API_PORT=4711\n")
    checkout.give_away(env)
    run = ultra("env", "api")
    assert run.stdout == "4711\n"
    assert "are read from ultra-ports.toml and .env, and" in run.stderr
    assert len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", [".env", "ultra-ports.toml", "pyproject.toml"])
def test_a_link_to_a_file_of_roots_is_not_read(
    checkout: Checkout, tmp_path: Path, name: str
) -> None:
    """What it leads to would be quoted in a message, which a CI job shows to everybody."""
    secret = tmp_path / "secret"
    secret.write_text(f"{MARK} =\n")
    secret.chmod(0o600)
    if name == "pyproject.toml":
        checkout.file.unlink()
    link = checkout.root / name
    link.unlink(missing_ok=True)
    link.symlink_to(secret)
    checkout.give_away(link)
    run = ultra("env", "api")
    assert (run.status, run.stdout) == (2, "")
    assert MARK not in run.stderr
    assert run.stderr.startswith(
        f"ultra-ports: {link} is a link of nobody, and leads to a file of root"
    )


def test_compose_files_are_said_too(checkout: Checkout) -> None:
    compose = checkout.root / "compose.yaml"
    compose.write_text(f'services: {{web: {{image: x, ports: ["{free_port()}:80"]}}}}\n')
    checkout.give_away(compose)
    run = ultra("preflight", "--no-docker")
    assert run.status == 0, run.stderr
    assert (
        f"ultra-ports: {compose} belongs to nobody: what compose.yaml says would be started "
        "with the rights of root\n"
    ) in run.stderr


@pytest.mark.parametrize("name", ["compose.yaml", ".env"])
def test_compose_is_not_led_to_a_file_of_roots(
    checkout: Checkout, tmp_path: Path, name: str
) -> None:
    """Compose would quote it in a message."""
    secret = tmp_path / "secret"
    secret.write_text(f"{MARK} x\n")
    secret.chmod(0o600)
    (checkout.root / "compose.yaml").write_text("services: {web: {image: x}}\n")
    link = checkout.root / name
    link.unlink(missing_ok=True)
    link.symlink_to(secret)
    checkout.give_away(link)
    run = ultra("preflight", "--no-docker")
    assert (run.status, run.stdout) == (2, "")
    assert MARK not in run.stderr
    assert "is a link of nobody, and leads to a file of root" in run.stderr


@pytest.fixture(params=["pipe", "link"])
def exchanged(request: pytest.FixtureRequest, checkout: Checkout) -> Iterator[Path]:
    """A file that is another thing every other moment: a pipe, or a link to what is root's."""
    other = checkout.root / "other"
    if request.param == "pipe":
        os.mkfifo(other)
    else:
        secret = checkout.root.parent / "secret"
        secret.write_text(MARK)
        secret.chmod(0o600)
        other.symlink_to(secret)
    checkout.give_away(other)
    script = (
        "import ctypes, sys; c = ctypes.CDLL(None); a, b = sys.argv[1].encode(), "
        f"sys.argv[2].encode()\nwhile not c.renameat2({AT_FDCWD}, a, {AT_FDCWD}, b, "
        f"{RENAME_EXCHANGE}): pass"
    )
    if not hasattr(ctypes.CDLL(None), "renameat2"):
        pytest.skip("this libc has no renameat2")
    with subprocess.Popen(
        [sys.executable, "-S", "-c", script, str(checkout.file), str(other)]
    ) as swapper:
        yield checkout.file
        assert swapper.poll() is None
        swapper.kill()


def test_what_changes_while_it_is_looked_at(exchanged: Path) -> None:
    """Nobody is waited for, and nothing is read that was not judged."""
    reader = subprocess.run(
        [sys.executable, "-c", READER, str(exchanged)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert MARK not in reader.stdout
    assert int(reader.stdout.split()[-1]) > 0
