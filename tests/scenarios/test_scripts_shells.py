"""clear_port and kill_api_ports in the shells that users have: they leave the shell as it was."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resolver.cli.shell import SOURCE
from tests.lab.cli import ultra
from tests.lab.ports import free_port
from tests.lab.processes import ROOT, stays, unavailable
from tests.lab.shells import SCRIPTS, SHELLS, run, shell

if TYPE_CHECKING:
    from tests.lab.processes import Lab

pytestmark = pytest.mark.slow

FAST = "--settle 0.3 --grace 2"
STRICT = "set -eu; if (set -o pipefail) 2>/dev/null; then set -o pipefail; fi"
# What brings the functions into a shell; they are one text in both
SOURCED = f". {SCRIPTS}/clear_port.sh"
WAYS = {
    "sourced": SOURCED,
    "shell-init": 'eval "$(ultra-ports shell-init)"',
}
RECORD = "{ set; set +o; set -o; trap; alias; pwd; umask; ulimit -a; }"
CHANGING = re.compile(
    r"(_|LINENO|RANDOM|SRANDOM|SECONDS|EPOCH\w+|BASH_\w+|BASHPID|PIPESTATUS|FUNCNAME|TTYIDLE|PPID"
    r"|pipestatus|status|\?|\W|_comp\w*|ZSH_EVAL_CONTEXT|zsh_eval_context|ZSH_SUBSHELL|!|__hist\w*)="
)


@pytest.fixture(params=SHELLS)
def sh(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Each shell."""
    return shell(request.param)


@pytest.fixture(params=WAYS)
def defined(request: pytest.FixtureRequest) -> str:
    """The line that brings the functions into a shell, in each way."""
    return WAYS[request.param]


def unchanged(path: Path) -> list[str]:
    """What a shell says of itself, without what changes by the minute."""
    return [line for line in path.read_text().splitlines() if not CHANGING.match(line)]


@pytest.mark.parametrize(("options", "strict"), [("-c", STRICT), ("-ic", "")])
def test_a_port_is_freed_and_the_shell_is_as_it_was(
    sh: tuple[str, ...], defined: str, strict: str, options: str, lab: Lab, tmp_path: Path
) -> None:
    port = free_port()
    lab.start("answering", port)
    script = f"""
    {defined}
    {strict}
    mine='a b'; IFS=:; cd {tmp_path}
    trap 'echo trapped' USR1; trap 'echo left' EXIT
    {RECORD} >before 2>&1
    clear_port {FAST} {port} >said 2>&1
    {RECORD} >after 2>&1
    echo went on with "$mine"
    """
    done = run(*sh, options, script)

    assert done.stdout.splitlines()[-2:] == ["went on with a b", "left"], done.stderr
    assert done.status == 0
    assert lab.frees(port)
    assert "freed" in (tmp_path / "said").read_text()
    before, after = unchanged(tmp_path / "before"), unchanged(tmp_path / "after")
    assert len(before) > 20
    assert after == before


def test_a_failure_is_the_functions_status_and_no_exit(sh: tuple[str, ...]) -> None:
    script = f"""
    {SOURCED}
    clear_port nonsense; echo "first $?"
    clear_port; echo "second $?"
    clear_port -h; echo "third $?"
    kill_api_ports --help; echo "fourth $?"
    if clear_port 0; then echo wrong; else echo "fifth $?"; fi
    """
    done = run(*sh, "-c", script)

    assert done.stdout == "first 2\nsecond 2\nthird 0\nfourth 0\nfifth 2\n"
    assert "usage: clear_port [OPTIONS] PORT..." in done.stderr
    assert "usage: kill_api_ports [OPTIONS] [PORT...]" in done.stderr


def test_a_failure_ends_a_script_that_wants_that(sh: tuple[str, ...]) -> None:
    done = run(*sh, "-c", f"{SOURCED}\n{STRICT}\nclear_port nonsense\necho wrong")

    assert (done.status, done.stdout) == (2, "")


