"""Well-known programs by name: who may never be signalled, and who merely hosts sessions.

Facts from the projects' own documentation, and from watching them hold ports.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from resolver.forwarders import PRODUCTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from resolver.model import Process

PROXY = "docker-proxy"
# They hold published ports for an engine; ending one leaves the container and its NAT rule behind.
FORWARDERS = frozenset({PROXY}).union(*(each.programs for each in PRODUCTS))
# What may outlive its container and hold its port for nobody
OUTLIVING = frozenset({PROXY, "conmon", "rootlessport"})
# One for each container that runs: containerd's, CRI-O's and podman's
SHIMS = frozenset({"containerd-shim", "containerd-shim-runc-v2", "conmon"})
# Ending one takes every container, or the machine's whole orchestration, with it.
ENGINES = frozenset(
    {"dockerd", "containerd", "containerd-shim", "containerd-shim-runc-v2", "crio", "podman"}
    | {"buildkitd", "kubelet", "k3s", "nomad", "Docker Desktop", "OrbStack"}
)
# They pass on what arrives: who listens is not who answers, nor where that one is.
RELAYS = frozenset(
    {"socat", "ssh", "nc", "ncat", "netcat", "limactl", "colima", "gvproxy", "vpnkit"}
)
# Ending one cuts the user off, or takes services down that have nothing to do with the port.
SYSTEM = frozenset(
    {"init", "systemd", "systemd-resolved", "systemd-networkd", "systemd-logind"}
    | {"systemd-journald", "dbus-daemon", "dbus-broker", "launchd", "sshd", "sshd-session"}
    | {"dropbear", "rpcbind", "supervisord"}
)
# SIGTERM reloads them (uwsgi-docs, "Signals for controlling uWSGI"; its emperor does the same)
UWSGI = frozenset({"uwsgi", "uwsgi-core", "pyuwsgi"})
# pm2's daemon puts its version into its name; ending it ends all that it manages.
PM2 = "PM2 v"
# Units of these run other people's work: being inside one does not make a process that unit's own.
SESSION_HOSTS = frozenset(
    {"sshd", "cron", "crond", "atd", "anacron", "login", "agetty", "tmux", "tmux: server"}
    | {"screen", "gitlab-runner", "buildkite-agent", "Runner.Listener", "Runner.Worker"}
    | {"act_runner", "dockerd", "containerd", "supervisord", "systemd", "xrdp-sesman"}
    | {"code-server", "ttyd"}
)

# Terminals, multiplexers, editors and tools that started the server for somebody
STARTERS = SESSION_HOSTS | {
    "zellij", "script", "expect", "gnome-terminal-", "konsole",
    "xterm", "alacritty", "kitty", "wezterm-gui", "foot", "terminator", "iTerm2", "Terminal",
    "code", "Code Helper", "cursor", "idea", "pycharm", "webstorm", "emacs", "vim", "nvim", "su",
    "sudo", "make", "pytest",
}  # fmt: skip
# They run one program, and end with it
WRAPPERS = frozenset({"npm", "npx", "yarn", "pnpm", "env", "timeout", "nice", "setsid"})
# With or without a version: python3.11
_INTERPRETERS = frozenset(
    {"python", "ipython", "pypy", "node", "ruby", "perl", "php", "lua"}
    | {"sh", "bash", "dash", "zsh", "ksh"}
)
_SHELLS = frozenset(
    {"sh", "bash", "dash", "zsh", "ksh", "mksh", "yash", "fish", "ash", "csh", "tcsh"}
    | {"nu", "pwsh", "elvish", "osh", "ysh"}
)
# Read-eval-print loops: with no program to run, somebody types into them
_PROMPTS = frozenset(
    {"irb", "psql", "mysql", "sqlite3", "redis-cli", "R", "julia", "ghci", "deno", "bun", "pry"}
)
# The npm package that a script is a part of (npm's folders(5)): pnpm and yarn start it by its file
_PACKAGE = r"/node_modules/((?:@[^/]+/)?[^./@][^/]*)/"
_WITH_VALUE = frozenset({"--init-file", "--rcfile", "-o", "-O", "+o", "+O", "-W", "-X"})


def names_of(process: Process) -> frozenset[str]:
    """What a process may be known as: its name, its file, and what it runs.

    That is a script, a module, or a script's package.
    """
    program = _base((process.executable or "").removesuffix(" (deleted)"))
    names = {process.name, program}
    words = process.command
    if words and _interprets(_base(words[0]).lstrip("-")):
        work = _work(words[1:])
        names.add(_base(work))
        names.add(work.rpartition(".")[2])  # python3 -m supervisor.supervisord
        names.update(re.findall(_PACKAGE, work)[-1:])
    return frozenset(names)


def known_as(process: Process, names: frozenset[str]) -> bool:
    """True where the process is known by one of `names`.

    A name can be borrowed; where it is, the answer errs on the side of leaving the process alone.
    """
    return not names_of(process).isdisjoint(names)


def retitled(process: Process) -> bool:
    """Whether a title of its own stands where its command line was (setproctitle(3bsd)).

    It is one word that has spaces, or that is no name of its interpreter, and is not the path of
    its program; one without a NUL at its end is split at its spaces, and begins with a name and a
    colon (nginx). Squid puts its child's name into brackets.
    """
    first, *others = process.command or ("",)
    program, name = _base(process.executable or ""), _base(first)
    odd = " " in first or (_interprets(program) and not _interprets(name.lstrip("-")))
    titled = not any(others) and odd and name != program
    return titled or first.endswith(":") or first.startswith("(")


def works_for_engine(process: Process) -> bool:
    """Whether it is an engine, or forwards ports for one."""
    return known_as(process, FORWARDERS | ENGINES)


def is_shell(process: Process) -> bool:
    """Whether it is a shell, `busybox sh` and login shells included."""
    words = _command(process)
    first = _base(words[0]).lstrip("-") if words else ""
    return not _SHELLS.isdisjoint({process.name.lstrip("-"), first})


def is_interactive(process: Process) -> bool:
    """Whether somebody types into it: a shell or an interpreter that was given nothing to run."""
    words = _command(process)
    if is_shell(process):
        return not words or words[0].startswith("-") or "-i" in words[1:] or not _work(words[1:])
    program = _base(words[0]) if words else ""
    prompt = program in _PROMPTS or _interprets(program)
    return prompt and process.on_terminal and not _work(words[1:])


def hosts_somebody(process: Process) -> bool:
    """A shell, a terminal multiplexer, a CI agent: it inherits sockets by accident."""
    return is_interactive(process) or known_as(process, SESSION_HOSTS)


def is_fork(process: Process, parent: Process | None) -> bool:
    """Whether it is a copy of its parent (fork(2)), as a subshell is, and not another program."""
    program = (process.executable, process.command)
    return parent is not None and (parent.executable, parent.command) == program


def _command(process: Process) -> tuple[str, ...]:
    """Its command line; that of a busybox begins with its applet."""
    words = process.command
    return words[1:] if words and _base(words[0]) == "busybox" else words


def _work(words: Sequence[str]) -> str:
    """What an interpreter was told to run: a script, or the value of -c, -e or -m; else empty."""
    rest = iter(words)
    for word in rest:
        if word in _WITH_VALUE:
            next(rest, None)
        elif word == "--":
            return next(rest, "")
        elif word[:1] in {"-", "+"} and word != "-":
            if not word.startswith("--") and word[-1:] in {"c", "e", "m"}:
                return next(rest, "")
        else:
            return word
    return ""


def _interprets(program: str) -> bool:
    return program.rstrip("0123456789.") in _INTERPRETERS


def _base(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def options(words: Iterable[str], *names: str) -> Iterator[str]:
    """The values of an option of a command line, whatever it is called.

    As in `--name VALUE`, `--name=VALUE`, `-n VALUE` and `-nVALUE`.
    """
    spellings = (rf"{name}(?:=|\Z)" if name.startswith("--") else f"{name}=?" for name in names)
    pattern = re.compile(f"(?:{'|'.join(spellings)})(.*)", re.DOTALL)
    for word, following in pairwise((*words, "")):
        if match := pattern.fullmatch(word):
            yield match[1] or following


def is_wrapper(process: Process, names: frozenset[str] = WRAPPERS) -> bool:
    """Whether it runs one program, and ends with it; npm calls itself `npm start`."""
    words = {process.name, *process.command[:2]}
    return not names.isdisjoint({*names_of(process), *(_base(e.split(" ")[0]) for e in words)})


def ending_signal(process: Process) -> str:
    """The signal that asks a process for its end: SIGTERM, but for those that go on after it."""
    return "SIGINT" if known_as(process, UWSGI) else "SIGTERM"


def untouchable(process: Process, spared: Collection[str] = ()) -> bool:
    """True for what is never signalled, whatever was asked.

    `spared` are names that do not count this time: an orphaned docker-proxy serves no engine.
    """
    if process.pid <= 1 or process.name.startswith(PM2):
        return True
    return known_as(process, (FORWARDERS | ENGINES | SYSTEM).difference(spared))
