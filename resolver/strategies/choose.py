"""Choose a step for each holder. PURE: classifications and policy in, plan out.

The safety rules live here, and the property tests hold them: no plan ever signals PID 1, this
command, its ancestors, an engine, a forwarder, or what a manager would start again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.model import (
    AdviseStep,
    Classification,
    Collateral,
    CollateralKind,
    Command,
    Confidence,
    Degree,
    KillStep,
    Kind,
    Plan,
    Planned,
    PortRequest,
    Respawn,
    SocketState,
    StopContainerStep,
    StopServiceStep,
    Verdict,
    Whose,
)
from resolver.programs import OUTLIVING, ending_signal, hosts_somebody, untouchable
from resolver.strategies.merge import merged
from resolver.strategies.undo import all_started, container_started

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from resolver.model import Container, Manager, Policy, Process, ProcessIdentity, Step

_ADVISED = {
    Kind.ANCESTOR: Verdict.REFUSED,
    Kind.PROTECTED: Verdict.REFUSED,
    Kind.FORWARDER: Verdict.REFUSED,
    Kind.BYSTANDER: Verdict.REFUSED,
    Kind.REDIRECT: Verdict.ADVISED,
    Kind.HIDDEN: Verdict.HIDDEN,
    Kind.UNKNOWN: Verdict.UNDECIDED,
}
# A session may have come in through it: whatever manager runs it, nobody is locked out
_WAYS_IN = {CollateralKind.NETWORK, CollateralKind.ACCESS}
_NO_DATA = Collateral(CollateralKind.DATA, Degree.MENTIONED, "")
_RUNNER_SECONDS = 6.0  # honcho and foreman give what they run 5 s, and then kill it


def choose(
    classifications: Iterable[Classification], policy: Policy, own: Sequence[ProcessIdentity]
) -> Plan:
    """One step for each holder; holders that end together share it. The order of input is moot.

    `own` is the caller's own line, which is never signalled.
    """
    ordered = sorted(classifications, key=_key)
    chosen = [Planned(each, _step(each, policy, frozenset(own))) for each in ordered]
    return Plan(tuple(merged(chosen)))


def _key(each: Classification) -> tuple[object, ...]:
    holder = each.holder
    container = holder.container.id if holder.container else ""
    return holder.binding, holder.state, holder.masters, container, each.kind


def _step(each: Classification, policy: Policy, own: frozenset[ProcessIdentity]) -> Step:
    """The step for one holder; what would end more than the port becomes a refusal."""
    if (
        each.kind is Kind.SERVICE
        and each.holder.container is None
        and (way := _refused(each, _WAYS_IN))
    ):
        why = f"{each.reason}: {way.text}; a way in, or the network, is never stopped from here"
        return _advise(each, Verdict.REFUSED, why, ())
    step = _wanted(each, policy, own)
    if isinstance(step, AdviseStep):
        return step
    if why := _not_ours(each, policy):
        flag = "--take" if each.ownership.leased else "--anybody"
        insist = _resolve(each, flag, comment="ends it all the same")
        return _advise(each, Verdict.REFUSED, f"{each.reason}: {why}", (insist,))
    if ours := _refused(each, {CollateralKind.CALLER}):  # this very command: no flag allows that
        why = f"{each.reason}; would also end: {ours.text}"
        return _advise(each, Verdict.REFUSED, why, ours.commands)
    return step if policy.accept_loss else _lossless(each, step, policy)


def _refused(each: Classification, kinds: Collection[CollateralKind]) -> Collateral | None:
    """The first loss of these kinds for which nothing is ended."""
    found = (lost for lost in each.collateral if lost.kind in kinds)
    return next((lost for lost in found if lost.degree is Degree.REFUSED), None)


def _not_ours(each: Classification, policy: Policy) -> str:
    """Why it is left to another checkout; empty where it is not."""
    found = each.ownership
    if found.leased and found.whose is Whose.OTHER and not policy.take:
        return f"it runs under the living lease of {found}"
    if not policy.only_mine or found.whose is Whose.MINE:
        return ""
    if found.whose is Whose.OTHER:
        return f"--mine: it belongs to {found}, so left alone"
    return "--mine: not known to be this checkout's, so left alone"


def _lossless(
    each: Classification, step: KillStep | StopContainerStep | StopServiceStep, policy: Policy
) -> Step:
    """The same step, or a refusal where it would take what belongs to somebody else.

    A manager ends a database in that database's own way, but for one in a container.
    """
    own_way = isinstance(step, StopServiceStep) and not (step.then or step.contained)
    lost = [
        found
        for found in each.collateral
        if found.degree is Degree.REFUSED and not (found.kind is CollateralKind.DATA and own_way)
    ]
    if not lost:
        return step
    texts = "; ".join(dict.fromkeys(found.text for found in lost))
    serves = each.kind is not Kind.BYSTANDER  # of one that does not, no port can be taken off it
    narrower = tuple(dict.fromkeys(e for found in lost for e in found.commands if serves))
    why = f"{each.reason}; would also end: {texts}"
    if narrower:
        why += "; --accept-loss goes on all the same"
    return _advise(each, Verdict.REFUSED, why, narrower or (_accepting(each, policy),))


def _accepting(each: Classification, policy: Policy) -> Command:
    """What ends it all the same, with what the caller has allowed so far."""
    allowed = {"--stop-services": policy.stop_services, "--take": policy.take}
    allowed["--force"] = policy.force
    flags = (flag for flag, given in allowed.items() if given)
    return _resolve(each, "--accept-loss", *flags, comment="ends that, too")


def _resolve(each: Classification, *flags: str, comment: str) -> Command:
    """Another command line of ours for the same port."""
    port = str(PortRequest(each.holder.binding.port, each.holder.binding.transport))
    return Command(("ultra-ports", "resolve", *flags, port), comment)


def _wanted(each: Classification, policy: Policy, own: frozenset[ProcessIdentity]) -> Step:
    if each.kind is Kind.CONTAINER:
        return _container_step(each, policy)
    if each.kind is Kind.SERVICE and (
        each.respawn is not Respawn.NO or each.harm or each.holder.hidden
    ):
        return _service_step(each, policy, own)
    if each.kind not in {Kind.LOCAL, Kind.SERVICE, Kind.ORPHAN} and not _forced(each, policy):
        verdict = _ADVISED[each.kind]
        again = (_again(policy),) if verdict is Verdict.HIDDEN and policy.euid else ()
        return _advise(each, verdict, each.reason, (*each.commands, *again))
    return _spared(each, policy, own) or _kill_step(each, policy)


def _spared(
    each: Classification, policy: Policy, own: frozenset[ProcessIdentity]
) -> AdviseStep | None:
    """Why none of the processes may be ended, whatever the holder was judged to be."""
    family = (*each.respawners, *each.holder.processes)
    exempt = OUTLIVING if each.kind is Kind.ORPHAN else frozenset[str]()
    if any(found.identity in own or untouchable(found, exempt) for found in family):
        return _advise(each, Verdict.REFUSED)
    if host := next(filter(hosts_somebody, family), None):
        why = f"{host} has the socket open, and somebody's work runs in it"
        command = Command(("kill", str(host.pid)), "ends what runs in it, too")
        return _advise(each, Verdict.REFUSED, why, (command,))
    if all(process.signalable for process in family):
        return None
    users = sorted({found.user or "?" for found in family if not found.signalable})
    why = f"{each.reason} belongs to {', '.join(users)}; this user may not signal it"
    return _advise(each, Verdict.HIDDEN, why, (_again(policy),))


def _forced(each: Classification, policy: Policy) -> bool:
    """Whether the caller insists on ending the owner of a connection that uses the port."""
    using = each.kind is Kind.BYSTANDER and each.holder.state is SocketState.CONNECTED
    return using and policy.force and bool(each.holder.processes) and not each.holder.handed_over


def _kill_step(each: Classification, policy: Policy) -> KillStep:
    holder = each.holder
    masters = each.respawners[:1] or tuple(
        found for found in holder.processes if found.identity in holder.masters
    )
    undo = _commands(each.manager, each.manager.start, policy) if each.manager else ()
    data = _database(each)
    own_way = "" if each.respawners else data.shutdown
    shutdown = own_way or next(map(ending_signal, masters), "SIGTERM")
    return KillStep(
        bindings=(holder.binding,),
        shutdown=shutdown,
        lenient=_lenient(data),
        patience_seconds=data.patience_seconds,
        masters=masters,
        members=tuple(dict.fromkeys((*each.respawners, *holder.processes))),
        inodes=holder.inodes,
        respawners=frozenset(process.identity for process in each.respawners),
        why=each.reason
        if each.respawners or each.kind is Kind.BYSTANDER
        else f"{each.reason}: no service manager will restart it",
        undo=undo or tuple(all_started(each, masters, policy.euid)),
        commands=(_kill_command(masters, shutdown),),
    )


def _database(each: Classification) -> Collateral:
    """The data that has its own way down, where the holder serves any."""
    return next((found for found in each.collateral if found.shutdown), _NO_DATA)


def _lenient(data: Collateral) -> str:
    """Why nothing is killed after the grace; empty where it may be."""
    return f"{data.text} is not killed without --force" if data is not _NO_DATA else ""


def _kill_command(processes: Iterable[Process], shutdown: str) -> Command:
    flag = () if shutdown == "SIGTERM" else (f"-{shutdown.removeprefix('SIG')}",)
    return Command(("kill", *flag, *(str(found.pid) for found in processes)))


def _container_step(each: Classification, policy: Policy) -> Step:
    container = each.holder.container
    if container is None or not container.engine:
        if not each.holder.hidden:
            return _advise(each, Verdict.ADVISED)
        commands = (replace(every, argv=("sudo", *every.argv)) for every in each.commands)
        return _advise(each, Verdict.HIDDEN, each.reason, tuple(commands))
    stop = Command(container.command("stop"))
    if each.spared and not policy.force:
        why = f"{each.reason}: {each.spared}; --force stops it all the same"
        return _advise(each, Verdict.REFUSED, why, (stop,))
    return _container_stop(each, container)


def _container_stop(each: Classification, container: Container) -> StopContainerStep:
    data = _database(each)
    return StopContainerStep(
        bindings=(each.holder.binding,),
        container=container,
        why=f"{each.reason}: killing a process would not end it",
        patience_seconds=data.patience_seconds,
        lenient=_lenient(data),
        undo=container_started(container),
        commands=(Command(container.command("stop")),),
    )


def _again(policy: Policy) -> Command:
    """This very command line, with more privilege."""
    return Command(("sudo", *policy.rerun_command))


def _service_step(each: Classification, policy: Policy, own: frozenset[ProcessIdentity]) -> Step:
    manager = each.manager
    if manager is None:
        return _advise(each, Verdict.ADVISED)
    if each.waited:
        return _waited_step(each, manager, policy, own)
    stop = _commands(manager, manager.stop, policy)
    undo = _commands(manager, manager.start, policy)
    if each.holder.hidden:
        commands = (*stop, _again(policy)) if policy.euid else stop
        why = f"{each.reason}; {each.holder.hidden}"
        return _advise(each, Verdict.HIDDEN, why, commands, undo)
    confirmed = each.confidence is Confidence.CONFIRMED
    if policy.stop_services and each.runner and confirmed:
        runner = replace(each, respawners=(each.runner,))
        step = _kill_step(runner, policy)
        patience = max(_RUNNER_SECONDS, step.patience_seconds)
        why = f"{each.reason}: {each.harm}"
        return _spared(runner, policy, own) or replace(step, why=why, patience_seconds=patience)
    if policy.stop_services and manager.stop and confirmed:
        container = each.holder.container if each.client else None
        contained = _container_stop(each, container) if container else None
        return StopServiceStep(
            (each.holder.binding,), manager, each.reason, contained, undo=undo, commands=stop
        )
    verb = "may" if each.respawn is Respawn.UNKNOWN else "would"
    why = f"{each.reason}: {each.harm or f'{manager.kind} {verb} start it again'}"
    return _advise(each, Verdict.ADVISED, why, (*stop, *each.commands), undo)


def _waited_step(
    each: Classification, manager: Manager, policy: Policy, own: frozenset[ProcessIdentity]
) -> Step:
    """Stops the service that waits for the port, and then ends whoever has it."""
    bindings = (each.holder.binding,)
    stop = _commands(manager, manager.stop, policy)
    undo = _commands(manager, manager.start, policy)
    confirmed = each.confidence is Confidence.CONFIRMED
    if not (policy.stop_services and manager.stop and confirmed):
        first = "it waits for this port, which can be freed once it is stopped"
        commands = (*(replace(command, comment=first) for command in stop), *each.commands)
        return _advise(each, Verdict.ADVISED, each.reason, commands, undo)
    itself = replace(
        each, kind=each.waited or each.kind, respawn=Respawn.NO, manager=None, waited=None
    )
    then = _wanted(itself, policy, own)
    if not isinstance(then, (KillStep, StopContainerStep)):
        return then
    commands, undo = (*stop, *then.commands), (*undo, *then.undo)
    return StopServiceStep(bindings, manager, each.reason, None, then, undo, commands=commands)


def _commands(
    manager: Manager, argvs: Iterable[tuple[str, ...]], policy: Policy
) -> tuple[Command, ...]:
    """A manager's commands as this caller would type them."""
    prefix = manager.prefix if policy.euid else ()
    if manager.account is not None and manager.account.uid != policy.euid:
        prefix = manager.account.prefix
    return tuple(Command((*prefix, *argv)) for argv in argvs)


