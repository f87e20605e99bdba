"""Containers that no engine has: to kill a process in one is not to stop it."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from resolver.gather.machines import machine_above
from resolver.model import Pid, Process, ProcessIdentity
from tests.lab.cli import ultra
from tests.lab.ports import free_port, is_free, is_served
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
    try:
        wait_until(lambda: is_served(port), "the container serves")

        run = ultra("resolve", "--json", str(port))

        assert run.status == 3, run.stdout
        [holder] = run.port(f"{port}/tcp")["holders"]
        assert (holder["kind"], holder["container"]["name"]) == ("container", f"lab{port}")
        [command] = holder["step"]["command_lines"]
        assert command.startswith(f"machinectl stop lab{port}")
        assert command.endswith(f"kill {watcher.pid}")
        assert alive(watcher.pid)
        assert not is_free(port)
    finally:  # as it was told; what is in the container would outlive the watcher's SIGKILL
        watcher.terminate()
    wait_until(lambda: is_free(port), "the command that was told stops it")


@pytest.mark.root
@pytest.mark.parametrize("ground", ["foreground", "background"])
def test_a_server_in_a_container_of_lxc(lab: Lab, tmp_path: Path, ground: str) -> None:
    start = shutil.which("lxc-start") or unavailable("lxc-start is missing")
    busybox = shutil.which("busybox") or unavailable("busybox is missing")
    root, port, name = tmp_path / "root", free_port(), f"lab{ground}"
    for folder in ("bin", "proc", "sys", "dev"):
        (root / folder).mkdir(parents=True)
    shutil.copy(busybox, root / "bin" / "busybox")
    config = {"uts.name": name, "net.0.type": "none", "rootfs.path": f"dir:{root}"}
    more = {"mount.auto": "proc:rw sys:ro", "apparmor.profile": "unconfined"}
    lines = [f"lxc.{key} = {value}\n" for key, value in {**config, **more}.items()]
    (tmp_path / "config").write_text("".join(lines))
    words = ("-n", name, "-P", str(tmp_path), "-f", str(tmp_path / "config"))
    how = "-F" if ground == "foreground" else "-d"
    served = ("/bin/busybox", "httpd", "-f", "-p", str(port))
    lab.command("sh", "-c", '"$@"; sleep 600', "sh", start, *words, how, "--", *served)
    wait_until(lambda: is_served(port), "the container serves")

    run = ultra("resolve", "--json", "--no-docker", str(port))

    assert run.status == 3, run.stdout
    [holder] = run.port(f"{port}/tcp")["holders"]
    assert (holder["kind"], holder["container"]["name"]) == ("container", name)
    [command] = holder["step"]["commands"]
    assert command == ["lxc-stop", "-P", str(tmp_path), "-n", name]
    assert not is_free(port)
    subprocess.run([*command, "-k"], check=True)
    wait_until(lambda: is_free(port), "the command that was told stops it")


@pytest.mark.parametrize(
    ("title", "client"),
    [
        ("[lxc monitor] /var/lib/lxc web", "lxc-stop"),
        ("[lxc monitor] /var/snap/lxd/common/lxd/containers web", "lxc"),
        ("[lxc monitor] /var/lib/incus/containers web", "incus"),
        ("lxc-start -F -n web", "lxc-stop"),
        ("lxc-execute --name=web -- /bin/server", "lxc-stop"),
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
