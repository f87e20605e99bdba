"""Forwarders of desktop products and of rootless engines: whose they are, and what is behind.

Recorded facts, since none of these runs in CI: each product's own documentation, named at its
entry.
"""

from __future__ import annotations

from msgspec import Struct


class Product(Struct, frozen=True):
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
PRODUCTS = (
    Product(  # docs.docker.com/desktop/features/networking
        "Docker Desktop",
        frozenset({"com.docker.backend", "com.docker.vpnkit", "vpnkit", "vpnkit-bridge"}),
        "a container or a Kubernetes service in its virtual machine",
        (
            "docker --context desktop-linux ps --filter publish={port}/{transport}",
            "kubectl --context docker-desktop get services -A   # its Kubernetes, if that is on",
        ),
    ),
    Product(  # docs.orbstack.dev/docker/network, /machines/network
        "OrbStack",
        frozenset({"OrbStack Helper"}),
        "a container or a Linux machine",
        (
            "docker --context orbstack ps --filter publish={port}/{transport}",
            "orb list   # then: orb -m MACHINE sudo ss -ltnp 'sport = :{port}'",
        ),
    ),
    Product(  # learn.microsoft.com/windows/wsl/networking, localhost forwarding
        "WSL",
        frozenset({"wslrelay.exe"}),
        "a program inside a WSL distribution, or Docker Desktop there",
        ("wsl --exec sudo ss -ltnp 'sport = :{port}'   # in each of: wsl --list --running",),
    ),
    Product(  # docs.docker.com/engine/security/rootless
        "rootless Docker",
        frozenset({"rootlesskit"}),
        "a container of that user's engine",
        (_DOCKER.replace("docker ", "docker --host unix:///run/user/{uid}/docker.sock ", 1),),
    ),
    Product(  # docs.podman.io, podman-run(1) --network; containers/podman, cmd/rootlessport
        "rootless podman", frozenset({"rootlessport"}), "a container of that user's", _PODMAN
    ),
    Product(  # slirp4netns(1), passt.top; rootless Docker's --port-driver=slirp4netns
        "a rootless engine",
        frozenset({"slirp4netns", "pasta", "pasta.avx2"}),
        "a container of that user's",
        (*_PODMAN, _DOCKER),
    ),
    Product(  # conmon(8)
        "podman", frozenset({"conmon"}), "a container that it watches over", _PODMAN
    ),
    Product(  # github.com/containers/gvisor-tap-vsock; podman-machine(1)
        "podman machine", frozenset({"gvproxy"}), "a container in its virtual machine", _PODMAN
    ),
    Product(  # lima-vm.io/docs/config/port; Colima and Rancher Desktop are made of it
        "Lima (Colima, Rancher Desktop)",
        frozenset({"limactl"}),
        "a program or a container in its virtual machine",
        (
            "limactl list   # then: limactl shell INSTANCE sudo ss -ltnp 'sport = :{port}'",
            "docker context ls   # then: docker --context CONTEXT ps --filter publish={port}",
        ),
    ),
)