def _advise(
    each: Classification,
    verdict: Verdict,
    why: str = "",
    commands: tuple[Command, ...] | None = None,
    undo: tuple[Command, ...] = (),
) -> AdviseStep:
    """An advice in the classification's own words, where no others are given."""
    given = each.commands if commands is None else commands
    return AdviseStep((each.holder.binding,), verdict, why or each.reason, given, undo)


def without_vain_steps(plan: Plan, requests: Iterable[PortRequest]) -> Plan:
    """The same, with nothing ended for a port that somebody else would keep anyway.

    A step stays where any of the ports that it is for would be freed by it and its like.
    """
    useful: set[Step] = set()
    blockers: dict[Step, AdviseStep] = {}
    for request in requests:
        steps = [each.step for each in plan.planned if _is_in_the_way(each, request)]
        blocker = next((step for step in steps if isinstance(step, AdviseStep)), None)
        if blocker is None:
            useful.update(steps)
        else:
            blockers |= dict.fromkeys(steps, blocker)
    vain = {step: _vain(step, blocker) for step, blocker in blockers.items() if step not in useful}
    return Plan(tuple(replace(each, step=vain.get(each.step, each.step)) for each in plan.planned))


def _is_in_the_way(each: Planned, request: PortRequest) -> bool:
    """Whether a holder keeps a port that could not be bound; an engine's mapping does not."""
    holder = each.holder
    if holder.state in {SocketState.PUBLISHED, SocketState.REDIRECTED}:
        return False
    return request.meets(holder.binding, v6only=holder.v6only)


def _vain(step: Step, blocker: AdviseStep) -> Step:
    if isinstance(step, AdviseStep):
        return step
    why = f"left alone, since the port would still be held: {blocker.why}"
    return AdviseStep(step.bindings, blocker.verdict, why, step.commands)
