"""The recipes in examples/ that test nobody else's server: make, npm, pytest, Playwright."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab import npm
from tests.lab.processes import wait_until
from tests.lab.workspace import Workspace, got, tool

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.processes import Lab

pytestmark = pytest.mark.slow


@pytest.fixture
def shop(tmp_path: Path, lab: Lab) -> Workspace:
    return Workspace(tmp_path / "shop", lab)


def sibling(shop: Workspace, lab: Lab, port: int) -> Workspace:
    """Another checkout, with a server on a port of this one's."""
    other = Workspace(shop.folder.with_name("agent"), lab)
    words: tuple[str, ...]
    if port == shop.api:
        words = ("python", "-m", "uvicorn", "backend.app:app", "--port", str(port))
    else:
        words = ("env", f"PORT={port}", "node", "server.js")
    other.start(*words)
    wait_until(lambda: got(port), "the other one's server answers")
    return other


def names(output: str, port: int, other: Workspace) -> bool:
    """Whether the output says whose server it is, which is alive."""
    return got(port) in output and str(other.folder) in output


def test_make_tests_this_checkouts_server(shop: Workspace, lab: Lab) -> None:
    other = sibling(shop, lab, shop.api)

    done = shop.run(tool("make"), "test")

    assert done.status == 2
    assert "Error 1" in done.stderr
    assert names(done.stderr, shop.api, other)
    assert "test session starts" not in done.stdout
    lab.reap()

    shop.start(tool("make"), "dev")
    done = shop.run(tool("make"), "test")
    assert done.status == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_pytest_begins_no_test_against_a_siblings(shop: Workspace, lab: Lab) -> None:
    other = sibling(shop, lab, shop.api)

    done = shop.run("python", "-m", "pytest", "e2e")

    assert done.status == 1
    assert "no tests ran" in done.stdout
    assert names(done.stdout, shop.api, other)


def test_npm_smokes_this_checkouts_server(shop: Workspace, lab: Lab) -> None:
    other = sibling(shop, lab, shop.frontend)

    done = shop.run(tool("npm"), "run", "smoke")

    assert done.status == 1
    assert names(done.stdout, shop.frontend, other)
    assert got(shop.frontend) not in done.stdout.splitlines()
    lab.reap()

    shop.start(tool("npm"), "run", "dev")
    wait_until(lambda: got(shop.frontend), "the front end answers")
    done = shop.run(tool("npm"), "run", "smoke")
    assert done.status == 0, done.stdout + done.stderr
    assert got(shop.frontend) in done.stdout.splitlines()


# --- Playwright -----------------------------------------------------------------------------------


def playwright(shop: Workspace) -> tuple[int, str]:
    """Runs `npm test`; no browser is needed for what its test does."""
    program = npm.install("@playwright/test@1", "playwright")
    path = f"{program.parent}:{shop.env['PATH']}"
    quiet = {"CI": "1", "NO_COLOR": "1", "FORCE_COLOR": "0"}
    done = shop.run(tool("npm"), "test", PATH=path, NODE_PATH=str(program.parents[1]), **quiet)
    return done.status, done.stdout + done.stderr


def test_playwright_starts_a_server_and_ends_it(shop: Workspace) -> None:
    status, output = playwright(shop)
    assert status == 0, output
    assert "1 passed" in output
    wait_until(lambda: not got(shop.frontend), "its server has ended")


def test_playwright_reuses_this_checkouts_server(shop: Workspace) -> None:
    shop.start(tool("npm"), "run", "dev")
    wait_until(lambda: got(shop.frontend), "the front end answers")
    before = got(shop.frontend)

    status, output = playwright(shop)

    assert status == 0, output
    assert "1 passed" in output
    assert got(shop.frontend) == before


def test_playwright_tests_no_siblings_server(shop: Workspace, lab: Lab) -> None:
    other = sibling(shop, lab, shop.frontend)

    status, output = playwright(shop)

    assert status == 1, output
    assert "ultra-ports health --mine frontend" in output, output
    assert names(output, shop.frontend, other), output
    assert "passed" not in output
