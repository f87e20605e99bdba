"""Hardware, file systems, desktops and sessions that hang on a holder, by what it has open."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.cli import ultra
from tests.lab.ports import free_port, is_free
from tests.lab.processes import alive, stays_free, unavailable, until_served, wait_until
from tests.lab.ssh import Sshd, sshd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.processes import Lab

pytestmark = pytest.mark.slow

# It has a file open, and listens
OPENS = """\
import os, socket, sys
held = os.open(sys.argv[2], os.O_RDWR)
socket.create_server(('127.0.0.1', int(sys.argv[1]))).accept()
"""
# It is a client of a display: with the first words of the X protocol, and no more
WINDOW = """\
import socket, sys
display = socket.socket(socket.AF_UNIX)
display.connect(sys.argv[2])
display.sendall(b'l\\0\\x0b\\0' + bytes(8))
assert display.recv(1) == b'\\x01'
socket.create_server(('127.0.0.1', int(sys.argv[1]))).accept()
"""


def losses(port: int, *options: str) -> list[dict[str, Any]]:
    """Asserts that nothing is touched, in one voice with `who`; what is refused."""
    run = ultra("resolve", "--json", "--no-docker", *options, str(port))
    [report] = run.json["ports"]
    assert (run.status, report["verdict"]) == (3, "refused"), run.stdout
    found: list[dict[str, Any]] = report["holders"][0]["collateral"]
    who = ultra("who", "--json", "--no-docker", str(port))
    assert who.json["ports"][0]["holders"][0]["collateral"] == found
    assert not is_free(port)
    return [each for each in found if each["degree"] == "refused"]


def freed(port: int, *options: str) -> list[dict[str, Any]]:
    """Asserts that the port is freed; what was said to be lost."""
    run = ultra("resolve", "--json", "--no-docker", "--settle", "0.3", *options, str(port))
    assert run.status == 0, run.stdout
    found: list[dict[str, Any]] = run.json["ports"][0]["holders"][0]["collateral"]
    return found


@pytest.fixture
def device() -> Iterator[list[Path]]:
    """A stand-in for hardware: a file whose path is a device's."""
    if os.geteuid() != 0:
        unavailable("to make a device needs root")
    made: list[Path] = []
    yield made
    for path in made:
        path.unlink()


@pytest.mark.root
@pytest.mark.parametrize(
    ("name", "kind"),
    [("ttyUSB97", "device"), ("ttyACM97", "device"), ("watchdog97", "machine")],
)
def test_hardware_that_it_drives(lab: Lab, device: list[Path], name: str, kind: str) -> None:
    """A printer in the middle of its work; a machine that reboots where nobody feeds its dog."""
    path, port = Path("/dev") / name, free_port()
    path.touch(exist_ok=False)
    device.append(path)
    lab.command(sys.executable, "-c", OPENS, str(port), str(path))
    until_served(port)

    [loss] = losses(port)

    assert loss["kind"] == kind
    assert str(path) in loss["text"]
    freed(port, "--accept-loss")


@pytest.mark.root
def test_a_serial_console_is_a_terminal_like_any(lab: Lab, device: list[Path]) -> None:
    path, port = Path("/dev/ttyS97"), free_port()
    path.touch(exist_ok=False)
    device.append(path)
    script = f"exec {sys.executable} -m http.server {port} --bind 127.0.0.1 <{path} 5<{path}"
    lab.command("sh", "-c", script)
    until_served(port)

    freed(port)


@pytest.mark.root
def test_a_file_system_that_it_serves(lab: Lab, tmp_path: Path) -> None:
    rclone = shutil.which("rclone") or unavailable("rclone is missing")
    unmount = shutil.which("fusermount3") or unavailable("fusermount3 is missing")
    port, files, mount = free_port(), tmp_path / "files", tmp_path / "mount"
    files.mkdir()
    mount.mkdir()
    (files / "letter").touch()
    rc = ("--rc", "--rc-no-auth", "--rc-addr", f"127.0.0.1:{port}")
    mounted = lab.command(rclone, "mount", f":local:{files}", str(mount), *rc)
    try:
        wait_until((mount / "letter").exists, "it is mounted", 60)

        [loss] = losses(port)

        assert loss["kind"] == "device"
        assert str(mount) in loss["text"]
        assert loss["command_lines"][0].startswith(f"fusermount3 -u {mount}")
        assert (mount / "letter").exists()
        assert alive(mounted.pid)
    finally:
        subprocess.run([unmount, "-u", str(mount)], check=True)


@contextmanager
def display(lab: Lab, folder: Path, name: str) -> Iterator[str]:
    """A real X server, called so; the path of its socket."""
    xvfb = shutil.which("Xvfb") or unavailable("Xvfb is missing")
    program = folder / name
    shutil.copy(xvfb, program)
    number = 100 + os.getpid() % 800
    socket = Path(f"/tmp/.X11-unix/X{number}")  # noqa: S108 - where X servers have it
    server = lab.command(str(program), f":{number}", "-screen", "0", "64x64x8", "-nolisten", "tcp")
    try:
        wait_until(socket.exists, "the display is there")
        yield str(socket)
    finally:
        server.terminate()  # then it takes its socket and its lock away
        server.wait(10)


