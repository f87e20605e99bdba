"""Containers that no engine has: to kill a process in one is not to stop it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from resolver.gather.machines import machine_above
from resolver.model import Pid, Process, ProcessIdentity
from tests.lab.cli import ultra
from tests.lab.ports import free_port, is_free
from tests.lab.processes import alive, unavailable, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.processes import Lab


@pytest.mark.root
def test_a_server_in_a_container_of_nspawn(lab: Lab, tmp_path: Path) -> None:
    """It shares the network of its host, unless it is told otherwise."""
    nspawn = shutil.which("systemd-nspawn") or unavailable("systemd-nspawn is missing")
    busybox = shutil.which("busybox") or unavailable("busybox is missing")
    root, port = tmp_path / "web", free_port()
    for name in ("bin", "usr", "etc", "proc", "sys", "dev", "run", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "etc" / "os-release").touch()
    shutil.copy(busybox, root / "bin" / "busybox")
    words = ("--register=no", "--keep-unit", "-D", str(root), "-M", f"lab{port}")
    served = ("/bin/busybox", "httpd", "-f", "-p", str(port))
    watcher = lab.command(nspawn, "--quiet", *words, *served)
    wait_until(lambda: not is_free(port), "the container serves")

    run = ultra("resolve", "--json", str(port))

    assert run.status == 3, run.stdout
    [holder] = run.port(f"{port}/tcp")["holders"]
    assert (holder["kind"], holder["container"]["name"]) == ("container", f"lab{port}")
    [command] = holder["step"]["command_lines"]
    assert command.startswith(f"machinectl stop lab{port}")
    assert command.endswith(f"kill {watcher.pid}")
    assert alive(watcher.pid)
    assert not is_free(port)


@pytest.mark.parametrize(
    ("title", "client"),
    [
        ("[lxc monitor] /var/lib/lxc web", "lxc-stop"),
        ("[lxc monitor] /var/snap/lxd/common/lxd/containers web", "lxc"),
        ("[lxc monitor] /var/lib/incus/containers web", "incus"),
        ("systemd-nspawn --machine=web -bD /var/lib/machines/other", "machinectl"),
        ("systemd-nspawn -D /var/lib/machines/web/", "machinectl"),
        ("systemd-nspawn -Mweb -D /other", "machinectl"),
        ("systemd-nspawn --image=/images/web.raw", "machinectl"),
    ],
)
def test_the_process_that_watches_a_container(title: str, client: str) -> None:
    words = (title,) if title.startswith("[") else tuple(title.split())
    name = words[0].rpartition("/")[2]
    watcher = Process(ProcessIdentity(Pid(7), 1), name=name[:15], command=words)
    found = machine_above([watcher])
    assert found is not None
    assert (found.name, found.client, found.engine) == ("web", (client,), "")
