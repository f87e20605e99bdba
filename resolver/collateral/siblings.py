"""Siblings: what a runner would end when the holder ends.

Only runners that are documented to do so count. Procfile runners have a classifier of their own,
since they are ended as a whole (`classify/procfile.py`).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.collateral.known import is_named
from resolver.gather.owners import owners_of
from resolver.gather.processes import described
from resolver.host import trust
from resolver.host.identity import identified
from resolver.host.processes import descendants
from resolver.model import Collateral, CollateralKind, Degree, SocketState
from resolver.phrases import listed
from resolver.programs import hosts_somebody

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resolver.collateral.family import Family
    from resolver.model import Pid, Process, Snapshot

_SHELLS = "sh bash dash zsh ksh"


class Runner(Struct, frozen=True):
    """A row: the names of a runner, the words with which it ends the others, and the source.

    `names` are as in `known.py`. `helped`: it has workers of its own, so that only what serves a
    port counts as a sibling.
    """

    names: str
    words: str
    source: str
    helped: bool = False


RUNNERS: tuple[Runner, ...] = (
    Runner(
        "concurrently concurrently.js conc",
        r"(?:^| )(?:-\w*k|--kill-others\S*|--success[ =]first)(?: |$)",
        "https://github.com/open-cli-tools/concurrently#usage",
    ),
    Runner(
        "run-p npm-run-all npm-run-all2 run-p.js npm-run-all.js",
        r"^(?!.*(?:--continue-on-error|(?:^| )-\w*c(?: |$)))",
        "https://github.com/mysticatea/npm-run-all/blob/master/docs/run-p.md",
    ),
    Runner(
        "turbo nx lerna wireit hivemind overmind",
        r"",
        "https://turborepo.com/docs/reference/run#--continueoption",
        helped=True,
    ),
    Runner(
        "goreman",
        r" -?-exit-on-error\b",
        "https://github.com/mattn/goreman/blob/master/main.go",
        helped=True,
    ),
    Runner(
        "parallel",
        r"--halt(?:-on-error)?[ =]now",
        "https://www.gnu.org/software/parallel/man.html",
    ),
    Runner(
        "torchrun accelerate deepspeed horovodrun mpirun mpiexec mpiexec.hydra hydra_pmi_proxy"
        " orterun prterun torch.distributed.run run",
        r"\b(?:torchrun|accelerate|deepspeed|horovodrun|mpirun|mpiexec|orterun|prterun|hydra)"
        r"|torch\.distributed",
        "https://docs.pytorch.org/docs/stable/elastic/run.html#membership-changes",
    ),
    Runner(
        "pnpm pnpm.cjs yarn yarn.js",
        r"(?: -r | --recursive | --parallel| workspaces foreach)",
        "https://pnpm.io/cli/recursive",
    ),
    Runner(  # its own watcher stands beside a single script
        "pnpm pnpm.cjs pnpm.mjs",
        r" (?:--filter|-F|--filter-prod)(?:[ =]|$)| /\S+/(?: |$)",
        "https://pnpm.io/filtering",
        helped=True,
    ),
    Runner(
        _SHELLS,
        r"\bwait -n\b|[;&\n] *kill (?:-\w+ )?(?:-- )?(?:0\b|-\$\$|\$\(jobs)",
        "https://www.gnu.org/software/bash/manual/html_node/Job-Control-Builtins.html",
    ),
)
_NEAR = 6  # so many parents are looked at: npm → sh → node concurrently → sh → server
_MOST = 6  # siblings that are named


def lost(family: Family, snapshot: Snapshot) -> Iterator[Collateral]:
    """What the nearest runner above the holder would end with it."""
    row, line = _runner(family, snapshot)
    runner, others = line[-1], _others(row, line, family) if row else []
    if others:
        yield Collateral(
            CollateralKind.SIBLINGS,
            Degree.REFUSED,
            f"what {runner} runs beside it: {listed(others, _MOST)}",
            f"it ends the others when one ends: {runner.command_line}",
        )


def _runner(family: Family, snapshot: Snapshot) -> tuple[Runner | None, list[Process]]:
    """Which the nearest runner is, and the line from the holder up to it; else None."""
    line = [family.members[0]]
    for identity in line[0].ancestors[:_NEAR]:
        process = snapshot.process(identity)
        if process is None or hosts_somebody(process):
            break
        line.append(process)
        row = next((each for each in RUNNERS if _is(each, process)), None)
        if row is not None:
            return row, line
    return None, line


def _is(row: Runner, process: Process) -> bool:
    if not is_named(process, row.names):
        return False
    script = _script(process) if row.names == _SHELLS else ""
    return re.search(row.words, process.command_line + script) is not None


def _script(process: Process) -> str:
    """The text of the script that a shell runs; empty where it has none, or hides it."""
    path = next((word for word in process.command[1:] if not word.startswith("-")), "")
    if not path or process.cwd is None or "-c" in process.command:
        return ""
    return trust.text_named(os.path.join(process.cwd, path), process.uid)


def _others(row: Runner, line: Sequence[Process], family: Family) -> list[str]:
    """The runner's other processes: with their ports where they serve any."""
    known = {process.pid for process in (*line, *family.members, *family.group.below)}
    beside = sorted(descendants(line[-1].pid) - known)
    ports = _ports(family)
    processes = {process.pid: process for process in described(identified(beside))}
    serving = [pid for pid in beside if pid in ports and pid in processes]
    chosen = serving or [pid for pid in beside if pid in processes and not row.helped]
    return [f"{processes[pid]}{ports.get(pid, '')}" for pid in chosen]


def _ports(family: Family) -> dict[Pid, str]:
    """Which process serves which ports, as words behind its name."""
    listening = {
        each.inode: each.binding
        for each in family.sockets.serving
        if each.state is SocketState.LISTENING and each.inode > 0
    }
    found: dict[Pid, set[int]] = {}
    for inode, owners in owners_of(listening).items():
        for owner in owners:
            found.setdefault(owner.pid, set()).add(listening[inode].port)
    return {pid: f" on {', '.join(map(str, sorted(ports)))}" for pid, ports in found.items()}
