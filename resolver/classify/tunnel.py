"""Clients that listen here for a place elsewhere: `ssh -L`, `ssh -D`, `kubectl port-forward`.

Known from their command lines (ssh(1), ssh_config(5), autossh(1), kubectl's reference). They may be
ended like any process, and the command line brings them back. Two are more than a tunnel: an ssh
that others share (ControlMaster), and an autossh that starts its ssh again.
"""

from __future__ import annotations

import re
from contextlib import suppress
from getopt import GetoptError, getopt
from itertools import pairwise
from string import ascii_letters, digits
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from resolver.errors import CommandFailedError
from resolver.managed import Daemon
from resolver.model import Classification, Confidence, Kind, Manager, Respawn
from resolver.programs import options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.model import Binding, Holder, Process, Snapshot
    from resolver.protocols import CommandRunner

_SSH = frozenset({"ssh"})
_AUTOSSH = frozenset({"autossh"})
_KUBERNETES = frozenset({"kubectl", "oc"})
_SHORT = 2  # PORT:/remote/socket; longer ones are [ADDRESS:]PORT:HOST:HOSTPORT
_PARTS = r":(?![^\[]*\])|/(?=\d+$)"  # of [HOST:]PORT:HOST:PORT, [::1] included
_MASTER = r"ssh: (/.*) \[mux\]"  # the title of a ControlPersist master (ssh.c)
_WITH_VALUE = "BbcDEeFIiJLlmOopQRSWw"  # ssh(1): the options that take an argument
_OPTIONS = "".join(f"{each}:" if each in _WITH_VALUE else each for each in ascii_letters + digits)
_KUBE_VALUES = frozenset(
    {"-n", "--namespace", "-s", "--server", "--context", "--cluster", "--kubeconfig", "--user",
     "--token", "--address", "--as", "--request-timeout", "--pod-running-timeout", "-v"}
)  # fmt: skip


class _Ssh(Struct, frozen=True):
    """The words of an ssh command line that matter; `forwards` has (`L` or `D`, value) pairs.

    `session`: it has a login session or a command besides its forwards (`-N`: it has none).
    """

    host: str
    forwards: tuple[tuple[str, str], ...]
    session: bool


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A tunnel's end on this machine."""
    master = holder.master
    if master is None:
        return None
    title = master.command[0] if master.command else ""
    if title.startswith("ssh: ") and (shared := re.match(_MASTER, title)):
        return _shared(holder, master, shared[1], run)
    if _runs(master, _SSH):
        return _ssh(holder, master, snapshot)
    if _runs(master, _KUBERNETES) and "port-forward" in master.command:
        return _port_forward(holder, master)
    return None


def _runs(process: Process, names: frozenset[str]) -> bool:
    """Whether it is that very program: scripts of the same name have other options."""
    program = (process.executable or process.name).rsplit("/", 1)[-1]
    return process.name in names or program in names


def _ssh(holder: Holder, master: Process, snapshot: Snapshot) -> Classification:
    line = _parsed(master.command)
    target = _target(line, holder.binding)
    name = f"tunnel to {target} through {line.host}" if target else f"tunnel through {line.host}"
    if target.startswith("SOCKS"):
        name = f"{target} through {line.host}"
    evidence = [f"command line: {master.command_line}"]
    if not target:
        evidence.append("no -L or -D names the port: a LocalForward of its configuration does")
    if line.session:
        evidence.append(f"it is also a session on {line.host}, which ends with it")
    parent = snapshot.process(master.parent)
    kept = parent is not None and _runs(parent, _AUTOSSH) and parent.identity not in snapshot.own
    return _local(holder, name, tuple(evidence), parent if kept else None)


def _local(
    holder: Holder, name: str, evidence: tuple[str, ...], autossh: Process | None = None
) -> Classification:
    """A tunnel, ended with its autossh: a signal to ssh alone ends autossh 1.4, too."""
    found = Classification(
        holder,
        Kind.LOCAL,
        chain=(str(holder.master), name),
        evidence=evidence,
        reason=f"process {holder.master}, a {name}",
    )
    if autossh is None:
        return found
    return replace(
        found,
        respawn=Respawn.YES,
        chain=(str(autossh), *found.chain),
        evidence=(*evidence, f"{autossh} starts its ssh again when the connection breaks"),
        reason=f"{found.reason}, with {autossh}, which keeps it up",
        respawners=(autossh,),
    )


