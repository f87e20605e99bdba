"""A service whose client follows a container: the engine does not kill its data either."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from resolver.model import (
    AdviseStep,
    Binding,
    Classification,
    Collateral,
    CollateralKind,
    Container,
    Degree,
    Diagnosis,
    Holder,
    HolderReport,
    Kind,
    Manager,
    Outcome,
    Pid,
    Plan,
    Planned,
    Policy,
    PortNumber,
    PortRequest,
    Process,
    ProcessIdentity,
    Proof,
    Respawn,
    Result,
    SocketState,
    StopContainerStep,
    StopServiceStep,
    Transport,
)
from resolver.rounds import Round
from resolver.strategies.choose import choose
from resolver.strategies.merge import merged

BINDING = Binding(Transport.TCP, "0.0.0.0", PortNumber(8085))
V6 = replace(BINDING, address="::")
DB = Container("a" * 64, "db", engine="unix:///here", main_pid=7)
DATA = Collateral(
    CollateralKind.DATA,
    Degree.MENTIONED,
    "PostgreSQL",
    shutdown="SIGINT",
    patience_seconds=60.0,
)
SERVICE = Classification(
    Holder(BINDING, SocketState.PUBLISHED, container=DB),
    Kind.SERVICE,
    respawn=Respawn.YES,
    manager=Manager("runit", "db", "wanted up", stop=(("sv", "stop", "db"),)),
    client=Process(ProcessIdentity(Pid(9), 9), name="docker"),
    collateral=(DATA,),
    reason="container db, run by service db of runit",
)
ASKED = Policy(stop_services=True)


def test_the_engine_is_as_patient_as_with_any_database() -> None:
    [step] = choose([SERVICE], ASKED, ()).steps
    assert isinstance(step, StopServiceStep)
    assert step.contained is not None
    assert step.contained.patience_seconds == 60.0
    assert step.contained.lenient == "PostgreSQL is not killed without --force"


def test_a_transaction_in_it_is_not_the_managers_to_end() -> None:
    busy = replace(SERVICE, collateral=(replace(DATA, degree=Degree.REFUSED),))
    [step] = choose([busy], ASKED, ()).steps
    assert isinstance(step, AdviseStep)
    [accepted] = choose([busy], replace(ASKED, accept_loss=True), ()).steps
    assert isinstance(accepted, StopServiceStep)


@pytest.mark.parametrize("first", [0, 1])
def test_a_container_is_stopped_as_gently_as_any_of_its_ports_asks(first: int) -> None:
    plain = StopContainerStep((BINDING,), DB, "stop")
    gentle = StopContainerStep((V6,), DB, "stop", patience_seconds=60.0, lenient="no killing")
    steps = (plain, gentle) if first == 0 else (gentle, plain)
    joined = {planned.step for planned in merged([Planned(SERVICE, step) for step in steps])}
    [step] = joined
    assert isinstance(step, StopContainerStep)
    assert (step.lenient, step.bindings) == ("no killing", (BINDING, V6))


def test_who_runs_beside_a_container_makes_no_newcomer_of_it() -> None:
    request = PortRequest(PortNumber(8085))
    step = StopContainerStep((BINDING,), DB, "stop")
    judged = replace(SERVICE, kind=Kind.CONTAINER, manager=None)
    later = replace(DB, main_pid=8, beside=("web",), sharing=("tool",))
    again = replace(judged, holder=replace(judged.holder, container=later))
    this = Round(
        (request,),
        Diagnosis(plan=Plan((Planned(judged, step),))),
        {request: Proof(free=False, reason="in use")},
        outcomes=(Outcome(step, Result.DONE, "stopped", ()),),
        after=Diagnosis(plan=Plan((Planned(again, step),))),
    )
    assert isinstance(this.holders_after(request)[0], HolderReport)
    assert not this.has_newcomer(request)
