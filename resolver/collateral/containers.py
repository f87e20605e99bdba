"""What is lost with a container that is stopped: who lives in it, and what goes with it.

What runs inside is looked at as if it held the port, as far as the engine's process numbers are
ours. A server's own means (its network, its interfaces) are the container's, and nobody else's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.collateral import databases, devices, ports, programs, state, terminals
from resolver.collateral.family import Family, below
from resolver.gather.processes import described
from resolver.host import jobs
from resolver.host.files import text_of
from resolver.host.identity import identified
from resolver.host.processes import runs_here
from resolver.model import Collateral, CollateralKind, Command, Degree, Pid
from resolver.phrases import listed
from resolver.programs import ENGINES, SHIMS, is_interactive, known_as

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.collateral.family import Sockets
    from resolver.model import Classification, Container, Process

_MOST = 6  # that are named
_INSIDE = {
    CollateralKind.SESSION,
    CollateralKind.ACCESS,
    CollateralKind.STATE,
    CollateralKind.MACHINE,
    CollateralKind.DATA,
}
# docker-compose-up(1): with any of these, the others are stopped when one stops
_ABORTS = ("--abort-on-container-exit", "--abort-on-container-failure", "--exit-code-from")


def lost(each: Classification, container: Container, sockets: Sockets) -> Iterator[Collateral]:
    """Its other ports; the containers that depend on it; the work of people and data inside."""
    yield from ports.published(each.holder, container)
    yield from sockets.of_container(container.id, lambda: _lost(each, container, sockets))


def _lost(each: Classification, container: Container, sockets: Sockets) -> Iterator[Collateral]:
    if container.auto_remove:
        yield Collateral(
            CollateralKind.DATA,
            Degree.MENTIONED,
            "the container itself, with what was written in it",
            "--rm: it is removed when it stops",
        )
    yield from _dependents(container)
    yield from _run_beside(each, container)
    yield from _inside(each, container, sockets)


def _dependents(container: Container) -> Iterator[Collateral]:
    if not container.sharing:
        return
    names = listed(container.sharing, _MOST)
    is_pod = container.title.startswith("pod ")
    yield Collateral(
        CollateralKind.SIBLINGS,
        Degree.MENTIONED,
        f"its members {names}" if is_pod else f"the network of {names}",
        "a pod is stopped as a whole" if is_pod else "they live in its network namespace",
    )


def _run_beside(each: Classification, container: Container) -> Iterator[Collateral]:
    """What a `compose up` in the foreground stops when one of its containers stops."""
    words = each.client.command if each.client else ()
    if container.beside and any(word.partition("=")[0] in _ABORTS for word in words):
        yield Collateral(
            CollateralKind.SIBLINGS,
            Degree.REFUSED,
            f"what {each.client} runs beside it: {listed(container.beside, _MOST)}",
            f"it ends the others when one ends: {' '.join(words)}",
        )


def _inside(each: Classification, container: Container, sockets: Sockets) -> Iterator[Collateral]:
    found = _processes(container)
    main = next((process for process in found if process.pid == container.main_pid), None)
    if main is None:
        return
    yield from _sessions(each, container, main, found)
    yield from _nested(found)
    others = (process for process in found if process != main)  # which may have smaller numbers
    holder = replace(each.holder, processes=(main, *others), masters=(main.identity,))
    family = Family(replace(each, holder=holder, respawners=()), sockets)
    for module in (terminals, devices, state, databases, programs):
        for loss in module.lost(family):
            if loss.kind in _INSIDE:
                yield replace(loss, commands=_exec(container, loss.commands))


def _nested(found: tuple[Process, ...]) -> Iterator[Collateral]:
    """An engine of its own (Docker in Docker, a node of kind, k3d or minikube) and what runs in it.

    Each of its containers has a shim, which is named by its engine.
    """
    engine = next((process for process in found if known_as(process, ENGINES - SHIMS)), None)
    shims = [process for process in found if known_as(process, SHIMS)]
    if engine or shims:
        count = f"the {len(shims)} containers" if len(shims) > 1 else "the container"
        yield Collateral(
            CollateralKind.MACHINE,
            Degree.REFUSED if shims else Degree.MENTIONED,
            f"{count} that {'run' if len(shims) > 1 else 'runs'} in it" if shims else f"{engine}",
            f"{shims[0] if shims else engine} runs in it",
        )


def _exec(container: Container, commands: tuple[Command, ...]) -> tuple[Command, ...]:
    """The same, run in the container."""
    prefix = (*container.client, "exec", container.handle)
    return tuple(replace(each, argv=(*prefix, *each.argv)) for each in commands)


def _processes(container: Container) -> tuple[Process, ...]:
    """The main process and what descends from it; and what was exec'd beside it.

    All of them descend from the shim that started the main one (containerd's, conmon).
    """
    if not container.main_pid or not runs_here(container):
        return ()
    main = identified([Pid(container.main_pid)])
    parent = next((each.parent for each in described(main)), None)
    around = sorted(below({each.pid for each in ([parent] if parent else main)}))
    inside = (pid for pid in around if container.id in text_of(f"/proc/{pid}/cgroup"))
    return described((*main, *identified(inside)))


def _sessions(
    each: Classification, container: Container, main: Process, found: tuple[Process, ...]
) -> Iterator[Collateral]:
    """Who works in it: by `docker exec -it`; or in its main process, by the client that shows it.

    A main process may have a terminal that nobody looks at (`tty: true`).
    """
    entered = [
        process
        for process in found
        if main.identity not in process.line and jobs.terminal(process.pid) is not None
    ]
    if entered:
        yield _session(entered, f"run in {container.name} by exec, on a terminal")
    elif each.client and each.client.on_terminal and is_interactive(main):
        yield _session([main], f"{each.client} shows it on a terminal")


def _session(processes: list[Process], evidence: str) -> Collateral:
    names = listed(processes, _MOST)
    text = f"the terminal session of {names}"
    return Collateral(CollateralKind.SESSION, Degree.REFUSED, text, evidence)
