"""Ports that systemd's units hold, in a booted systemd; the command runs inside it."""

from __future__ import annotations

import sys
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.cli import Run, holder
from tests.lab.ports import free_port
from tests.lab.processes import ROOT, stays, wait_until
from tests.lab.systemd import USER, service, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.systemd import Machine

pytestmark = [pytest.mark.systemd, pytest.mark.engine, pytest.mark.slow]

FAST = ("--settle", "0.3", "--grace", "2")


@dataclass(frozen=True, slots=True)
class Desk:
    """A machine, and the name and port that are this test's alone."""

    machine: Machine
    name: str
    port: int
    user: bool = False

    @property
    def unit(self) -> str:
        return f"{self.name}.service"

    @property
    def label(self) -> str:
        return f"{self.port}/tcp"

    @property
    def pid(self) -> int:
        """The main PID of the unit."""
        return self.machine.main_pid(self.unit, user=self.user)

    def serve(self, restart: str, command: str | None = None) -> int:
        """Writes and starts the unit; returns the PID that answers on the port."""
        self.machine.write(self.unit, service(self.port, restart, command), user=self.user)
        self.machine.systemctl("start", self.unit, user=self.user)
        return self.machine.wait_for(self.port)

    def resolve(self, *arguments: str) -> Run:
        env = USER if self.user else {}
        return self.machine.ultra("resolve", *FAST, "--json", *arguments, str(self.port), **env)

    def untouched(self, pid: int) -> bool:
        """True where the same process answers, now and for 2 s more."""
        return stays(lambda: self.machine.server(self.port) == pid)


@pytest.fixture
def desk(machine: Machine) -> Iterator[Desk]:
    """A unit of this test alone, stopped at the end."""
    name = f"lab-{uuid.uuid4().hex[:12]}"
    desk = Desk(machine, name, free_port())
    yield desk
    for kind in ("socket", "path", "timer", "target", "service"):
        machine.systemctl("stop", f"{name}.{kind}")
    machine.systemctl("stop", f"{name}.service", user=True)
    assert machine.is_free(desk.port)


def assert_advised(run: Run, desk: Desk, policy: str) -> dict[str, Any]:
    """Asserts an advisory about the desk's service; returns the holder."""
    assert run.status == 3, run.stdout + run.stderr
    assert run.port(desk.label)["verdict"] == "advised"
    found = holder(run, desk.label)
    assert (found["kind"], found["respawn"]) == ("service", "yes")
    assert found["manager"]["kind"] == "systemd"
    assert found["manager"]["name"] == desk.unit
    assert policy in found["manager"]["policy"]
    assert found["step"]["kind"] == "advise"
    stops = [line.partition(" stop ")[2].split() for line in found["step"]["command_lines"]]
    assert any(desk.unit in units for units in stops)
    return found


@pytest.mark.parametrize(
    ("restart", "tie", "flags"),
    [("no", "BindsTo", ()), ("always", "PartOf", ("--stop-services",))],
)
def test_what_systemd_stops_with_it_is_refused(
    desk: Desk, restart: str, tie: str, flags: tuple[str, ...]
) -> None:
    desk.serve(restart)
    tied = f"{desk.name}-tied.service"
    above = f"[Unit]\n{tie}={desk.unit}\nAfter={desk.unit}\n"
    desk.machine.write(tied, f"{above}[Service]\nExecStart=/usr/bin/sleep 1000\n")
    desk.machine.systemctl("start", tied)

    refused = desk.resolve(*flags)

    assert (refused.status, refused.port(desk.label)["verdict"]) == (3, "refused")
    (loss,) = holder(refused, desk.label)["collateral"]
    assert loss["text"] == f"what depends on {desk.unit}: {tied}"
    assert desk.machine.is_active(tied)
    assert desk.resolve("--accept-loss", *flags).status == 0
    wait_until(lambda: not desk.machine.is_active(tied), "systemd stops it, as was said")


