"""What everybody may see of a health report: a field that nobody has named is left out."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from resolver.health import public, tokens
from resolver.health.metrics import Readings, exposition
from resolver.health.model import Answer, HealthReport, Reach, ServiceHealth, Target
from resolver.json_text import encode
from resolver.leases.belonging import Belongs
from resolver.leases.model import Lease, Owner
from resolver.model import (
    Binding,
    Classification,
    Command,
    Container,
    Holder,
    HolderReport,
    KillStep,
    Kind,
    Manager,
    Outcome,
    Pid,
    PortNumber,
    PortRequest,
    Process,
    ProcessIdentity,
    Redirect,
    Result,
    SocketState,
    Transport,
)
from resolver.project.model import Probe
from resolver.report.health import envelope

PORT = PortNumber(8085)
WORD = "word"  # stands for every text: each is replaced by the name of its field
SHOWN = {
    *("Target.name", "Target.project", "Probe.kind", "Binding.address", "Answer.address"),
    *("Container.id", "Container.name", "Container.image", "Container.state"),
    *("Container.restart_policy", "Process.name", "Process.user", "Manager.kind", "KillStep.kind"),
}
IDENTITY = ProcessIdentity(Pid(7), 1)
PROCESS = Process(
    IDENTITY, WORD, (WORD,), WORD, WORD, WORD, 0, (0, 0, 0), (IDENTITY,), (WORD,), ((WORD, WORD),)
)
CONTAINER = Container(
    WORD, WORD, WORD, WORD, WORD, (), ((WORD, WORD),), WORD, WORD, sharing=(WORD,)
)
BINDING = Binding(Transport.TCP, WORD, PORT)
HOLDER = Holder(
    BINDING, SocketState.LISTENING, (PROCESS,), (IDENTITY,), CONTAINER,
    Redirect(Transport.TCP, 1, 2, WORD, WORD, (WORD,)), hidden=WORD, cgroup=WORD, peer=WORD,
)  # fmt: skip
COMMAND = Command((WORD,), WORD, WORD)
STEP = KillStep(
    (BINDING,), (PROCESS,), (PROCESS,), frozenset(), WORD, (COMMAND,), commands=(COMMAND,)
)
REPORT = HealthReport(
    1.0,
    (
        ServiceHealth(
            Target(WORD, PortRequest(PORT), Probe(WORD, WORD, WORD, (), (WORD,)), WORD, WORD, WORD),
            healthy=False,
            level=Reach.ACCEPTS,
            belongs=Belongs.OWN,
            reason=WORD,
            holders=(
                HolderReport(
                    Classification(
                        HOLDER, Kind.SERVICE,
                        manager=Manager(WORD, WORD, WORD, ((WORD,),), ((WORD,),)),
                        chain=(WORD,), evidence=(WORD,), reason=WORD, commands=(COMMAND,),
                        respawners=(PROCESS,), harm=WORD, spared=WORD,
                    ),
                    STEP,
                    Outcome(STEP, Result.DONE, WORD, (WORD,)),
                ),
            ),
            answers=(Answer(WORD, Reach.ACCEPTS, WORD),),
            lease=WORD,
            notes=(WORD,),
        ),
    ),
    (WORD,),
)  # fmt: skip
LEASE = Lease(
    1, WORD, PORT, Transport.TCP, WORD, WORD, WORD, WORD, Owner(WORD, WORD, Pid(7), 1), 1.0, None
)


def marked(value: Any, name: str = "") -> Any:  # noqa: ANN401 - any value
    """The same value with every text replaced by the class and field that it stands in."""
    if isinstance(value, tuple):
        return tuple(marked(each, name) for each in value)
    if isinstance(value, str) and not isinstance(value, Enum):
        return f"<{name}>"
    fields = getattr(type(value), "__annotations__", None)
    if fields is None or isinstance(value, Enum):
        return value
    kind = type(value).__name__
    return replace(
        value, **{each: marked(getattr(value, each), f"{kind}.{each}") for each in fields}
    )


def fields_in(text: str) -> set[str]:
    return set(re.findall(r"<(\w+\.\w+)>", text))


def test_a_report_has_what_is_named_and_nothing_else() -> None:
    whole, seen = marked(REPORT), public.report(marked(REPORT))
    every = fields_in(repr(whole))
    assert len(every) > 40
    assert every > SHOWN
    assert fields_in(encode(envelope(seen))) == SHOWN
    assert fields_in(repr(seen)) == SHOWN


def test_metrics_have_no_more() -> None:
    report, leases = public.report(marked(REPORT)), public.lease_counts([marked(LEASE)])
    shown = SHOWN | {"Lease.project"}
    assert fields_in(exposition(Readings(report, leases=leases))) < shown
    assert fields_in(repr(leases)) == {"Lease.project"}


@pytest.mark.parametrize(
    ("name", "place", "shown"),
    [("shop", "/srv/secret", "shop"), ("secret", "/srv/secret", ""), ("shop", "", "shop")],
)
def test_a_project_that_is_called_like_its_directory(name: str, place: str, shown: str) -> None:
    target = Target("api", PortRequest(PORT), project=name, place=place)
    service = ServiceHealth(target, None, Reach.HELD, Belongs.OWN)
    assert public.report(HealthReport(1.0, (service,))).services[0].target.project == shown
    assert [*public.lease_counts([replace(LEASE, project=name, place=place)])] == [(shown, False)]


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_one_token_is_right(token: bytes, given: bytes) -> None:
    assert tokens.is_right(token, given) is (token == given and bool(token))
    assert tokens.is_right(b"", given) is False
