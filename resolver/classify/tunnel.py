"""Clients that listen here for a place elsewhere: `ssh -L`, `ssh -D`, `kubectl port-forward`.

Known from their command lines (ssh(1), ssh_config(5), autossh(1), kubectl's reference). They may be
ended like any process, and the command line brings them back. Two are more than a tunnel: an ssh
that others share (ControlMaster), and an autossh that starts its ssh again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import CommandFailedError
from resolver.host import trust
from resolver.managed import ask
from resolver.model import Classification, Confidence, Kind, Manager, Respawn

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
_KUBE_VALUES = frozenset(
    {"-n", "--namespace", "-s", "--server", "--context", "--cluster", "--kubeconfig", "--user",
     "--token", "--address", "--as", "--request-timeout", "--pod-running-timeout", "-v"}
)  # fmt: skip


class _Ssh(Struct, frozen=True):
    """The words of an ssh command line that matter; `forwards` has (`L` or `D`, value) pairs."""

    host: str
    forwards: tuple[tuple[str, str], ...]
    flags: frozenset[str]
    command: tuple[str, ...]

    @property
    def session(self) -> bool:
        """Whether it has a login session or a command besides its forwards (`-N`: it has none)."""
        return bool(self.command) or "N" not in self.flags


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
    evidence = [f"command line: {' '.join(master.command)}"]
    if not target:
        evidence.append("no -L or -D names the port: a LocalForward of its configuration does")
    if line.session:
        evidence.append(f"it is also a session on {line.host}, which ends with it")
    parent = snapshot.process(master.parent)
    if parent is not None and _runs(parent, _AUTOSSH) and parent.identity not in snapshot.own:
        return _autossh(holder, parent, name, tuple(evidence))
    return _local(holder, name, tuple(evidence))


def _autossh(
    holder: Holder, parent: Process, name: str, evidence: tuple[str, ...]
) -> Classification:
    """Ended together with its one child: a signal to ssh alone ends autossh 1.4, too."""
    return Classification(
        holder,
        Kind.LOCAL,
        respawn=Respawn.YES,
        chain=(str(parent), str(holder.master), name),
        evidence=(*evidence, f"{parent} starts its ssh again when the connection breaks"),
        reason=f"process {holder.master}, a {name}, with {parent}, which keeps it up",
        respawners=(parent,),
    )


def _local(holder: Holder, name: str, evidence: tuple[str, ...]) -> Classification:
    return Classification(
        holder,
        Kind.LOCAL,
        chain=(str(holder.master), name),
        evidence=evidence,
        reason=f"process {holder.master}, a {name}",
    )


def _shared(holder: Holder, master: Process, path: str, run: CommandRunner) -> Classification:
    """The master of shared connections: sessions of other terminals run through it."""
    control = ("ssh", "-S", path, "-O")
    confidence, evidence = Confidence.SUSPECTED, f"command line: {master.command[0]}"
    account = trust.owner_account(master.uid)
    try:
        account = trust.account_for(master, master)
        answer = ask(run, (*control, "check", "localhost"), account)
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
            stop=((*control, "exit", "localhost"),),
            account=account,
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
    ports = [each for each in after[1:] if _local_port(each) == str(holder.binding.port)]
    remote = f" port {ports[0].rpartition(':')[2]}" if ports else ""
    space = _option(words, "-n", "--namespace")
    context = _option(words, "--context")
    name = f"{master.name} port-forward to {resource}{remote}"
    name += f" in namespace {space}" if space else ""
    name += f" of context {context}" if context else ""
    return _local(holder, name, (f"command line: {' '.join(words)}",))


def _plain(words: tuple[str, ...]) -> Iterator[str]:
    """The words that are neither options nor their values."""
    skip = False
    for word in words:
        if not skip and not word.startswith("-"):
            yield word
        skip = word in _KUBE_VALUES


def _local_port(mapping: str) -> str:
    """`LOCAL:REMOTE`, or one number for both; `:REMOTE` lets kubectl choose."""
    return mapping.partition(":")[0]


def _option(words: tuple[str, ...], *names: str) -> str:
    for word, following in zip(words, (*words[1:], ""), strict=True):
        if word in names:
            return following
        if word.partition("=")[0] in names and "=" in word:
            return word.partition("=")[2]
        if word.startswith("-n") and "-n" in names and not word.startswith("--"):
            return word[2:].removeprefix("=")
    return ""


def _parsed(command: tuple[str, ...]) -> _Ssh:
    """getopt(3) as ssh uses it: options may also follow the host, and the command comes last."""
    host = ""
    forwards: list[tuple[str, str]] = []
    flags: set[str] = set()
    words = list(command[1:])
    while words:
        word = words.pop(0)
        if word == "--" or not word.startswith("-"):
            if host:
                return _Ssh(host, tuple(forwards), frozenset(flags), (word, *words))
            host = word if word != "--" else (words.pop(0) if words else "")
            continue
        flag, value = _split(word, words)
        flags.update(flag)
        if flag[-1:] in {"L", "D"}:
            forwards.append((flag[-1], value))
        elif flag[-1:] == "o":
            forwards.extend(_from_setting(value))
    return _Ssh(host, tuple(forwards), frozenset(flags), ())


def _split(word: str, words: list[str]) -> tuple[str, str]:
    """The flags of one word (`-fNL`), and the value of the last: attached, or the next word."""
    for place, letter in enumerate(word[1:], 1):
        if letter in _WITH_VALUE:
            attached = word[place + 1 :]
            return word[1 : place + 1], attached or (words.pop(0) if words else "")
    return word[1:], ""


def _from_setting(setting: str) -> Iterator[tuple[str, str]]:
    key, _, value = setting.replace("=", " ", 1).partition(" ")
    if key.lower() == "localforward":
        yield "L", ":".join(value.split())
    elif key.lower() == "dynamicforward":
        yield "D", value.strip()


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