@pytest.mark.parametrize("restart", ["always", "on-failure", "on-abnormal"])
def test_a_service_that_would_come_back_is_advised(desk: Desk, restart: str) -> None:
    pid = desk.serve(restart)
    assert pid == desk.pid

    found = assert_advised(desk.resolve(), desk, f"Restart={restart}")

    assert found["confidence"] == "confirmed"
    assert found["manager"]["stop"][0][-3:] == ["systemctl", "stop", desk.unit]
    assert found["manager"]["start"][0][-3:] == ["systemctl", "start", desk.unit]
    assert desk.untouched(pid)
    assert desk.pid == pid


def test_the_advice_is_printed(desk: Desk) -> None:
    pid = desk.serve("always")
    run = desk.machine.ultra("resolve", *FAST, str(desk.port))
    assert run.status == 3, run.stdout + run.stderr
    assert f"to free it: systemctl stop {desk.unit}" in run.stdout
    assert "Restart=always" in run.stdout
    assert desk.pid == pid


def test_the_advice_works(desk: Desk) -> None:
    desk.serve("always")
    found = assert_advised(desk.resolve(), desk, "Restart=always")
    stops, starts = found["manager"]["stop"], found["manager"]["start"]
    desk.machine.run(*(word for word in stops[0] if word != "sudo"))
    assert desk.machine.stays_free(desk.port)
    desk.machine.run(*(word for word in starts[0] if word != "sudo"))
    assert desk.machine.wait_for(desk.port)


def test_stop_services_stops_it(desk: Desk) -> None:
    desk.serve("always")

    run = desk.resolve("--stop-services")

    assert run.status == 0, run.stdout + run.stderr
    assert run.port(desk.label)["verdict"] == "freed"
    found = holder(run, desk.label)
    assert found["step"]["kind"] == "stop-service"
    assert found["outcome"]["result"] == "done"
    assert any(
        line.endswith(f"systemctl start {desk.unit}") for line in found["step"]["undo_lines"]
    )
    assert desk.machine.stays_free(desk.port)
    assert not desk.machine.is_active(desk.unit)


def test_a_dry_run_stops_nothing(desk: Desk) -> None:
    pid = desk.serve("always")
    run = desk.resolve("--stop-services", "--dry-run")
    assert run.status == 0, run.stdout + run.stderr
    assert run.port(desk.label)["verdict"] == "would-free"
    assert holder(run, desk.label)["step"]["kind"] == "stop-service"
    assert desk.untouched(pid)


def test_a_service_that_stays_down_is_ended(desk: Desk) -> None:
    desk.serve("no")

    run = desk.resolve()

    assert run.status == 0, run.stdout + run.stderr
    assert run.port(desk.label)["verdict"] == "freed"
    found = holder(run, desk.label)
    assert found["respawn"] == "no"
    assert any(f"systemctl start {desk.unit}" in line for line in found["step"]["undo_lines"])
    assert desk.machine.stays_free(desk.port)
    assert not desk.machine.is_active(desk.unit)


def test_a_server_in_a_shell_is_the_service_too(desk: Desk) -> None:
    pid = desk.serve("always", f"/bin/sh -c '{serving(desk.port)}; true'")
    main = desk.pid
    assert pid != main

    assert_advised(desk.resolve(), desk, "Restart=always")

    assert desk.untouched(pid)
    assert desk.pid == main


def test_a_guest_of_a_session_host_is_no_service(desk: Desk) -> None:
    """What cron runs is in cron.service, but is not the service.

    A shell plays cron here: it is called so, and a process of its own serves the port.
    """
    host = f"/var/lib/{desk.name}/cron"
    desk.machine.run("mkdir", "-p", f"/var/lib/{desk.name}")
    desk.machine.run("ln", "-s", "/bin/sh", host)
    pid = desk.serve("always", f"{host} -c '{serving(desk.port)} & sleep 1000'")
    main = desk.pid
    assert pid != main
    assert desk.machine.run("cat", f"/proc/{main}/comm") == "cron"

    run = desk.resolve()

    assert run.status == 0, run.stdout + run.stderr
    assert run.port(desk.label)["verdict"] == "freed"
    assert holder(run, desk.label)["kind"] == "local"
    assert desk.machine.stays_free(desk.port)
    assert desk.machine.is_active(desk.unit)
    assert desk.pid == main


