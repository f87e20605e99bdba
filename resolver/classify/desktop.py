"""Forwarders of desktop products and of rootless engines: whose they are, and what is behind.

Asked where no container that we know of publishes the port, before the general words of
`protected.py`; the end is the same: a forwarder is never signalled. Recorded facts, since none of
these runs in CI: each product's own documentation, named at its entry.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.host import trust
from resolver.host.podman import NAME
from resolver.model import Classification, Command, Confidence, Kind, Respawn
from resolver.programs import known_as

if TYPE_CHECKING:
    from resolver.model import Holder, Process, Snapshot
    from resolver.protocols import CommandRunner


class _Product(Struct, frozen=True):
    """A product that forwards ports.

    `commands` are shell lines of our own, with `{port}`, `{transport}` and `{uid}`, the forwarder's
    user, to be filled in: numbers and a word.
    """

    name: str
    programs: frozenset[str]
    behind: str
    commands: tuple[str, ...]


_DOCKER = "docker ps --filter publish={port}/{transport}"
_PODMAN = ("podman ps --filter publish={port}/{transport}",)
_PRODUCTS = (
    _Product(  # docs.docker.com/desktop/features/networking
        "Docker Desktop",
        frozenset({"com.docker.backend", "com.docker.vpnkit", "vpnkit", "vpnkit-bridge"}),
        "a container or a Kubernetes service in its virtual machine",
        (
            "docker --context desktop-linux ps --filter publish={port}/{transport}",
            "kubectl --context docker-desktop get services -A   # its Kubernetes, if that is on",
        ),
    ),
    _Product(  # docs.orbstack.dev/docker/network, /machines/network
        "OrbStack",
        frozenset({"OrbStack Helper"}),
        "a container or a Linux machine",
        (
            "docker --context orbstack ps --filter publish={port}/{transport}",
            "orb list   # then: orb -m MACHINE sudo ss -ltnp 'sport = :{port}'",
        ),
    ),
    _Product(  # learn.microsoft.com/windows/wsl/networking, localhost forwarding
        "WSL",
        frozenset({"wslrelay.exe"}),
        "a program inside a WSL distribution, or Docker Desktop there",
        ("wsl --exec sudo ss -ltnp 'sport = :{port}'   # in each of: wsl --list --running",),
    ),
    _Product(  # docs.docker.com/engine/security/rootless
        "rootless Docker",
        frozenset({"rootlesskit"}),
        "a container of that user's engine",
        (_DOCKER.replace("docker ", "docker --host unix:///run/user/{uid}/docker.sock ", 1),),
    ),
    _Product(  # docs.podman.io, podman-run(1) --network; containers/podman, cmd/rootlessport
        "rootless podman", frozenset({"rootlessport"}), "a container of that user's", _PODMAN
    ),
    _Product(  # slirp4netns(1), passt.top; rootless Docker's --port-driver=slirp4netns
        "a rootless engine",
        frozenset({"slirp4netns", "pasta", "pasta.avx2"}),
        "a container of that user's",
        (*_PODMAN, _DOCKER),
    ),
    _Product(  # conmon(8)
        "podman", frozenset({"conmon"}), "a container that it watches over", _PODMAN
    ),
    _Product(  # github.com/containers/gvisor-tap-vsock; podman-machine(1)
        "podman machine", frozenset({"gvproxy"}), "a container in its virtual machine", _PODMAN
    ),
    _Product(  # lima-vm.io/docs/config/port; Colima and Rancher Desktop are made of it
        "Lima (Colima, Rancher Desktop)",
        frozenset({"limactl"}),
        "a program or a container in its virtual machine",
        (
            "limactl list   # then: limactl shell INSTANCE sudo ss -ltnp 'sport = :{port}'",
            "docker context ls   # then: docker --context CONTEXT ps --filter publish={port}",
        ),
    ),
)


def classify(holder: Holder, snapshot: Snapshot, _run: CommandRunner) -> Classification | None:
    """A forwarder of one of the products; None for docker-proxy and for what is no forwarder."""
    if holder.container is not None:
        return None
    for process in holder.processes:
        product = next((each for each in _PRODUCTS if known_as(process, each.programs)), None)
        if product is not None:
            return _classification(holder, process, product, snapshot)
    return None


def _classification(
    holder: Holder, process: Process, product: _Product, snapshot: Snapshot
) -> Classification:
    silent = snapshot.silent_engine
    reason = f"{process} holds this port for {product.name}: {product.behind}"
    values = {
        "port": holder.binding.port,
        "transport": holder.binding.transport,
        "uid": process.uid if process.uid is not None else "UID",
    }
    return Classification(
        holder,
        Kind.UNKNOWN if silent else Kind.FORWARDER,
        respawn=Respawn.UNKNOWN,
        confidence=Confidence.SUSPECTED,
        chain=(str(process), product.name, product.behind),
        evidence=(f"command line: {' '.join(process.command)}",) if process.command else (),
        reason=f"{reason}; which one: {silent.error}" if silent else reason,
        commands=tuple(
            _command(line.format(**values), process, snapshot) for line in product.commands
        ),
    )


def _command(line: str, process: Process, snapshot: Snapshot) -> Command:
    text, _, comment = line.partition("   # ")
    words = tuple(shlex.split(text))
    if words[0] != NAME:
        return Command(words, comment)
    for engine in snapshot.engines:
        if engine.client[-1:] == (NAME,) and engine.uid == process.uid:
            why = engine.error or f"{engine.endpoint} says that no container publishes it"
            return Command((*engine.client, *words[1:]), why)
    owner = trust.owner_account(process.uid)
    client = owner.prefix if owner else ()
    return Command((*client, *words), "podman is not in PATH here, or was not to be asked")