def _shared(holder: Holder, master: Process, path: str, run: CommandRunner) -> Classification:
    """The master of shared connections: sessions of other terminals run through it."""
    daemon = Daemon.of("ssh", master, "ssh", "-S", path, "-O")
    confidence, evidence = Confidence.SUSPECTED, f"command line: {master.command[0]}"
    try:
        daemon.check(master)
        answer = daemon.ask(run, "check", "localhost")
        said = f"{answer.stdout} {answer.stderr}".strip()
    except CommandFailedError as error:
        said = str(error)
    if f"pid={master.pid})" in said:
        confidence, evidence = Confidence.CONFIRMED, f"ssh -O check: {said}"
    return Classification(
        holder,
        Kind.SERVICE,
        respawn=Respawn.NO,
        confidence=confidence,
        manager=Manager(
            kind="ssh",
            name=path,
            policy="ControlMaster",
            stop=((*daemon.control, "exit", "localhost"),),
            account=daemon.account,
        ),
        chain=(str(master), f"shared connection {path}"),
        evidence=(evidence,),
        reason=f"{master} forwards this port on the shared connection {path}",
        harm="every session that shares the connection ends with it",
    )


def _port_forward(holder: Holder, master: Process) -> Classification:
    words = master.command
    after = list(_plain(words[words.index("port-forward") + 1 :]))
    resource = after[0] if after else "?"
    local = str(holder.binding.port)  # `LOCAL:REMOTE`, or one number for both
    ports = [each for each in after[1:] if each.partition(":")[0] == local]
    remote = f" port {ports[0].rpartition(':')[2]}" if ports else ""
    space = next(options(words, "-n", "--namespace"), "")
    context = next(options(words, "--context"), "")
    name = f"{master.name} port-forward to {resource}{remote}"
    name += f" in namespace {space}" if space else ""
    name += f" of context {context}" if context else ""
    return _local(holder, name, (f"command line: {master.command_line}",))


def _plain(words: tuple[str, ...]) -> Iterator[str]:
    """The words that are neither options nor their values."""
    for before, word in pairwise(("", *words)):
        if before not in _KUBE_VALUES and not word.startswith("-"):
            yield word


def _parsed(words: tuple[str, ...]) -> _Ssh:
    """As ssh reads it: options may also follow the host, and the command comes last."""
    given: list[tuple[str, str]] = []
    host, command = "", list[str]()
    with suppress(GetoptError):  # ssh itself has understood it, or would not run
        given, rest = getopt(list(words[1:]), _OPTIONS)
        host = rest[0] if rest else ""
        more, command = getopt(rest[1:], _OPTIONS)
        given = [*given, *more]
    return _Ssh(
        host,
        tuple(each for flag, value in given for each in _forwards(flag, value)),
        session=bool(command) or ("-N", "") not in given,
    )


def _forwards(flag: str, value: str) -> Iterator[tuple[str, str]]:
    """The forwards of one option; those of `-o` are in the words of ssh_config(5)."""
    key, _, setting = value.replace("=", " ", 1).partition(" ")
    if flag in {"-L", "-D"}:
        yield flag[1], value
    elif flag == "-o" and key.lower() == "localforward":
        yield "L", ":".join(setting.split())
    elif flag == "-o" and key.lower() == "dynamicforward":
        yield "D", setting.strip()


def _target(line: _Ssh, binding: Binding) -> str:
    """What the port leads to: `host:port`, or SOCKS; empty where no option names the port."""
    port = str(binding.port)
    for kind, given in line.forwards:
        parts = [part.strip("[]") for part in re.split(_PARTS, given)]
        if kind == "D" and parts[-1] == port:
            return "SOCKS proxy (-D)"
        if kind == "L" and len(parts) > 1 and parts[-3 if len(parts) > _SHORT else 0] == port:
            return ":".join(parts[-2:]) if len(parts) > _SHORT else parts[-1]
    return ""