@pytest.fixture
def activated(desk: Desk) -> Desk:
    """A socket unit that listens for a service which has not started yet."""
    command = f"{sys.executable} -B -S -m tests.lab.images.activated"
    desk.machine.write(desk.unit, f"[Service]\nExecStart={command}\nWorkingDirectory={ROOT}\n")
    desk.machine.write(f"{desk.name}.socket", f"[Socket]\nListenStream={desk.port}\n")
    desk.machine.systemctl("start", f"{desk.name}.socket")
    assert not desk.machine.is_free(desk.port)
    return desk


def assert_both_advised(run: Run, desk: Desk) -> None:
    """Asserts that one printed command stops the socket and the service."""
    assert run.status == 3, run.stdout + run.stderr
    report = run.port(desk.label)
    assert report["verdict"] == "advised"
    units = {f"{desk.name}.socket", desk.unit}
    for found in report["holders"]:
        assert found["kind"] == "service"
        assert any(units <= set(line.split()) for line in found["step"]["command_lines"])
        assert found["manager"]["kind"] == "systemd"


def test_a_socket_that_waits_for_its_service(activated: Desk) -> None:
    run = activated.resolve()

    assert_both_advised(run, activated)
    assert [each["pid"] for each in holder(run, activated.label)["processes"]] == [1]
    assert activated.pid == 0  # nothing connected to it, so nothing was started
    assert activated.machine.wait_for(activated.port)
    assert activated.pid


def test_a_socket_whose_service_runs(activated: Desk) -> None:
    pid = activated.machine.wait_for(activated.port)

    assert_both_advised(activated.resolve(), activated)

    assert activated.untouched(pid)


@pytest.mark.parametrize("running", [False, True])
def test_stop_services_stops_the_socket_and_its_service(
    activated: Desk,
    running: bool,  # noqa: FBT001
) -> None:
    machine = activated.machine
    if running:
        machine.wait_for(activated.port)

    run = activated.resolve("--stop-services")

    assert run.status == 0, run.stdout + run.stderr
    assert run.port(activated.label)["verdict"] == "freed"
    assert machine.stays_free(activated.port)
    assert not machine.is_active(f"{activated.name}.socket")
    assert not machine.is_active(activated.unit)
    assert machine.systemctl("is-system-running") in {"running", "degraded"}


@pytest.fixture
def own(desk: Desk) -> Desk:
    """The same, in the unit manager of the user."""
    machine = desk.machine
    machine.systemctl("start", "user@0.service")
    wait_until(
        lambda: machine.systemctl("is-system-running", user=True) in {"running", "degraded"},
        "the user's own systemd is up",
    )
    return Desk(machine, desk.name, desk.port, user=True)


def test_a_user_service_is_stopped_by_its_user(own: Desk) -> None:
    pid = own.serve("always")

    found = assert_advised(own.resolve(), own, "Restart=always")

    assert ["systemctl", "--user", "stop", own.unit] in found["manager"]["stop"]
    assert own.untouched(pid)

    run = own.resolve("--stop-services")

    assert run.status == 0, run.stdout + run.stderr
    assert own.machine.stays_free(own.port)
    assert not own.machine.is_active(own.unit, user=True)


