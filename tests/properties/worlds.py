"""Made-up machines for the planner: processes, sockets, containers and managers of any shape."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from resolver.model import (
    Account,
    Binding,
    Classification,
    Collateral,
    CollateralKind,
    Confidence,
    Container,
    Degree,
    Holder,
    Kind,
    Manager,
    Ownership,
    Pid,
    PortNumber,
    Process,
    ProcessIdentity,
    Respawn,
    SocketState,
    Transport,
    Whose,
)
from resolver.programs import ENGINES, FORWARDERS, SYSTEM

NAMES = ("python3", "node", "nginx", "java", "my server (v1", "")
bindings = st.builds(
    Binding,
    st.sampled_from(Transport),
    st.sampled_from(["0.0.0.0", "::", "127.0.0.1", "127.0.0.2", "::1"]),
    st.integers(8080, 8083).map(PortNumber),
)


@dataclass(frozen=True)
class World:
    """Classified holders, and the caller's own line."""

    classifications: tuple[Classification, ...]
    own: tuple[ProcessIdentity, ...]


@st.composite
def processes(draw: st.DrawFn) -> Process:
    """Any process, the untouchable among them too."""
    pid = draw(st.integers(0, 12))
    identity = ProcessIdentity(Pid(pid), draw(st.integers(0, 2)))
    name = draw(st.sampled_from([*NAMES, *sorted(FORWARDERS | ENGINES | SYSTEM)]))
    above = draw(st.lists(st.integers(1, 12), max_size=3))
    return Process(
        identity,
        name=name,
        command=draw(st.sampled_from([(), ("python3", "-m", "server"), ("a b", "$HOME")])),
        executable=draw(st.sampled_from([None, "/usr/bin/python3", "/usr/bin/docker-proxy"])),
        cwd=draw(st.sampled_from([None, "/srv/it's here"])),
        user=draw(st.sampled_from([None, "root"])),
        ancestors=tuple(ProcessIdentity(Pid(each), 0) for each in above),
        signalable=draw(st.booleans()),
    )


CONTAINERS = tuple(
    Container(letter * 64, name=f"web-{letter}", engine=engine, auto_remove=removed)
    for letter, engine, removed in (
        ("a", "unix:///var/run/docker.sock", False),
        ("b", "unix:///var/run/docker.sock", True),
        ("c", "", False),
    )
)
ANN = Account(501, 501, "ann", "/home/ann")
managers = st.builds(
    Manager,
    kind=st.sampled_from(["systemd", "supervisord"]),
    name=st.sampled_from(["web.service", "shop:web"]),
    policy=st.just("Restart=always"),
    stop=st.just((("systemctl", "stop", "web.service"),)),
    start=st.just((("systemctl", "start", "web.service"),)),
    prefix=st.sampled_from([(), ("sudo",)]),
    account=st.sampled_from([None, ANN]),
)


losses = st.builds(
    Collateral,
    st.sampled_from(CollateralKind),
    st.sampled_from(Degree),
    st.sampled_from(["9001/tcp", "a guest"]),
    shutdown=st.sampled_from(["", "SIGINT"]),
)


ownerships = st.builds(
    Ownership,
    st.sampled_from(Whose),
    project=st.just("shop"),
    place=st.sampled_from(["/work/a", "/work/b"]),
    leased=st.sampled_from(["", "api"]),
)


@st.composite
def classifications(draw: st.DrawFn, living: list[Process]) -> Classification:
    """Any holder, judged in any way: the planner's safety must not rest on the classifiers."""
    kind = draw(st.sampled_from(Kind))
    needy = kind in {Kind.LOCAL, Kind.SERVICE, Kind.BYSTANDER, Kind.ORPHAN}
    family = tuple(draw(st.lists(st.sampled_from(living), min_size=int(needy), max_size=3)))
    holder = Holder(
        draw(bindings),
        draw(st.sampled_from(SocketState)),
        processes=tuple(dict.fromkeys(family)),
        masters=tuple(process.identity for process in family[:1]),
        inodes=draw(st.frozensets(st.integers(1, 9), max_size=2)),
        container=draw(st.sampled_from(CONTAINERS)) if kind is Kind.CONTAINER else None,
        hidden="hidden" if kind is Kind.HIDDEN else None,
        handed_over=kind is Kind.BYSTANDER and draw(st.booleans()),
    )
    served = kind is Kind.SERVICE
    return Classification(
        holder,
        kind,
        respawn=draw(st.sampled_from(Respawn)),
        confidence=draw(st.sampled_from(Confidence)),
        manager=draw(managers) if served else None,
        runner=draw(st.sampled_from([None, *living])) if served else None,
        harm=draw(st.sampled_from(["", "others end with it"])) if served else "",
        waited=draw(st.sampled_from([None, *Kind])) if served else None,
        reason="a reason",
        collateral=tuple(draw(st.lists(losses, max_size=2))),
        ownership=draw(ownerships),
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A machine at one moment: a process has the same facts wherever it appears."""
    living = draw(
        st.lists(processes(), min_size=1, max_size=8, unique_by=lambda found: found.identity)
    )
    judged = draw(st.lists(classifications(living), max_size=6, unique_by=_what_is_held))
    own = draw(st.lists(st.sampled_from(living), min_size=1, max_size=3))
    return World(tuple(judged), tuple(process.identity for process in own))


def _what_is_held(judged: Classification) -> object:
    """One holder for each owner of each binding, as the gatherer makes them."""
    holder = judged.holder
    return holder.binding, holder.masters, holder.container, holder.state, judged.kind
