"""The recipes in examples/: make, npm, pre-commit and CI jobs, with real programs in the way."""

from __future__ import annotations

import io
import json
import os
import tarfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import runner as runners
from tests.lab import workflows
from tests.lab.engine import LABEL, add_directories
from tests.lab.ports import free_port, is_free
from tests.lab.processes import ROOT, answered_by, wait_until
from tests.lab.shells import BIN
from tests.lab.supervisord import program, serving
from tests.lab.workspace import EXAMPLES, Workspace, got, tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.cli import Run
    from tests.lab.engine import Container, Engine
    from tests.lab.processes import Lab
    from tests.lab.runner import Runner
    from tests.lab.supervisord import Supervisor

pytestmark = pytest.mark.slow

WORKFLOW = EXAMPLES / ".github" / "workflows" / "ports.yml"
PIPELINE = EXAMPLES / ".gitlab-ci.yml"


@pytest.fixture
def shop(tmp_path: Path, lab: Lab) -> Workspace:
    return Workspace(tmp_path / "shop", lab)


@pytest.fixture
def composed(shop: Workspace, engine: Engine) -> Iterator[Workspace]:
    """The workspace with images of this machine; what compose started is taken down."""
    shop.borrow_images(engine)
    yield shop
    for name in (shop.project, f"shop-{shop.project}"):
        words = ("docker", "compose", "--project-name", name, "down", "--timeout", "1")
        done = shop.run(*words, "--remove-orphans")
        assert done.status == 0, done.stderr


@pytest.fixture
def supervised(shop: Workspace, supervisor: Supervisor) -> int:
    """The PID of a server that supervisord keeps on the API's port."""
    supervisor.start(program("web", serving(shop.api), "true"))
    wait_until(lambda: answered_by(shop.api), f"the supervised server answers on {shop.api}")
    return supervisor.program("web")


# --- make -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["command line", "environment"])
def test_make_dev_frees_the_port_and_serves(shop: Workspace, lab: Lab, where: str) -> None:
    port = free_port()
    stale, bystander = lab.start("answering", port), lab.start("answering", shop.api)
    words = [f"API_PORT={port}"] if where == "command line" else []
    env = {"API_PORT": str(port)} if where == "environment" else {}

    shop.start(tool("make"), "dev", *words, **env)

    wait_until(lambda: got(port), "the application answers")
    assert not stale.alive
    assert bystander.alive


def test_make_dev_serves_on_the_port_that_was_assigned(shop: Workspace, lab: Lab) -> None:
    holder = lab.start("answering", shop.api)
    told = shop.run("ultra-ports", "assign", "api", "--format", "json")
    assert told.status == 0, told.stderr

    shop.start("env", "-u", "API_PORT", tool("make"), "dev")

    asked = shop.run("env", "-u", "API_PORT", "ultra-ports", "env", "api")
    port = int(asked.stdout)
    assert port != shop.api
    wait_until(lambda: got(port), "the application answers")
    assert answered_by(shop.api) == holder.pid


def test_make_who_touches_nothing(shop: Workspace, lab: Lab) -> None:
    server = lab.start("answering", shop.api)

    done = shop.run(tool("make"), "who")

    assert done.status == 0, done.stderr
    assert str(server.pid) in done.stdout
    assert answered_by(shop.api) == server.pid


@pytest.mark.supervisord
def test_make_starts_nothing_where_the_port_cannot_be_freed(
    shop: Workspace, supervised: int
) -> None:
    for target in ("ports", "dev"):
        done = shop.run(tool("make"), target)
        assert done.status == 2  # make's own
        assert "Error 3" in done.stderr
        assert "uvicorn" not in done.stdout + done.stderr
        assert "supervisorctl" in done.stdout
    assert answered_by(shop.api) == supervised


@pytest.mark.engine
def test_make_up_and_down(composed: Workspace, lab: Lab) -> None:
    stale = lab.start("answering", composed.api)

    up = composed.run(tool("make"), "up")

    assert up.status == 0, up.stdout + up.stderr
    assert not stale.alive
    assert up.stdout.count("accepts connections") == 3
    down = composed.run(tool("make"), "down")
    assert down.status == 0, down.stderr
    assert is_free(composed.api)


# --- npm ------------------------------------------------------------------------------------------


def test_npm_run_dev_frees_the_port_and_serves(shop: Workspace, lab: Lab) -> None:
    stale, bystander = lab.start("answering", shop.frontend), lab.start("answering", shop.api)

    shop.start(tool("npm"), "run", "dev")

    wait_until(lambda: got(shop.frontend), "the front end answers")
    assert not stale.alive
    assert bystander.alive