def test_root_asks_another_users_systemd_as_that_user(desk: Desk) -> None:
    machine, uid = desk.machine, 65534
    machine.systemctl("start", f"user@{uid}.service")
    as_user = (
        "setpriv",
        f"--reuid={uid}",
        f"--regid={uid}",
        "--clear-groups",
        "systemctl",
        "--user",
    )

    def systemctl(*words: str) -> str:
        return machine.run(*as_user, *words, check=False, XDG_RUNTIME_DIR=f"/run/user/{uid}")

    wait_until(
        lambda: systemctl("is-system-running") in {"running", "degraded"}, "its systemd is up"
    )
    machine.write(desk.unit, service(desk.port, "always"), user=True)
    systemctl("daemon-reload")
    systemctl("start", desk.unit)
    machine.wait_for(desk.port)

    run = desk.resolve("--stop-services")

    assert run.status == 0, run.stdout + run.stderr
    (found,) = run.port(f"{desk.port}/tcp")["holders"]
    (action,) = found["outcome"]["actions"]
    run_as = f"sudo -u nobody env XDG_RUNTIME_DIR=/run/user/{uid}"
    assert action == f"{run_as} systemctl --user stop {desk.unit}"
    assert machine.stays_free(desk.port)
    assert systemctl("is-active", desk.unit) == "inactive"


def squat(desk: Desk) -> None:
    """Somebody has the port that the unit wants; systemd starts the unit again and again."""
    name = desk.machine.container.name
    server = ("/usr/bin/python3", "-m", "http.server", str(desk.port))
    desk.machine.container.engine("exec", "-d", name, *server)
    wait_until(lambda: not desk.machine.is_free(desk.port), "the port is taken")
    unit = service(desk.port, "always").replace("RestartSec=0", "RestartSec=30")
    desk.machine.write(desk.unit, unit, user=desk.user)
    desk.machine.systemctl("start", desk.unit, user=desk.user)
    wait_until(
        lambda: (
            desk.machine.systemctl("show", "-P", "SubState", desk.unit, user=desk.user)
            == "auto-restart"
        ),
        "the unit waits",
    )


def test_a_users_own_unit_that_waits_for_the_port_is_named(own: Desk) -> None:
    squat(own)

    run = own.resolve()

    found = assert_advised(run, own, "Restart=always")
    assert f"systemctl --user stop {own.unit}" in found["step"]["command_lines"][0]

    run = own.resolve("--stop-services")

    assert run.status == 0, run.stdout + run.stderr
    assert own.machine.stays_free(own.port)


def test_a_unit_that_waits_for_the_port_is_named(desk: Desk) -> None:
    squat(desk)

    run = desk.resolve()

    found = assert_advised(run, desk, "Restart=always")
    assert any("auto-restart" in fact for fact in found["evidence"])
    assert not desk.machine.is_free(desk.port)
    [squatter] = found["processes"]
    assert f"kill {squatter['pid']}" in found["step"]["command_lines"]

    run = desk.resolve("--stop-services")

    assert run.status == 0, run.stdout + run.stderr
    assert desk.machine.stays_free(desk.port)
    assert not desk.machine.is_active(desk.unit)


def test_a_way_in_that_waits_for_the_port_is_not_stopped(desk: Desk) -> None:
    way_in = replace(desk, name=f"sshd-{desk.port}")
    squat(way_in)

    run = way_in.resolve("--stop-services")

    assert run.status == 3, run.stdout + run.stderr
    found = holder(run, desk.label)
    [command] = found["step"]["command_lines"]
    assert command.startswith("kill ")
    assert f"{way_in.unit} of systemd (auto-restart) waits for this port" in found["step"]["why"]
    assert not desk.machine.is_free(desk.port)
    state = desk.machine.systemctl("show", "-P", "SubState", way_in.unit)
    assert state == "auto-restart"
    desk.machine.systemctl("stop", way_in.unit)
    desk.machine.container.engine("exec", desk.machine.container.name, *command.split())


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("path", "[Path]\nPathExists=/run/systemd\nMakeDirectory=no\n"),
        ("timer", "[Timer]\nOnActiveSec=1\nOnUnitInactiveSec=1\nAccuracySec=100ms\n"),
    ],
)
def test_what_starts_a_unit_is_named_and_stopped_with_it(desk: Desk, kind: str, text: str) -> None:
    trigger = f"{desk.name}.{kind}"
    desk.machine.write(trigger, text)
    desk.machine.write(desk.unit, service(desk.port, "no"))
    desk.machine.systemctl("start", trigger)
    desk.machine.wait_for(desk.port)

    run = desk.resolve()

    found = assert_advised(run, desk, f"activated by {trigger}")
    assert found["step"]["command_lines"] == [f"systemctl stop {trigger} {desk.unit}"]
    assert desk.machine.is_active(desk.unit)

    run = desk.resolve("--stop-services")

    assert run.status == 0, run.stdout + run.stderr
    assert desk.machine.stays_free(desk.port, 3)
    assert not desk.machine.is_active(trigger)


