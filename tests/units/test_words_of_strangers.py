"""Names that others choose stay names: in commands that are run, and in lines that are pasted."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from resolver.classify import orchestrator, systemd
from resolver.errors import CommandFailedError
from resolver.host import trust
from resolver.host.runner import run_command
from resolver.model import (
    Account,
    Binding,
    Classification,
    Command,
    Completed,
    Container,
    Holder,
    KillStep,
    Kind,
    Manager,
    Pid,
    Policy,
    PortNumber,
    Process,
    ProcessIdentity,
    Respawn,
    Snapshot,
    SocketState,
    StopServiceStep,
    Transport,
)
from resolver.shell import shell_line
from resolver.strategies.choose import choose
from tests.lab.answers import always

if TYPE_CHECKING:
    from pathlib import Path

STRANGER = 65534


def process(pid: int, name: str = "python3", **facts: Any) -> Process:  # noqa: ANN401
    return Process(ProcessIdentity(Pid(pid), 7), name, ("python3", "x"), **facts)


def holding(found: Process, port: int) -> Holder:
    binding = Binding(Transport.TCP, "0.0.0.0", PortNumber(port))
    inodes = frozenset({port})
    return Holder(binding, SocketState.LISTENING, (found,), (found.identity,), inodes=inodes)


# --- in commands that are run ---------------------------------------------------------------------


def test_the_owner_of_a_pod_is_no_option_of_kubectl() -> None:
    owner = {"controller": True, "kind": "pod", "name": "--kubeconfig=/tmp/evil"}
    pod = {"metadata": {"uid": "u1", "ownerReferences": [owner]}}
    labels = (("io.kubernetes.pod.name", "web"), ("io.kubernetes.pod.uid", "u1"))
    container = Container("a" * 64, "k8s_x", engine="unix:///x", labels=labels)
    holder = Holder(
        Binding(Transport.TCP, "0.0.0.0", PortNumber(1)),
        SocketState.LISTENING,
        container=container,
    )
    asked = always(Completed(0, json.dumps(pod), ""))
    orchestrator.classify(holder, Snapshot(containers=(container,)), asked)
    assert asked.asked[0][0] == "kubectl"
    assert not any(word.startswith("--kubeconfig") for words in asked.asked for word in words)


def test_a_cgroup_is_no_option_of_systemctl() -> None:
    path = "/system.slice/web.service/--host=evil.service"
    found = process(42, cgroups=(path,), uid=1, uids=(1, 1, 1))
    asked = always(CommandFailedError("no"))
    systemd.classify(holding(found, 1), Snapshot(processes=(found,)), asked)
    assert not any(word.startswith("--host") for words in asked.asked for word in words)


@pytest.mark.parametrize("word", ["a\0b", "\ud800"])
def test_a_word_that_no_command_can_be_given(word: str) -> None:
    with pytest.raises(CommandFailedError):
        run_command(["true", word], timeout_seconds=5)


def test_a_program_is_not_checked_here_and_run_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ours", "theirs"):
        tool = tmp_path / name / "bin" / "tool"
        tool.parent.mkdir(parents=True)
        tool.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran-{name}\n", encoding="utf-8")
        tool.chmod(0o755)
    monkeypatch.chdir(tmp_path / "ours")
    with pytest.raises(CommandFailedError):
        run_command(["bin/tool"], timeout_seconds=5, folder=str(tmp_path / "theirs"))
    assert not list(tmp_path.glob("ran-*"))


# --- in paths -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/a\0b", "/\ud800", "/a\0b/c"])
def test_a_path_that_is_none_is_not_there(path: str) -> None:
    with pytest.raises(OSError, match="No such file"):
        trust.read_named(path, 0)
    assert trust.named_files(f"{path}/*.conf", 0) == []


@pytest.mark.parametrize("path", ["", "usr/bin"])
def test_a_path_from_nowhere_is_weak(path: str) -> None:
    assert trust.weakness(path)


@pytest.mark.root
def test_a_folder_for_everybody_is_weak_at_the_end_of_a_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert trust.weakness(str(tmp_path)) == ""
    tmp_path.chmod(0o1777)
    assert trust.weakness(str(tmp_path)) == f"everybody may write to {tmp_path}"
    assert trust.weakness(str(tmp_path / "file")) == ""


@pytest.mark.root
def test_a_descriptor_does_not_hide_whose_its_file_is(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    os.chown(file, STRANGER, -1)
    with file.open(encoding="utf-8") as opened:
        assert trust.weakness(f"/proc/self/fd/{opened.fileno()}")


@pytest.mark.root
def test_what_a_user_may_not_list_is_not_listed_for_him(tmp_path: Path) -> None:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "a.conf").touch()
    tmp_path.chmod(0o700)
    assert trust.named_files(f"{folder}/*.conf", 0) == [str(folder / "a.conf")]
    assert trust.named_files(f"{folder}/*.conf", STRANGER) == []
    link = tmp_path / "link"
    link.symlink_to(folder)
    os.chown(link, STRANGER, -1, follow_symlinks=False)
    assert trust.named_files(f"{link}/*.conf", 0) == []


# --- in lines that are pasted ---------------------------------------------------------------------


@pytest.mark.parametrize("word", ["if", "time", "!", "eval", "{", "[[", "A=1"])
@pytest.mark.parametrize("shell", [("/bin/bash",), ("/usr/bin/zsh", "-f")], ids=["bash", "zsh"])
def test_the_first_word_is_a_program(tmp_path: Path, shell: tuple[str, ...], word: str) -> None:
    program = tmp_path / "bin" / word
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf %s "$1"\n', encoding="utf-8")
    program.chmod(0o755)
    line = shell_line(Command((word, "touch x")))
    path = {"PATH": f"{program.parent}:/usr/bin:/bin"}
    subprocess.run([*shell, "-c", line], cwd=tmp_path, env=path, check=False, capture_output=True)
    assert not (tmp_path / "x").exists(), line


def test_zsh_expands_no_word() -> None:
    line = shell_line(Command(("printf", "%s", "=ls")))
    done = subprocess.run(["/usr/bin/zsh", "-f", "-c", line], capture_output=True, check=True)
    assert done.stdout == b"=ls"


def test_a_comment_runs_nothing_at_a_prompt_of_zsh(tmp_path: Path) -> None:
    line = shell_line(Command(("true",), comment="a; touch pwned"))
    typed = line.encode() + b"\n"
    subprocess.run(
        ["/usr/bin/zsh", "-fi"],
        input=typed,
        cwd=tmp_path,
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert list(tmp_path.iterdir()) == [], line


def test_half_a_character_can_be_printed() -> None:
    assert shell_line(Command(("kill", "\ud800"))).isprintable()


# --- in plans -------------------------------------------------------------------------------------


def test_units_of_two_users_with_one_name_are_two() -> None:
    ann, bob = Account(501, 501, "ann", "/home/ann"), Account(502, 502, "bob", "/home/bob")
    stop = (("systemctl", "--user", "stop", "web.service"),)
    found = [
        Classification(
            holding(process(pid), port),
            Kind.SERVICE,
            respawn=Respawn.YES,
            manager=Manager("systemd", "web.service", "always", stop=stop, account=account),
            reason="r",
        )
        for pid, port, account in ((11, 8080, ann), (12, 8081, bob))
    ]
    plan = choose(found, Policy(stop_services=True), ())
    accounts = [step.manager.account for step in plan.steps if isinstance(step, StopServiceStep)]
    assert accounts == [ann, bob]


def run_by(runner: Process, found: Process, port: int) -> Classification:
    manager = Manager("honcho", "web.1", "all", start=(("honcho", "start"),))
    return Classification(
        holding(found, port),
        Kind.SERVICE,
        respawn=Respawn.NO,
        manager=manager,
        runner=runner,
        harm="ends 7 too",
        reason="r",
    )


def test_whose_the_runner_is_that_may_not_be_signalled() -> None:
    runner = process(10, "honcho", user="ann", signalable=False)
    judged = run_by(runner, process(11, user="bob"), 8080)
    (step,) = choose([judged], Policy(stop_services=True, euid=501), ()).steps
    assert "belongs to ann" in step.why


def test_steps_that_end_one_runner_keep_its_patience() -> None:
    runner = process(10, "honcho")
    own = Classification(holding(runner, 8080), Kind.LOCAL, reason="a")
    (step,) = choose([own, run_by(runner, process(11), 8081)], Policy(stop_services=True), ()).steps
    assert isinstance(step, KillStep)
    assert step.respawners == {runner.identity}
    assert step.patience_seconds > 0
