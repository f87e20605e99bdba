"""`assign` for whole checkouts: ports, compose project and derived values, in their files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dotenv import dotenv_values

from resolver.project.derived import Derived
from tests.lab import npm
from tests.lab.cli import COMMAND, ultra
from tests.lab.engine import LABEL, SERVE
from tests.lab.ports import free_range
from tests.lab.processes import ROOT, unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.checkouts import Checkouts
    from tests.lab.cli import Run
    from tests.lab.engine import Engine
    from tests.lab.processes import Lab

pytestmark = pytest.mark.slow
EXAMPLES = ROOT / "examples"
DOCKER = shutil.which("docker") or "docker"
VALUES = """
env_files = [".env", "web/.env.local"]

[export]
API_URL = "http://{api.host}:{api.port}/v1"
CORS_ORIGINS = ["http://localhost:{web.port}", "{web.url}"]
WEB_JSON = '["{web.url}", {{"price": "$5 # each"}}]'
STACK = "{checkout}"
"""


class Worktrees:
    """A repository with a project file and three worktrees; two of them have one name."""

    def __init__(self, checkouts: Checkouts, first: int) -> None:
        self.main, self.checkouts, self.first = checkouts.main, checkouts, first
        services = f"[services]\napi = {first}\nweb = {first + 1}\n"
        pool = f'project = "shop"\npool = "{first + 2}-{first + 9}"\n'
        (self.main / "ultra-ports.toml").write_text(pool + VALUES + services, encoding="utf-8")
        (self.main / "web").mkdir()
        (self.main / "web" / ".env.local").write_text("MINE=1\n", encoding="utf-8")
        checkouts.commit()
        beside = self.main.parent
        self.fix, self.same = beside / "a" / "fix", beside / "b" / "fix"
        for number, each in enumerate((self.fix, self.same)):
            checkouts.add(each, f"branch{number}")

    def run(self, place: Path, *words: str) -> Run:
        run = ultra(*words, cwd=place)
        assert run.status == 0, run.stdout + run.stderr
        return run


@pytest.fixture
def trees(checkouts: Checkouts, monkeypatch: pytest.MonkeyPatch) -> Worktrees:
    for name in ("API_PORT", "WEB_PORT", "COMPOSE_PROJECT_NAME"):
        monkeypatch.delenv(name, raising=False)
    return Worktrees(checkouts, free_range(10))


def test_each_checkout_gets_ports_names_and_values_in_all_its_files(trees: Worktrees) -> None:
    names, ports = set(), set()
    for place in (trees.main, trees.fix, trees.same):
        told = json.loads(trees.run(place, "assign", "--format", "json").stdout)
        assert told["env_files"] == [str(place / ".env"), str(place / "web" / ".env.local")]
        found = dotenv_values(place / ".env")
        api, web = found["API_PORT"], found["WEB_PORT"]
        for file in told["env_files"]:
            assert found.items() <= dotenv_values(file).items()
        assert found["API_URL"] == f"http://127.0.0.1:{api}/v1"
        assert found["CORS_ORIGINS"] == f"http://localhost:{web},http://127.0.0.1:{web}"
        assert json.loads(str(found["WEB_JSON"]))[1] == {"price": "$5 # each"}
        assert told["exports"].items() <= found.items()
        assert (place / "web" / ".env.local").read_text().startswith("MINE=1\n")
        assert found.get("COMPOSE_PROJECT_NAME") in {None, found["STACK"]}
        assert ("COMPOSE_PROJECT_NAME" in found) == (place != trees.main)
        names.add(found["STACK"])
        ports |= {api, web}
    assert len(names) == 3
    assert all(str(name).startswith("shop-") for name in names)
    assert len(ports) == 6


def test_shells_take_the_file_as_it_is(trees: Worktrees) -> None:
    told = json.loads(trees.run(trees.fix, "assign", "--format", "json").stdout)["exports"]
    printed = 'printf "%s\\n" "$API_URL" "$CORS_ORIGINS" "$WEB_JSON" "$STACK"'
    for source in (". ./.env", f'eval "$({COMMAND} assign -q --format shell)"'):
        script = f"{source}; {printed}"
        done = subprocess.run(
            ["/bin/sh", "-ec", script], cwd=trees.fix, capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines() == [
            told[name] for name in ("API_URL", "CORS_ORIGINS", "WEB_JSON", "STACK")
        ]


def test_a_call_that_names_services_renews_what_depends_on_them(trees: Worktrees) -> None:
    trees.run(trees.fix, "assign")
    before = dotenv_values(trees.fix / ".env")
    file = trees.fix / "ultra-ports.toml"
    file.write_text(file.read_text().replace("/v1", "/v2").replace("[export]", "[export]\nX='1'"))

    run = trees.run(trees.fix, "assign", "api")

    after = dotenv_values(trees.fix / ".env")
    assert after == {**before, "API_URL": f"http://127.0.0.1:{before['API_PORT']}/v2"}
    assert list(before) == list(after)
    assert "CORS_ORIGINS" not in run.stdout


def test_what_runs_and_what_asks_has_them_too(trees: Worktrees) -> None:
    trees.run(trees.fix, "assign")
    url = dotenv_values(trees.fix / ".env")["API_URL"]
    assert trees.run(trees.fix, "env", "API_URL").stdout == f"{url}\n"
    assert trees.run(trees.fix, "env", "COMPOSE_PROJECT_NAME").stdout.startswith("shop-fix-")
    words = ("run", "-p", "api", "--", "sh", "-c", 'echo "$API_PORT $API_URL $CORS_ORIGINS"')
    port, api, *more = trees.run(trees.fix, *words).stdout.split()
    assert (api, more) == (f"http://127.0.0.1:{port}/v1", [])


def test_a_dry_run_and_files_that_are_named_leave_the_others_alone(trees: Worktrees) -> None:
    run = trees.run(trees.fix, "assign", "-n")
    assert f"{trees.fix}/web/.env.local would get API_PORT" in run.stderr
    assert not (trees.fix / ".env").exists()
    trees.run(trees.fix, "assign", "--env-file", "one", "--env-file", "two")
    assert (trees.fix / "one").read_text() == (trees.fix / "two").read_text()
    assert not (trees.fix / ".env").exists()


def test_a_link_that_leads_out_of_the_project_is_not_written(trees: Worktrees) -> None:
    outside = trees.main.parent / "profile"
    outside.write_text("x\n", encoding="utf-8")
    (trees.fix / ".env").symlink_to(outside)

    run = ultra("assign", cwd=trees.fix)

    assert (run.status, run.stdout) == (2, "")
    assert f"env_files: expected a file below {trees.fix}, and '.env' leads to {outside}" in (
        run.stderr
    )
    assert outside.read_text() == "x\n"
    assert ultra("reservations", "--json").json["reservations"] == []


@pytest.mark.parametrize("name", ["loop/.env", "none/.env", "web"])
def test_a_file_that_cannot_be_written_is_found_out_first(trees: Worktrees, name: str) -> None:
    (trees.fix / "loop").symlink_to("loop")
    file = trees.fix / "ultra-ports.toml"
    file.write_text(file.read_text().replace("web/.env.local", name))

    run = ultra("assign", cwd=trees.fix)

    assert (run.status, run.stdout) == (2, "")
    assert name.partition("/")[0] in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert not (trees.fix / ".env").exists()
    assert ultra("reservations", "--json").json["reservations"] == []


@pytest.mark.root
def test_a_strangers_variables_are_not_obeyed(trees: Worktrees) -> None:
    """`LD_PRELOAD` would say what root runs."""
    if os.geteuid() != 0:
        unavailable("giving files away needs root")
    file = trees.fix / "ultra-ports.toml"
    os.chown(file, 65534, 65534)

    run = trees.run(trees.fix, "run", "-p", "api", "--", "sh", "-c", 'echo "$API_URL"')

    assert not run.stdout.endswith("/v1\n")
    assert f"export and env_files of {file} are left out: {file} belongs to nobody" in run.stderr


def test_an_ipv6_address_stands_in_brackets() -> None:
    values = {"api.host": "[::1]", "api.port": "1"}
    assert Derived("U", "http://{api.host}:{api.port}/{{x}}").filled(values) == "http://[::1]:1/{x}"


@pytest.mark.engine
def test_compose_runs_beside_itself(trees: Worktrees, composed: tuple[Path, Path]) -> None:
    """Its file says a name of its own, which all checkouts would have."""
    projects = set()
    for place in composed:
        trees.run(place, "assign")
        compose(place, "up", "--detach")
    for place in composed:
        listed = json.loads(f"[{','.join(compose(place, 'ps', '--format=json').splitlines())}]")
        (container,) = listed
        projects.add(container["Project"])
        (published,) = {each["PublishedPort"] for each in container["Publishers"]}
        assert str(published) == dotenv_values(place / ".env")["API_PORT"]
        who = trees.run(place, "who", "--json", str(published)).json["ports"][0]["holders"]
        assert {each["ownership"]["whose"] for each in who} == {"mine"}
    assert len(projects) == 2
    assert any(name.startswith("shop-fix-") for name in projects)


@pytest.fixture
def composed(trees: Worktrees, engine: Engine) -> Iterator[tuple[Path, Path]]:
    """The first worktree, and another one."""
    service = {
        "image": engine.image,
        "command": ["sh", "-c", SERVE.replace("$", "$$")],
        "environment": {"NAME": "api", "LISTEN": "80", "URL": "${API_URL}"},
        "ports": ["${API_PORT}:80"],
        "labels": {LABEL: engine.mark},
        "network_mode": "bridge",
        "stop_grace_period": "1s",
    }
    places = (trees.main, trees.fix)
    for place in places:
        (place / "compose.yaml").write_text(
            json.dumps({"name": f"lab{engine.mark[:8]}", "services": {"api": service}}),
            encoding="utf-8",
        )
    yield places
    for place in places:
        compose(place, "down", "--timeout=1")


def compose(place: Path, *words: str) -> str:
    done = subprocess.run(
        [DOCKER, "compose", *words], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- when a worktree is removed -------------------------------------------------------------------


def with_path() -> dict[str, str]:
    """The environment of who has `ultra-ports` in PATH."""
    return {**os.environ, "PATH": f"{Path(COMMAND).parent}:{os.environ['PATH']}"}


def reserved(trees: Worktrees) -> set[str]:
    """The places that have reserved something."""
    found = trees.run(trees.main, "reservations", "--json").json["reservations"]
    return {each["place"] for each in found}


def test_what_a_worktree_had_is_released_before_it_is_removed(trees: Worktrees) -> None:
    for place in (trees.main, trees.fix, trees.same):
        trees.run(place, "assign")

    run = trees.run(trees.main, "release", "--place", "../a/fix", "--json")

    assert {each["place"] for each in run.json["reservations"]} == {str(trees.fix)}
    assert reserved(trees) == {str(trees.main), str(trees.same)}
    trees.run(trees.main, "release", "--place", str(trees.same.parent))
    assert reserved(trees) == {str(trees.main)}


def test_what_deleted_worktrees_had_is_released_and_nobody_elses(
    trees: Worktrees, lab: Lab
) -> None:
    for place in (trees.main, trees.fix, trees.same):
        trees.run(place, "assign")
    served = trees.main.parent / "served"
    trees.checkouts.add(served, "served")
    server = lab.command(COMMAND, "run", "-p", "api", "--", "/bin/sleep", "600", cwd=served)
    wait_until(lambda: str(served) in reserved(trees), "it has its lease")
    for place in (trees.fix, served):
        trees.checkouts.remove(place)
    trees.same.parent.rename(trees.same.parent.with_name("moved"))

    run = trees.run(trees.main, "release", "--stale")

    assert reserved(trees) == {str(trees.main), str(served)}
    assert f"by process {server.pid}, which ends with that process, and stays so" in run.stderr
    again = trees.run(trees.main, "release", "--stale", "--json", "--force")
    assert {each["place"] for each in again.json["reservations"]} == {str(served)}


def test_the_alias_of_the_page_releases_and_removes(trees: Worktrees) -> None:
    page = (ROOT / "docs" / "many-checkouts.md").read_text(encoding="utf-8")
    (alias,) = re.findall(r"git config alias\.done '(.+)'", page)
    for place in (trees.main, trees.fix):
        trees.run(place, "assign")
    git = "/usr/bin/git"  # which removes no worktree with changes that it does not ignore
    (trees.main / ".git" / "info" / "exclude").write_text(".env\n", encoding="utf-8")
    subprocess.run([git, "checkout", "-q", "."], cwd=trees.fix, check=True)
    argv = [git, "-c", f"alias.done={alias}", "done", "../a/fix"]
    subprocess.run(argv, cwd=trees.main, env=with_path(), check=True)
    assert reserved(trees) == {str(trees.main)}
    assert not trees.fix.exists()


def test_a_hook_of_git_does_both(trees: Worktrees) -> None:
    hook = trees.main / ".git" / "hooks" / "post-checkout"
    shutil.copy(EXAMPLES / "git" / "post-checkout", hook)
    trees.run(trees.fix, "assign")
    trees.checkouts.remove(trees.fix)
    new = trees.main.parent / "new"

    trees.checkouts.add(new, "other", with_path())

    assert reserved(trees) == {str(new)}
    assert dotenv_values(new / "web" / ".env.local")["COMPOSE_PROJECT_NAME"]
    event = json.dumps({"worktree_path": str(new)})
    script = str(EXAMPLES / "agents" / "worktree-removed")
    subprocess.run([script], input=event, text=True, check=True, env=with_path())
    assert reserved(trees) == set()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--place", ".", "api"], "one of NAME or PORT, --all, --place and --stale is wanted"),
        (["--stale", "--all"], "one of NAME or PORT, --all, --place and --stale is wanted"),
        (["--place", "loop"], "'loop' cannot be looked at"),
    ],
)
def test_bad_input_of_release(trees: Worktrees, words: list[str], said: str) -> None:
    (trees.main / "loop").symlink_to("loop")
    trees.run(trees.main, "assign")
    run = ultra("release", *words, cwd=trees.main)
    if run.status == 0 and "loop" in words:  # since Python 3.13 a loop is a path like others
        said = ""
    assert said in run.stderr
    assert reserved(trees) == {str(trees.main)}


# --- what enters a checkout -----------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["direnv", "mise"])
def test_who_enters_a_checkout_has_its_ports(trees: Worktrees, tool: str, tmp_path: Path) -> None:
    env = {
        **with_path(),
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path),
        "MISE_TRUSTED_CONFIG_PATHS": str(tmp_path),
    }
    if tool == "mise":
        program = str(npm.install("@jdxcode/mise", "mise"))
    else:
        program = shutil.which("direnv") or unavailable("direnv is missing")
    found = []
    for place in (trees.main, trees.fix):
        for name in (".envrc", "mise.toml", "ports.sh"):
            shutil.copy(EXAMPLES / name, place / name)
        words = {"direnv": ["exec", "."], "mise": ["exec", "--"]}[tool]
        if tool == "direnv":
            subprocess.run([program, "allow"], cwd=place, env=env, check=True)
        argv = [program, *words, "sh", "-c", 'echo "$API_URL" "$COMPOSE_PROJECT_NAME"']
        done = subprocess.run(argv, cwd=place, env=env, capture_output=True, text=True, check=True)
        url, *rest = done.stdout.split()
        assert url == dotenv_values(place / ".env")["API_URL"]
        assert bool(rest) == (place == trees.fix)
        found.append(url)
    assert len(set(found)) == 2