def test_a_unit_that_d_bus_starts_is_named(desk: Desk) -> None:
    """The file of the name is where D-Bus looks; the unit itself never gets on the bus."""
    name = f"org.lab.P{desk.port}"
    folder = "/run/dbus-1/system-services"
    desk.machine.run("mkdir", "-p", folder)
    text = f"[D-BUS Service]\nName={name}\nExec=/bin/false\nSystemdService={desk.unit}\n"
    desk.machine.run("tee", f"{folder}/{name}.service", stdin=text)
    unit = service(desk.port, "no").replace("[Service]\n", f"[Service]\nBusName={name}\n", 1)
    desk.machine.write(desk.unit, unit.replace("[Service]\n", "[Service]\nType=simple\n", 1))
    desk.machine.systemctl("start", desk.unit)
    desk.machine.wait_for(desk.port)

    assert_advised(desk.resolve(), desk, f"activated by D-Bus name {name}")


def test_a_unit_that_another_one_upholds_is_named(desk: Desk) -> None:
    version = int(desk.machine.run("systemctl", "--version").split()[1])
    assert version >= 249, "Upholds= came with it"
    desk.machine.write(f"{desk.name}.target", f"[Unit]\nUpholds={desk.unit}\n")
    desk.machine.write(desk.unit, service(desk.port, "no"))
    desk.machine.systemctl("start", f"{desk.name}.target")
    desk.machine.wait_for(desk.port)

    assert_advised(desk.resolve(), desk, f"upheld by {desk.name}.target")

    run = desk.resolve("--stop-services")

    assert run.status == 0, run.stdout + run.stderr
    assert desk.machine.stays_free(desk.port)


def test_the_way_back_of_a_transient_unit_is_its_command_line(desk: Desk) -> None:
    """systemd-run(1): the unit is gone with its end, and systemctl could not start it."""
    desk.machine.run(
        *("systemd-run", "--unit", desk.unit, f"--working-directory={ROOT}"),
        *serving(desk.port).split(),
    )  # fmt: skip
    desk.machine.wait_for(desk.port)

    run = desk.resolve()

    assert run.status == 0, run.stdout + run.stderr
    [undo] = holder(run, desk.label)["step"]["undo_lines"]
    assert "systemctl" not in undo
    desk.machine.run("sh", "-c", f"({undo} >/dev/null 2>&1 &)")
    server = desk.machine.wait_for(desk.port)
    desk.machine.run("kill", str(server))


IN_BACKGROUND = """/bin/sh -c '(setsid sh -c "while [ ! -e {go} ]; do sleep 0.1; done; \
{command} >{told}" &); exec {server}'"""


def test_what_its_own_unit_runs_is_refused_to_what_it_put_into_the_background(desk: Desk) -> None:
    """No ancestor of the command any more; systemd would end both, and start the server again."""
    go, told = f"/run/{desk.name}.go", f"/run/{desk.name}.json"
    command = f"{sys.executable} -B -m resolver resolve --force --json {desk.port}"
    server = serving(desk.port)
    script = IN_BACKGROUND.format(go=go, command=command, told=told, server=server)
    pid = desk.serve("always", script)
    assert pid == desk.pid

    desk.machine.run("touch", go)
    wait_until(lambda: desk.machine.run("cat", told, check=False).endswith("}"), "it has told")

    report = Run(3, desk.machine.run("cat", told), "").port(desk.label)
    assert report["verdict"] == "refused"
    assert f"this command runs in {desk.unit}" in report["reason"]
    assert report["holders"][0]["kind"] == "ancestor"
    assert desk.untouched(pid)