@pytest.mark.supervisord
def test_npm_passes_the_status_on(shop: Workspace, supervised: int) -> None:
    done = shop.run(tool("npm"), "run", "dev", FRONTEND_PORT=str(shop.api))

    assert done.status == 3
    assert "supervisorctl" in done.stdout
    assert "node server.js" not in done.stdout
    assert answered_by(shop.api) == supervised


def test_npm_takes_another_port(shop: Workspace, lab: Lab) -> None:
    holder = lab.start("answering", shop.frontend)
    output = shop.folder / "said"

    shop.start("sh", "-c", f"exec {tool('npm')} run --silent dev:anywhere >{output}")

    wait_until(lambda: output.exists() and "port " in output.read_text(), "the server has a port")
    port = int(output.read_text().split()[-1])
    assert port != shop.frontend
    wait_until(lambda: got(port), "the front end answers there")
    assert answered_by(shop.frontend) == holder.pid
    listed = shop.run(tool("npm"), "run", "--silent", "ports")
    assert listed.status == 0, listed.stderr
    assert str(holder.pid) in listed.stdout


# --- pre-commit -----------------------------------------------------------------------------------


@pytest.fixture
def repository(composed: Workspace, tmp_path: Path) -> Workspace:
    """A git repository with the hooks installed, and another one to push to."""
    git(composed, "init", "--quiet", "--initial-branch=main")
    git(composed, "init", "--quiet", "--bare", str(tmp_path / "remote.git"))
    git(composed, "remote", "add", "origin", str(tmp_path / "remote.git"))
    git(composed, "add", ".pre-commit-config.yaml")
    done = composed.run(tool("pre-commit"), "install", **of_git(composed))
    assert done.status == 0, done.stdout + done.stderr
    assert "pre-push" in done.stdout
    return composed