@pytest.mark.parametrize("name", ["Xorg", "Xvfb"])
def test_an_application_with_windows(lab: Lab, tmp_path: Path, name: str) -> None:
    """Somebody's; but where the display is one in memory, for tests, nobody looks at it."""
    port = free_port()
    with display(lab, tmp_path, name) as path:
        lab.command(sys.executable, "-c", WINDOW, str(port), path)
        until_served(port)

        if name == "Xvfb":
            freed(port)
        else:
            [loss] = losses(port)
            assert loss["kind"] == "desktop"
            assert path in loss["evidence"]
            freed(port, "--accept-loss")


@pytest.mark.parametrize("more", [(), ("--headless=new",)], ids=["windows", "headless"])
def test_a_browser(lab: Lab, tmp_path: Path, more: tuple[str, ...]) -> None:
    """Its windows are told once; without any it is freed, and its profile is no database."""
    chromium = shutil.which("chromium") or unavailable("chromium is missing")
    port = free_port()
    # what it asks the network for by itself has ports of its own, later than this looks or not
    quiet = ("--disable-features=MediaRouter", "--disable-background-networking")
    words = ("--no-sandbox", *quiet, f"--user-data-dir={tmp_path}/profile", *more)
    with display(lab, tmp_path, "Xorg") as path:
        env = {"DISPLAY": f":{path.rpartition('X')[2]}"}
        lab.command(chromium, *words, f"--remote-debugging-port={port}", "about:blank", env=env)
        until_served(port)
        if more:
            assert [each["kind"] for each in freed(port)] == []
        else:
            wait_until(lambda: collateral(port), "it has a window")
            assert [each["kind"] for each in losses(port)] == ["desktop"]
            freed(port, "--accept-loss")


@pytest.fixture
def daemon(lab: Lab) -> Iterator[Sshd]:
    with sshd(lab) as found:
        yield found


def test_a_session_that_also_forwards(lab: Lab, daemon: Sshd) -> None:
    """Somebody works in it; `ssh -N` on a terminal is a tunnel and nothing else."""
    script = shutil.which("script") or unavailable("script is missing")
    for port, more in ((free_port(), ()), (free_port(), ("-N",))):
        words = daemon.options("-t", *more, "-L", f"127.0.0.1:{port}:127.0.0.1:{daemon.port}")
        line = " ".join(("ssh", *words, daemon.host, *(() if more else ("cat",))))
        lab.command(script, "-qfc", line, "/dev/null")
        until_served(port)
        if more:
            freed(port)
        else:
            [loss] = losses(port)
            assert loss["kind"] == "session"
            assert f"-KL {port}" in loss["command_lines"][0]


def test_a_session_that_others_share(lab: Lab, daemon: Sshd) -> None:
    """ControlMaster in the foreground: other terminals' sessions go through it."""
    port, control = free_port(), f"{daemon.home}/control"
    forward = ("-L", f"127.0.0.1:{port}:127.0.0.1:{daemon.port}")
    master = daemon.options("-N", "-M", "-S", control, *forward)
    lab.command("ssh", *master, daemon.host)
    until_served(port)
    other = lab.command("ssh", *daemon.options("-S", control), daemon.host, "sleep 600")
    wait_until(lambda: collateral(port), "the other session is there")

    [loss] = losses(port)

    assert control in loss["text"]
    cancel = ["ssh", "-S", control, "-O", "cancel", "-L", forward[1], "localhost"]
    assert loss["commands"] == [cancel]
    subprocess.run(cancel, check=True, capture_output=True)
    wait_until(lambda: is_free(port), "the forward is cancelled, and nothing else")
    assert other.poll() is None


def collateral(port: int) -> list[dict[str, Any]]:
    who = ultra("who", "--json", "--no-docker", str(port))
    found: list[dict[str, Any]] = who.json["ports"][0]["holders"][0]["collateral"]
    return found


@pytest.mark.root
def test_a_server_of_many_services(lab: Lab, tmp_path: Path) -> None:
    inetd = shutil.which("inetd") or unavailable("inetd is missing")
    ports = [free_port() for _ in range(3)]
    for number, served in enumerate((ports[:2], ports[2:])):
        conf = tmp_path / f"inetd{number}.conf"
        conf.write_text(
            "".join(f"127.0.0.1:{port} stream tcp nowait root /bin/cat cat\n" for port in served)
        )
        lab.command(inetd, "-i", str(conf))
    for port in ports:
        until_served(port)

    [loss] = losses(ports[0])

    assert loss["kind"] == "registrants"
    assert not is_free(ports[1])
    freed(ports[2])
    assert stays_free(ports[2], 0.5)


@pytest.mark.root
def test_what_must_not_be_interrupted(lab: Lab) -> None:
    """A stand-in for systemd-logind: its directory, with a lock that the server holds."""
    folder, port = Path("/run/systemd/inhibit"), free_port()
    made = [each for each in (folder.parent, folder) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = Path(tempfile.mkdtemp(dir=folder)).name
    (folder / lock).rmdir()
    text = "WHAT=shutdown:sleep\nWHO=Copier\nWHY=Copying the archive\nMODE={}\n"
    try:
        (folder / f"{lock}.ref").touch()
        for mode in ("block", "delay"):
            (folder / lock).write_text(text.format(mode))
            lab.command(sys.executable, "-c", OPENS, str(port), str(folder / f"{lock}.ref"))
            until_served(port)
            if mode == "block":
                [loss] = losses(port)
                assert "Copying the archive" in loss["text"]
                freed(port, "--accept-loss")
            else:
                freed(port)
    finally:
        (folder / lock).unlink(missing_ok=True)
        (folder / f"{lock}.ref").unlink(missing_ok=True)
        for each in reversed(made):
            each.rmdir()
