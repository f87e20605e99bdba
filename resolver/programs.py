"""Well-known programs by name: who may never be signalled, and who merely hosts sessions.

Facts from the projects' own documentation, and from watching them hold ports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from resolver.model import Process

PROXY = "docker-proxy"
# They hold published ports for an engine; ending one leaves the container and its NAT rule behind.
FORWARDERS = frozenset(
    {
        PROXY,
        "rootlesskit",
        "rootlessport",
        "slirp4netns",
        "pasta",
        "pasta.avx2",
        "com.docker.backend",
        "com.docker.vpnkit",
        "vpnkit",
        "vpnkit-bridge",
        "wslrelay.exe",
        "OrbStack Helper",
        "limactl",
        "gvproxy",
        "conmon",
    }
)
# Ending one takes every container, or the machine's whole orchestration, with it.
ENGINES = frozenset(
    {
        "dockerd",
        "containerd",
        "containerd-shim",
        "containerd-shim-runc-v2",
        "crio",
        "podman",
        "buildkitd",
        "kubelet",
        "k3s",
        "nomad",
        "Docker Desktop",
        "OrbStack",
    }
)
# Ending one cuts the user off, or takes services down that have nothing to do with the port.
SYSTEM = frozenset(
    {
        "init",
        "systemd",
        "systemd-resolved",
        "systemd-networkd",
        "systemd-logind",
        "systemd-journald",
        "dbus-daemon",
        "dbus-broker",
        "launchd",
        "sshd",
        "sshd-session",
        "dropbear",
        "rpcbind",
        "supervisord",
    }
)
# Units of these run other people's work: being inside one does not make a process that unit's own.
SESSION_HOSTS = frozenset(
    {
        "sshd",
        "cron",
        "crond",
        "atd",
        "anacron",
        "login",
        "agetty",
        "tmux",
        "tmux: server",
        "screen",
        "gitlab-runner",
        "buildkite-agent",
        "Runner.Listener",
        "Runner.Worker",
        "act_runner",
        "dockerd",
        "containerd",
        "supervisord",
        "systemd",
        "xrdp-sesman",
        "code-server",
        "ttyd",
    }
)


def known_as(process: Process, names: frozenset[str]) -> bool:
    """True where the process's name or the file it runs is one of `names`.

    A name can be borrowed; where it is, the answer errs on the side of leaving the process alone.
    """
    program = (process.executable or "").removesuffix(" (deleted)").rsplit("/", 1)[-1]
    return process.name in names or program in names


def untouchable(process: Process, spared: Collection[str] = ()) -> bool:
    """True for what is never signalled, whatever was asked.

    `spared` are names that do not count this time: an orphaned docker-proxy serves no engine.
    """
    return process.pid <= 1 or known_as(process, (FORWARDERS | ENGINES | SYSTEM).difference(spared))