def test_what_is_held_by_the_caller_is_refused(sh: tuple[str, ...]) -> None:
    """The shell's parent holds the port: never ended, and the status is that of ultra-ports."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        done = run(*sh, "-c", f"{SOURCED}\nclear_port {FAST} {port}; echo $?")

    assert done.stdout.splitlines()[-1] == "3"
    assert f"{port}/tcp still held" in done.stdout
    assert "started this command" in done.stdout


@pytest.mark.parametrize(
    ("words", "variables", "wanted"),
    [
        ("", {}, "8085/tcp"),
        ("-n", {}, "8085/tcp"),
        ("--grace 2", {}, "8085/tcp"),
        ("", {"API_PORT": "PORT"}, "PORT/tcp"),
        ("--settle 0.2 -n", {"API_PORT": "PORT"}, "PORT/tcp"),
        ("PORT", {"API_PORT": "1"}, "PORT/tcp"),
        ("--grace 2 PORT", {"API_PORT": "1"}, "PORT/tcp"),
        ("--project shop", {}, "go with --compose"),
        ("--stale --project shop", {"API_PORT": "1"}, "go with --compose"),
        ("", {"API_PORT": "tcp://10.0.0.1:80"}, "8085/tcp"),
        ("", {"API_PORT": "8085x"}, "API_PORT in the environment is '8085x'"),
    ],
)
def test_kill_api_ports_has_a_default(
    words: str, variables: dict[str, str], wanted: str, tmp_path: Path
) -> None:
    """What is at 8085 on this machine is nobody's business: nothing is done here."""
    port = str(free_port())
    (tmp_path / ".git").mkdir()
    variables = {name: value.replace("PORT", port) for name, value in variables.items()}
    called = f"{SOURCED}\nkill_api_ports -n {words.replace('PORT', port)}"

    for name in ("dash", "zsh"):
        done = run(*shell(name), "-c", called, cwd=tmp_path, env=variables)
        assert wanted.replace("PORT", port, 1 if wanted[0] == "P" else 0) in (
            done.stdout + done.stderr
        )


def test_kill_api_ports_asks_the_project(sh: tuple[str, ...], tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "ultra-ports.toml").write_text(f"services.api = {port}")

    done = run(*sh, str(SCRIPTS / "kill_api_ports.sh"), cwd=tmp_path)

    assert done.status == 0, done.stderr
    assert f"{port}/tcp" in done.stdout


@pytest.mark.parametrize("name", ["bash", "zsh", "dash"])
def test_aliases_of_the_caller_do_not_break_it(name: str, defined: str, tmp_path: Path) -> None:
    """An interactive shell replaces aliases; those in the way are the functions' own names."""
    port = free_port()
    script = tmp_path / "interactive"
    bad = "clear_port kill_api_ports echo exec exit set command eval unalias ultra-ports resolve"
    aliases = "\n".join(f"alias {word}='printf ALIAS:%s'" for word in bad.split())
    defined = defined.replace("eval", "\\eval").replace(
        "(ultra", "(\\ultra"
    )  # the caller's own line
    script.write_text(f"{aliases}\n{defined}\nclear_port {FAST} {port} >said\nclear_port\n")

    expand = ("-O", "expand_aliases") if name == "bash" else ()
    done = run(*shell(name), *expand, str(script), cwd=tmp_path)

    assert "free" in (tmp_path / "said").read_text(), done.stderr
    assert "usage: clear_port" in done.stderr
    assert "ALIAS" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "options",
    [
        *("ksh_arrays", "err_exit", "err_return", "no_unset", "glob_subst", "sh_word_split"),
        *("csh_null_glob", "extended_glob", "warn_create_global", "posix_builtins"),
        *("no_function_argzero", "interactive_comments", "no_aliases"),
    ],
)
def test_options_of_zsh_do_not_break_it(options: str) -> None:
    script = f"setopt {options}\n{WAYS['shell-init']}\nclear_port -n {free_port()}"

    done = run(*shell("zsh"), "-c", script)

    assert (done.status, done.stderr) == (0, "")
    assert "/tcp free" in done.stdout


