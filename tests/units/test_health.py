"""Whose a port is, and what is seen and heard of it → how it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resolver
from resolver.compose.probe import Inside
from resolver.errors import UsageError
from resolver.health import belongs, evaluation, model
from resolver.health.model import Answer, HealthReport, Reach, Target
from resolver.health.targets import targets
from resolver.leases.belonging import Belongs
from resolver.leases.model import Lease, Owner
from resolver.leases.owner import Here
from resolver.model import (
    Binding,
    Classification,
    Container,
    Holder,
    HolderReport,
    Kind,
    Manager,
    Pid,
    PortNumber,
    PortReport,
    PortRequest,
    Process,
    ProcessIdentity,
    SocketState,
    Transport,
    Verdict,
)
from resolver.ownership import Viewpoint
from resolver.project.model import Probe
from resolver.report.health import envelope, table

if TYPE_CHECKING:
    from pathlib import Path

REQUEST = PortRequest(PortNumber(8085))
TARGET = Target("api", REQUEST, place="/srv/shop", project="shop")


def holder(**changes: Any) -> HolderReport:  # noqa: ANN401 - any field of a process or a holder
    facts: dict[str, Any] = {"cwd": "/srv/shop/api", "uid": 1000}
    ours = {key: changes.pop(key) for key in ("kind", "manager", "container") if key in changes}
    identity = ProcessIdentity(Pid(changes.pop("pid", 4711)), 1)
    process = Process(identity, "node", **(facts | changes))
    found = Holder(
        Binding(Transport.TCP, "127.0.0.1", PortNumber(8085)),
        SocketState.LISTENING,
        () if "container" in ours else (process,),
        container=ours.pop("container", None),
    )
    return HolderReport(Classification(found, ours.pop("kind", Kind.LOCAL), **ours))


def lease(**changes: Any) -> Lease:  # noqa: ANN401 - any field of a lease
    fields: dict[str, Any] = {
        "token": 1,
        "scope": "host:x",
        "port": PortNumber(8085),
        "transport": Transport.TCP,
        "address": None,
        "service": "api",
        "project": "shop",
        "place": "/srv/shop",
        "owner": None,
        "created_at": 0.0,
        "expires_at": None,
    }
    return Lease(**(fields | changes))


def asking(*leases: Lease) -> Viewpoint:
    return Viewpoint("", "", Here("boot", "pid:[1]", "host:x"), leases, str, str)


def owner(pid: int) -> Owner:
    return Owner("boot", "pid:[1]", Pid(pid), 1)


LABELS = (("com.docker.compose.project.working_dir", "/srv/shop"),)
ELSEWHERE = (("com.docker.compose.project.working_dir", "/srv/other"),)


@pytest.mark.parametrize(
    ("found", "leases", "expected"),
    [
        (holder(), [], Belongs.OWN),
        (holder(cwd="/srv/other"), [], Belongs.STRANGER),
        (holder(cwd="/srv/shopping"), [], Belongs.STRANGER),
        (holder(cwd="/"), [], Belongs.UNKNOWN),
        (holder(cwd=None), [], Belongs.UNKNOWN),
        (holder(cwd="/var/lib/redis", uid=107), [], Belongs.UNKNOWN),
        (
            holder(
                cwd="/var/db",
                kind=Kind.SERVICE,
                manager=Manager("systemd", "db.service", "Restart=always"),
            ),
            [],
            Belongs.UNKNOWN,
        ),
        (holder(cwd="/srv/other"), [lease(owner=owner(4711))], Belongs.OWN),
        (holder(cwd="/"), [lease(owner=owner(1))], Belongs.STRANGER),
        (holder(), [lease(owner=owner(1))], Belongs.OWN),
        (holder(cwd="/"), [lease(owner=owner(4711), place="/srv/other")], Belongs.STRANGER),
        (holder(container=Container("1", "web", "unix://", labels=LABELS)), [], Belongs.OWN),
        (
            holder(container=Container("1", "web", "unix://", labels=ELSEWHERE)),
            [],
            Belongs.STRANGER,
        ),
        (holder(container=Container("1", "web", "unix://")), [], Belongs.UNKNOWN),
    ],
)
def test_whose_it_is(found: HolderReport, leases: list[Lease], expected: Belongs) -> None:
    assert belongs.of_service(TARGET, [found], [], asking(*leases)) is expected


def test_of_several_holders_the_worst_counts() -> None:
    both = [holder(), holder(cwd="/srv/other")]
    assert belongs.of_service(TARGET, both, [], asking()) is Belongs.STRANGER
    assert belongs.of_service(TARGET, [], [], asking()) is Belongs.NOBODY


def test_a_data_server_works_where_its_data_are() -> None:
    found, good = holder(cwd="/home/me/data"), Answer("::1", Reach.SPEAKS, good=True)
    store = model.Target("api", REQUEST, Probe("redis"), "/srv/shop", "shop")
    assert belongs.of_service(store, [found], [good], asking()) is Belongs.UNKNOWN
    assert belongs.of_service(store, [found], [], asking()) is Belongs.STRANGER


def test_a_port_alone_is_whoever_leased_it() -> None:
    alone = Target("", REQUEST)
    taken = [lease(owner=owner(1))]
    assert belongs.of_service(alone, [holder()], [], asking()) is Belongs.UNKNOWN
    assert belongs.of_service(alone, [holder()], [], asking(*taken)) is Belongs.STRANGER
    assert belongs.of_service(alone, [holder(pid=1)], [], asking(*taken)) is Belongs.OWN


answers = st.lists(
    st.builds(
        Answer,
        address=st.sampled_from(["", "127.0.0.1", "::1"]),
        level=st.sampled_from([Reach.FREE, Reach.ACCEPTS, Reach.SPEAKS, Reach.UNKNOWN]),
        reason=st.sampled_from(["this", "that"]),
        good=st.booleans(),
    ),
    max_size=4,
).map(tuple)
reports = st.builds(
    PortReport,
    st.just(REQUEST),
    st.sampled_from([Verdict.FREE, Verdict.HELD, Verdict.HIDDEN, Verdict.UNDECIDED]),
    st.just("so it is"),
    st.sampled_from(
        [(), (holder(),), (holder(stopped=True),), (holder(cwd="\x1b[2J\u202e"), holder(pid=2))]
    ),
)
seen = st.sampled_from(
    [
        Inside(None),
        Inside(listens=True),
        Inside(listens=True, problem="takes none"),
        Inside(listens=False, problem="nothing listens"),
    ]
)


@given(answers, reports, seen, st.sampled_from(list(Belongs)), st.sampled_from(["", "far away"]))
def test_healthy_is_only_who_proved_it(
    heard: tuple[Answer, ...], report: PortReport, inside: Inside, whose: Belongs, away: str
) -> None:
    found = evaluation.evaluate(
        evaluation.Findings(TARGET, report, heard, inside, whose, away=away)
    )
    assert found.reason
    if found.healthy:
        connected = [each for each in heard if each.address and each.level in {"accepts", "speaks"}]
        assert connected
        assert all(each.good for each in connected)
        assert all(each.good for each in heard if not each.address)
        assert whose is not Belongs.STRANGER
        assert found.level in {Reach.ACCEPTS, Reach.SPEAKS}
    if found.level is Reach.FREE:
        assert not report.holders
        assert found.healthy is False
    whole = HealthReport(0.0, (found,))
    assert whole.healthy is (found.healthy is True)
    assert envelope(whole).healthy is whole.healthy
    printed = table(whole)
    assert all(line.isprintable() for line in printed.splitlines())


def test_ports_and_services_in_any_mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    text = '[services]\napi = { port = 8085, health = ["true"] }\nweb = 3000\n'
    (tmp_path / "ultra-ports.toml").write_text(text, encoding="utf-8")
    found = targets(["web,9000-9001", 22, "web", "api"], {"WEB_PORT": "3100"}).wanted
    assert [(each.name, str(each.request)) for each in found] == [
        *(("web", "3100/tcp"), ("", "9000/tcp"), ("", "9001/tcp"), ("", "22/tcp")),
        ("api", "8085/tcp"),
    ]
    assert found[-1].place == str(tmp_path)
    assert not found[-1].untrusted
    assert [each.name for each in targets([], {}).wanted] == ["api", "web"]
    [own] = targets(["api"], {}, Probe("tcp")).wanted
    assert own.probe == Probe("tcp")


def test_a_directory_that_everybody_may_write_to_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    file = tmp_path / "ultra-ports.toml"
    file.write_text('services.api = { port = 8085, health = ["true"] }', encoding="utf-8")
    tmp_path.chmod(0o1777)
    [found] = targets(["api"], {}).wanted
    assert "everybody may write" in found.untrusted
    [own] = targets(["api"], {}, Probe("command", command=("true",))).wanted
    assert own.untrusted == ""


@pytest.mark.parametrize("wanted", [["nobody"], [0], ["70000"], [""], ["8085,"], ["a b"]])
def test_bad_input(
    wanted: list[str | int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    with pytest.raises(UsageError):
        targets(wanted, {})


def test_it_is_there_for_python_callers() -> None:
    assert resolver.health.check is not None
    with pytest.raises(UsageError):
        resolver.health.check(8085, timeout_seconds=0)