def of_git(shop: Workspace) -> dict[str, str]:
    """Variables of a user of git whose own settings do not count."""
    who = {
        f"GIT_{role}_{what}": "ada@example.com"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    home = str(shop.folder.parent / "home")
    return {
        **who,
        "HOME": home,
        "GIT_CONFIG_NOSYSTEM": "1",
        "PRE_COMMIT_HOME": f"{home}/pre-commit",
    }


def git(shop: Workspace, *arguments: str) -> None:
    done = try_git(shop, *arguments)
    assert done.status == 0, done.stdout + done.stderr


def try_git(shop: Workspace, *arguments: str) -> Run:
    return shop.run(tool("git"), *arguments, **of_git(shop))


@pytest.mark.engine
def test_a_commit_and_a_push_wait_for_the_ports(repository: Workspace, lab: Lab) -> None:
    shop = repository
    holder = lab.start("answering", shop.api)
    git(shop, "add", "docker-compose.yml")

    refused = try_git(shop, "commit", "--message=ports")

    assert refused.status == 1, refused.stdout + refused.stderr
    assert "nothing is in the way of the compose project" in refused.stdout + refused.stderr
    assert "conflict: " in refused.stdout + refused.stderr
    git(shop, "reset", "--quiet", "docker-compose.yml")
    git(shop, "commit", "--message=no compose file")  # the hook is for that one alone
    pushed = try_git(shop, "push", "origin", "main")
    assert pushed.status == 1, pushed.stdout + pushed.stderr
    assert "the port that the tests serve on is free" in pushed.stdout + pushed.stderr
    assert answered_by(shop.api) == holder.pid

    lab.reap()

    git(shop, "add", "docker-compose.yml")
    git(shop, "commit", "--message=ports")
    git(shop, "push", "origin", "main")


# --- GitHub Actions -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `actions/setup-python` leaves behind: a Python of the job's own."""
    return workflows.python_environment(tmp_path_factory.mktemp("python"))


@pytest.fixture
def checkout(shop: Workspace) -> Workspace:
    """What `actions/checkout` leaves behind."""
    (shop.folder / "ultra-ports").symlink_to(ROOT)
    return shop


def job_of(name: str) -> dict[str, Any]:
    job: dict[str, Any] = workflows.load(WORKFLOW)["jobs"][name]
    return job


def of_runner(shop: Workspace, python: Path) -> dict[str, str]:
    kept = {name: text for name, text in shop.env.items() if name != "REDIS_PORT"}
    return {**kept, "PATH": f"{python}:{os.environ['PATH']}", "VIRTUAL_ENV": str(python.parent)}


def contexts(shop: Workspace) -> dict[str, str]:
    return {"job.services.redis.ports['6379']": str(shop.redis)}


def test_the_workflow_is_one() -> None:
    workflow = workflows.load(WORKFLOW)
    assert set(workflow) == {"name", "on", "jobs"}
    assert set(workflow["on"]) <= {"push", "pull_request"}
    for job in workflow["jobs"].values():
        assert set(job) <= {"runs-on", "services", "env", "steps"}
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert set(step) <= {"name", "run", "uses", "with", "env", "if"}


def test_the_job_with_a_service(checkout: Workspace, lab: Lab, python: Path) -> None:
    stale, service = lab.start("answering", checkout.api), lab.start("answering", checkout.redis)

    steps = workflows.run_github(
        job_of("test"), checkout.folder, of_runner(checkout, python), contexts(checkout)
    )

    assert [step.run.status for step in steps] == [0, 0, 0], steps
    assert (python / "ultra-ports").exists()
    assert not stale.alive
    assert "passed: GET /health was answered with 200" in steps[-1].run.stderr
    assert is_free(checkout.api)
    assert service.alive


@pytest.mark.supervisord
def test_the_job_that_cannot_free_its_port(
    checkout: Workspace, python: Path, supervised: int
) -> None:
    job = job_of("test")
    job["steps"] = [step for step in job["steps"] if step.get("name") != "Install"]

    steps = workflows.run_github(
        job, checkout.folder, installed(checkout, python), contexts(checkout)
    )

    assert [step.run.status for step in steps] == [3, 0], steps
    assert steps[-1].name == "Who has the ports"
    assert str(supervised) in steps[-1].run.stdout
    assert answered_by(checkout.api) == supervised


def compose_job() -> dict[str, Any]:
    """The job without its installation, which the other one shows."""
    job = job_of("compose")
    job["steps"] = [step for step in job["steps"] if "pip" not in step.get("run", "")]
    return job


def installed(shop: Workspace, python: Path) -> dict[str, str]:
    """The environment of a job that has `ultra-ports` already."""
    return {**of_runner(shop, python), "PATH": shop.env["PATH"]}


@pytest.mark.engine
@pytest.mark.usefixtures("composed")
def test_the_job_with_compose(checkout: Workspace, lab: Lab, python: Path) -> None:
    stale = lab.start("answering", checkout.api)

    steps = workflows.run_github(compose_job(), checkout.folder, installed(checkout, python), {})

    assert [step.run.status for step in steps] == [0, 0], steps
    assert steps[0].run.stdout.count("accepts connections") == 3
    assert not stale.alive
    assert is_free(checkout.api)


@pytest.mark.engine
@pytest.mark.supervisord
@pytest.mark.usefixtures("composed")
def test_the_job_with_compose_that_cannot_start(
    checkout: Workspace, python: Path, supervised: int
) -> None:
    steps = workflows.run_github(compose_job(), checkout.folder, installed(checkout, python), {})

    assert [step.run.status for step in steps] == [3, 0], steps  # the last one is always due
    assert "supervisorctl" in steps[0].run.stdout
    assert answered_by(checkout.api) == supervised


# --- GitLab CI ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image(local_engine: Engine) -> Iterator[str]:
    reference = runners.image(local_engine.marked())
    yield reference
    local_engine("rmi", "--force", reference)


@pytest.fixture
def runner(composed: Workspace, engine: Engine, image: str) -> Runner:
    """A container with the workspace, and with the engine's socket and nothing else of the host."""
    return runners.start(engine, image, f"--volume={composed.folder}:/builds/shop")


def pipeline() -> dict[str, Any]:
    found: dict[str, Any] = workflows.load(PIPELINE)
    return found


def in_job(name: str, part: str, runner: Runner, **variables: str) -> Run:
    enter = ("docker", "exec", "--workdir=/builds/shop", runner.container.name)
    given = {"PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin", "ULTRA_PORTS_STATE": "/run/state"}
    return workflows.run_gitlab(pipeline()[name], part, enter, {**given, **variables})


def stranger(engine: Engine, port: int) -> Container:
    """Another project's container, on a port that the job would like to have."""
    labels = {"project": f"other{port}", "service": "web"}
    options = [f"--label=com.docker.compose.{key}={text}" for key, text in labels.items()]
    web = engine.publish(f"{port}:80", options=["--stop-timeout=1", *options])
    web.wait_for(port)
    return web


def test_the_pipeline_is_one() -> None:
    found = pipeline()
    assert set(found.pop("default")) == {"image"}
    for name, job in found.items():
        assert name not in {"image", "services", "variables", "stages", "include", "cache"}
        assert set(job) <= {
            *("variables", "services", "tags", "resource_group", "script", "after_script"),
        }
        assert all(isinstance(line, str) for line in job["script"])


@pytest.mark.engine
def test_jobs_beside_each_other(composed: Workspace, engine: Engine, runner: Runner) -> None:
    other = stranger(engine, composed.api)
    job = {"CI_JOB_ID": composed.project}
    # The ports that the job would like are the project's own here: what the file says.
    text = (composed.folder / "ultra-ports.toml").read_text()
    for told, real in (
        ("8085", composed.api),
        ("3000", composed.frontend),
        ("6379", composed.redis),
    ):
        text = text.replace(told, str(real))
    (composed.folder / "ultra-ports.toml").write_text(text)

    done = in_job("compose-beside-others", "script", runner, **job)

    assert done.status == 0, done.stdout + done.stderr
    port = int(done.stdout.split()[-1].rpartition(":")[2])
    assert port != composed.api
    assert f"API_PORT={port}" in (composed.folder / ".env").read_text()
    wait_until(lambda: not is_free(port), "the project publishes its port")
    assert other.serves(composed.api)
    assert engine("ps", "-q", f"--filter=label=com.docker.compose.project=shop-{composed.project}")
    after = in_job("compose-beside-others", "after_script", runner, **job)
    assert after.status == 0, after.stderr
    assert is_free(port)
    assert other.serves(composed.api)


@pytest.mark.engine
def test_a_job_alone_on_its_runner(composed: Workspace, engine: Engine, runner: Runner) -> None:
    other, bystander = stranger(engine, composed.api), stranger(engine, free_port())
    variables = {**composed.ports, "COMPOSE_PROJECT_NAME": composed.project}

    done = in_job("compose-alone", "script", runner, **variables)

    assert done.status == 0, done.stdout + done.stderr
    assert done.stdout.split()[-1] == f"0.0.0.0:{composed.api}"
    assert other.state == "exited"
    assert bystander.state == "running"
    assert runner.container.state == "running"
    up = runner.ultra("up", "--file=/builds/shop/docker-compose.yml", **variables)
    assert up.status == 5, up.stdout + up.stderr  # it runs, and cannot be reached from here
    after = in_job("compose-alone", "after_script", runner, **variables)
    assert after.status == 0, after.stderr
    assert is_free(composed.api)


@pytest.mark.engine
def test_a_job_beside_services(composed: Workspace, runner: Runner) -> None:
    """REDIS_PORT is what a container link sets, which is how older runners join services."""
    folder = composed.folder / "tests"
    folder.mkdir()
    (folder / "test_it.py").write_text(
        "import os, socket, unittest\n"
        "class It(unittest.TestCase):\n"
        "    def test_it(self):\n"
        "        self.assertEqual(os.environ['API_PORT'], '8085')\n"
        "        socket.create_server(('127.0.0.1', 8085)).close()\n"
    )

    linked = {"REDIS_PORT": "tcp://172.17.0.3:6379"}
    done = in_job("beside-services", "script", runner, **linked)

    assert done.status == 0, done.stdout + done.stderr
    assert "Ran 1 test" in done.stderr


@pytest.mark.engine
def test_the_image_of_the_jobs(engine: Engine, tmp_path: Path) -> None:
    """Both bases are stand-ins: whether the real ones have the files there is not shown."""
    marks = [f"{LABEL}:{name}-{engine.mark}" for name in ("cli", "ci")]
    files = ("usr/local/bin/docker", "usr/local/libexec/docker/cli-plugins/docker-compose")
    with io.BytesIO() as stream:
        with tarfile.open(fileobj=stream, mode="w") as tar:
            add_directories(tar, "usr", "usr/local")
            for name in files:
                info = tarfile.TarInfo(name)
                info.mode = 0o755
                tar.addfile(info)
        engine("import", "-", marks[0], stdin=stream.getvalue())
    try:
        words = ("--build-arg", f"BASE={engine.image}", "--build-arg", f"DOCKER={marks[0]}")
        dockerfile = str(EXAMPLES / "Dockerfile.ci")
        engine("build", "--quiet", *words, "--tag", marks[1], "--file", dockerfile, str(tmp_path))
        for name in files:
            engine(
                "run",
                "--rm",
                f"--label={LABEL}={engine.mark}",
                marks[1],
                "busybox",
                "test",
                "-x",
                f"/{name}",
            )
        config = json.loads(engine("image", "inspect", marks[1]))[0]["Config"]
        assert not config["Entrypoint"]
    finally:
        for mark in marks[::-1]:
            with suppress(AssertionError):
                engine("rmi", "--force", mark)