@pytest.mark.parametrize("options", ["-x", "-C", "-f", "-k", "-T", "-E", "-u", "-e"])
def test_options_of_bash_do_not_break_it(options: str) -> None:
    script = f"set {options}\n{WAYS['sourced']}\nclear_port -n {free_port()}"

    done = run(*shell("bash"), "-c", script)

    assert done.status == 0, done.stderr
    assert "/tcp free" in done.stdout


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """A search path with the usual tools, and no `ultra-ports`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "dirname", "readlink", "grep", "sed", "date", "python3", "env"):
        (folder / tool).symlink_to(shutil.which(tool) or unavailable(f"{tool} is missing"))
    return str(folder)


def test_where_it_is_not_installed_a_line_says_how(sh: tuple[str, ...], bare: str) -> None:
    path = shutil.which(sh[0]) or sh[0]
    script = f". {SCRIPTS}/clear_port.sh\nclear_port 8085; echo $?"
    done = run(path, *sh[1:], "-c", script, env={"PATH": bare})

    assert done.stdout == "127\n"
    assert done.stderr.count("\n") == 1
    assert "pipx install" in done.stderr


@pytest.mark.parametrize("name", sorted(path.name for path in SCRIPTS.glob("*.sh")))
def test_no_script_does_anything_where_it_is_not_installed(name: str, bare: str) -> None:
    if name == "serving.sh":
        return  # sourced by the others
    done = run(str(SCRIPTS / name), "8085", env={"PATH": bare})

    assert (done.status, done.stdout) == (127, "")
    assert done.stderr.count("\n") == 1
    assert "ultra-ports is not installed" in done.stderr
    assert "pipx install" in done.stderr


@pytest.mark.parametrize("name", sorted(path.name for path in SCRIPTS.glob("*.sh")))
def test_every_script_says_its_usage(name: str, bare: str) -> None:
    if name == "serving.sh":
        return
    done = run(str(SCRIPTS / name), "-h", env={"PATH": bare})

    said = done.stdout + done.stderr
    assert done.status == 0
    assert re.search(rf"(usage: |scripts/){name.removesuffix('.sh')}", said), said
    assert "#!" not in said


def test_the_script_frees_a_port(sh: tuple[str, ...], lab: Lab) -> None:
    port, other = free_port(), free_port()
    lab.start("answering", port)
    bystander = lab.start("answering", other)

    done = run(*sh, str(SCRIPTS / "clear_port.sh"), *FAST.split(), str(port))

    assert done.status == 0, done.stderr
    assert f"{port}/tcp freed" in done.stdout
    assert lab.frees(port, bystander)
    assert bystander.alive


def test_the_script_works_under_another_name(tmp_path: Path, lab: Lab) -> None:
    """A link in ~/bin, a copy in somebody's repository: never a silent success."""
    link, copy = tmp_path / "free", tmp_path / "copied"
    link.symlink_to(SCRIPTS / "clear_port.sh")
    shutil.copy(SCRIPTS / "clear_port.sh", copy)
    for path in (link, copy):
        for name in SHELLS:
            port = free_port()
            done = run(*shell(name), str(path), *FAST.split(), str(port))
            assert f"{port}/tcp free" in done.stdout, (name, done.stderr)
    killer = tmp_path / "killer"
    killer.symlink_to(SCRIPTS / "kill_api_ports.sh")
    port = free_port()
    lab.start("answering", port)
    assert "freed" in run(str(killer), *FAST.split(), env={"API_PORT": str(port)}).stdout


def test_sourcing_does_nothing_with_the_callers_arguments(sh: tuple[str, ...], lab: Lab) -> None:
    """A script that sources it has arguments of its own, which are no ports to free."""
    port = free_port()
    server = lab.start("answering", port)
    path = Path(str(server.log)).parent / "caller"
    path.write_text(f". {SCRIPTS}/clear_port.sh\necho went on\n")

    done = run(*sh, str(path), str(port))

    assert (done.status, done.stdout, done.stderr) == (0, "went on\n", "")
    assert stays(lambda: server.alive, 0.5)


def test_the_functions_are_one_text() -> None:
    text = SOURCE.read_text(encoding="utf-8")
    assert text in (SCRIPTS / "clear_port.sh").read_text(encoding="utf-8")
    assert shlex.split(ultra("shell-init").stdout)[-1] == text


def test_shellcheck_is_content(tmp_path: Path) -> None:
    if shutil.which("shellcheck") is None:
        unavailable("shellcheck is missing")
    printed = tmp_path / "printed.sh"
    printed.write_text(ultra("shell-init").stdout)
    scripts = sorted(str(path) for path in SCRIPTS.glob("*.sh"))
    for dialect in ("sh", "dash", "bash", "ksh"):
        files = [*scripts, str(printed), str(SOURCE)]
        done = run("shellcheck", "-x", "-s", dialect, *files, cwd=ROOT)
        assert (done.status, done.stdout) == (0, ""), dialect


NEWER = {
    "associative arrays": r"\b(declare|local|typeset) -[a-zA-Z]*A",
    "arrays": r"\w+=\(|\$\{\w+\[",
    "case modification": r"\$\{\w+(\^|,|@)",
    "mapfile": r"\b(mapfile|readarray|coproc)\b",
    "wait -n": r"\bwait -[a-z]",
    "&>> and |&": r"&>|\|&",
    "printf %(…)T": r"printf .*%\(",
    "case in a substitution": r"\$\([^)\n]*\bcase\b",
    "[[": r"\[\[",
    "local": r"^\s*(local|declare|function)\b",
    "$EPOCH and $BASHPID": r"\$\{?(EPOCH|BASHPID|SRANDOM)",
    "process substitution": r"[<>]\(",
    "here strings": r"<<<",
}


@pytest.mark.parametrize("what", NEWER)
def test_nothing_is_newer_than_bash_3_2(what: str) -> None:
    """A bash 3.2 cannot be had here; the scripts keep to what POSIX has, which it knows."""
    for path in (*SCRIPTS.glob("*.sh"), SOURCE):
        text = re.sub(
            r"python\" -I -c '.*?'", "", path.read_text(encoding="utf-8"), flags=re.DOTALL
        )
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        found = [line for line in lines if re.search(NEWER[what], line)]
        assert not found, (path.name, found)
