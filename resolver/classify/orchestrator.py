"""Containers of Swarm, Kubernetes and Nomad: rescheduled elsewhere, or right here, when stopped.

Suspected from the labels that each of them leaves on its containers, confirmed by its own command
line. Only what it confirmed is ever run: a name that was guessed from labels could be another
cluster's. Sources: `docker service inspect`, Engine API 1.41 (ServiceSpec.Mode); Kubernetes'
pkg/kubelet/types/labels.go and the owner references of its API; Nomad's docker driver (`alloc_id`
always, the others by `extra_labels`) and `nomad alloc status -json`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from resolver.errors import CommandFailedError
from resolver.json_text import encode
from resolver.managed import alone, ask_json, ask_text
from resolver.model import Classification, Command, Confidence, Kind, Manager, Respawn
from resolver.programs import known_as, works_for_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.model import Container, EngineState, Holder, Snapshot
    from resolver.protocols import CommandRunner

_SERVICE, _SERVICE_NAME = "com.docker.swarm.service.id", "com.docker.swarm.service.name"
_NODE, _STACK = "com.docker.swarm.node.id", "com.docker.stack.namespace"
_POD, _POD_UID = "io.kubernetes.pod.name", "io.kubernetes.pod.uid"
_ALLOCATION, _JOB = "com.hashicorp.nomad.alloc_id", "com.hashicorp.nomad.job_id"
_SAME_WORK = (_SERVICE, _POD_UID, _ALLOCATION)  # who shares one of these is stopped together
_LABEL = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_SAFE = "[bcdfghjklmnpqrstvwxz2456789]"  # Kubernetes' alphabet of generated names
_GUESSES = (
    ("deployment", rf"(.+)-{_SAFE}{{6,10}}-{_SAFE}{{5}}"),
    ("statefulset", r"(.+)-\d+"),
    ("daemonset", rf"(.+)-{_SAFE}{{5}}"),
)

_Name = Annotated[str, Meta(pattern=rf"\A{_LABEL}\Z")]  # may become a word of a command


class _PublishedPort(Struct, frozen=True, rename="pascal"):
    """`Endpoint.Ports` of a service: a port of every node where the mode is `ingress`."""

    protocol: str = "tcp"
    target_port: int = 0
    published_port: int = 0
    publish_mode: str = "ingress"


class _Endpoint(Struct, frozen=True, rename="pascal"):
    ports: tuple[_PublishedPort, ...] = ()


class _Spec(Struct, frozen=True, rename="pascal"):
    name: str = ""
    mode: dict[str, dict[str, Any]] = {}


class _SwarmService(Struct, frozen=True, rename="pascal"):
    """An entry of `docker service inspect`."""

    spec: _Spec = _Spec()
    endpoint: _Endpoint = _Endpoint()


class _OwnerReference(Struct, frozen=True):
    kind: _Name
    name: _Name
    controller: bool = False


class _ObjectMetadata(Struct, frozen=True, rename="camel"):
    uid: str = ""
    owner_references: tuple[_OwnerReference, ...] = ()


class _Scale(Struct, frozen=True):
    replicas: Any = None


class _Object(Struct, frozen=True):
    """An object of Kubernetes' API."""

    metadata: _ObjectMetadata = _ObjectMetadata()
    spec: _Scale | None = None


class _NomadAllocation(Struct, frozen=True):
    """An allocation of Nomad's; a job's name begins like a name, and not like an option."""

    job: Annotated[str, Meta(pattern=r"\A[^-]")] = field(name="JobID")
    namespace: str | None = field(name="Namespace", default=None)


class _Work(Manager, frozen=True, kw_only=True):
    """What an orchestrator keeps running; `stop` is empty where it did not confirm that.

    `advice` is printed beside it, for somebody who knows better, or how to reach it.
    """

    evidence: str
    advice: tuple[Command, ...] = ()
    links: tuple[str, ...] = ()


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A container that would be replaced, or a port that Swarm publishes on every node."""
    container = holder.container
    if container is None:
        return _ingress(holder, snapshot, run)
    if container.foreign:  # another user's engine may say what it likes of root's clusters
        return None
    judges: tuple[tuple[str, Callable[[Container, CommandRunner], _Work]], ...] = (
        (_SERVICE_NAME, _swarm),
        (_POD, _kubernetes),
        (_ALLOCATION, _nomad),
    )
    for label, judge in judges:
        if _word(container, label):
            work = judge(container, run)
            return _own(holder, work, snapshot) or _classification(holder, work)
    return None


def _word(container: Container, label: str) -> str:
    """A label's value, where it is what an orchestrator would write there; else empty.

    Whoever starts a container chooses its labels: none of them becomes an option of a command.
    """
    value = container.label(label) or ""
    return value if re.fullmatch(_LABEL, value) else ""


def _own(holder: Holder, work: _Work, snapshot: Snapshot) -> Classification | None:
    """The very service, pod or allocation that this command runs in."""
    own, container = snapshot.home, holder.container
    if own is None or container is None:
        return None
    if not any(own.label(each) and own.label(each) == container.label(each) for each in _SAME_WORK):
        return None
    return Classification(
        holder,
        Kind.ANCESTOR,
        chain=_chain(holder, work),
        evidence=(f"container {own.name}, in which this command runs, has the same labels",),
        reason=f"{work.name} of {work.kind} is what this command runs in",
    )


def _classification(holder: Holder, work: _Work) -> Classification:
    confirmed = bool(work.stop or work.start)
    container = holder.container
    return Classification(
        holder,
        Kind.SERVICE,
        respawn=Respawn.YES,
        confidence=Confidence.CONFIRMED if confirmed else Confidence.SUSPECTED,
        manager=replace(
            alone(work), patience_seconds=container.stop_timeout_seconds if container else 0.0
        ),
        chain=_chain(holder, work),
        evidence=tuple(_evidence(holder, work)),
        reason=f"{work.name} of {work.kind} ({work.policy})",
        commands=work.advice,
    )


def _chain(holder: Holder, work: _Work) -> tuple[str, ...]:
    links = [str(holder.master)] if holder.master else []
    links += [f"container {holder.container.name}"] if holder.container else []
    return (*links, *work.links, work.name, work.policy, work.kind)


def _evidence(holder: Holder, work: _Work) -> Iterator[str]:
    yield work.evidence
    if holder.container:
        yield "`docker stop` would not hold: its orchestrator starts another one"
    if holder.master and works_for_engine(holder.master):
        yield f"{holder.master} forwards it for the engine, and is left alone"


# --- Swarm ----------------------------------------------------------------------------------------


def _swarm(container: Container, run: CommandRunner) -> _Work:
    client, name = container.client, _word(container, _SERVICE_NAME)
    stack = container.label(_STACK)
    links = (f"stack {stack}",) if stack else ()
    words = ("service", "inspect", _word(container, _SERVICE) or name)
    try:
        asked = (*client, *words, "--format", "{{json .Spec.Mode}}")
        mode = ask_json(run, asked, dict[str, Any])
    except CommandFailedError as error:
        advice = Command((*client, "service", "scale", f"{name}=0"), "on a manager")
        why = f"the service could not be asked about: {error}"
        return _Work("swarm", name, "replicas unknown", evidence=why, advice=(advice,), links=links)
    said = f"docker service inspect: {encode(mode, indent=None)}"
    work = replace(_scaled(client, name, mode, said), links=links)
    if work.stop:
        return work
    # Not scaled, one on each node: this node is left out. Waiting for that would never end.
    update = (*client, "service", "update", "--detach")
    rule = f"node.id!={_word(container, _NODE)}"
    stop, start = (("--constraint-add", rule), ("--constraint-rm", rule))
    return replace(work, stop=((*update, *stop, name),), start=((*update, *start, name),))


def _scaled(
    client: tuple[str, ...], name: str, mode: dict[str, dict[str, Any]], evidence: str
) -> _Work:
    """A service that is scaled to nothing and back; no `stop` where its mode has no number."""
    replicas = (mode.get("Replicated") or {}).get("Replicas")
    if not isinstance(replicas, int):
        return _Work("swarm", name, ", ".join(mode) or "mode unknown", evidence=evidence)
    scale = (*client, "service", "scale")
    stop, start = (*scale, f"{name}=0"), (*scale, f"{name}={replicas}")
    policy = f"replicas: {replicas}"
    return _Work("swarm", name, policy, (stop,), (start,) if replicas else (), evidence=evidence)


def _ingress(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A port of the routing mesh: dockerd itself holds it on every node, for no container there."""
    if holder.master is None or not known_as(holder.master, frozenset({"dockerd"})):
        return None
    for engine in snapshot.engines:
        if engine.error is None and not (engine.elsewhere or engine.foreign):
            for service, port in _mesh(engine, run):
                bound = (port.published_port, port.protocol)
                if bound == (holder.binding.port, holder.binding.transport):
                    return _classification(holder, _mesh_work(engine, service, port))
    return None


def _mesh(
    engine: EngineState, run: CommandRunner
) -> Iterator[tuple[_SwarmService, _PublishedPort]]:
    """The services that publish ports on every node, and which; none where it does not say."""
    try:
        ids = ask_text(run, (*engine.client, "service", "ls", "--quiet")).split()
        ids = [each for each in ids if re.fullmatch(_LABEL, each)]
        inspect = (*engine.client, "service", "inspect", *ids)
        services = ask_json(run, inspect, tuple[_SwarmService, ...]) if ids else ()
    except CommandFailedError:
        return
    for service in services:
        if re.fullmatch(_LABEL, service.spec.name):
            ports = service.endpoint.ports
            yield from ((service, port) for port in ports if port.publish_mode == "ingress")


def _mesh_work(engine: EngineState, service: _SwarmService, port: _PublishedPort) -> _Work:
    """Scaled to nothing where it can be; or its port is taken away, and it goes on without it.

    The latter is for the reader to choose: it takes every port away that leads to that one inside.
    """
    name = service.spec.name
    unpublish = Command(
        (*engine.client, "service", "update", "--publish-rm", str(port.target_port), name),
        f"it goes on without port {port.published_port}",
    )
    evidence = f"docker service inspect: port {port.published_port} of every node leads to it"
    work = _scaled(engine.client, name, service.spec.mode, evidence)
    return replace(work, advice=(unpublish,), links=("routing mesh",))


# --- Kubernetes -----------------------------------------------------------------------------------


def _kubernetes(container: Container, run: CommandRunner) -> _Work:
    pod = _word(container, _POD)
    kubectl = ("kubectl", "-n", _word(container, "io.kubernetes.pod.namespace") or "default")
    replicas: int | None = None
    try:
        kind, name, replicas = _owner(kubectl, pod, container.label(_POD_UID), run)
    except CommandFailedError as error:
        kind, name = _guess(container, pod)
        policy = "owner guessed"
        evidence = f"its labels name pod {pod}, and kubectl could not confirm it: {error}"
    else:
        policy = "not scaled" if replicas is None else f"replicas: {replicas}"
        evidence = f"kubectl get {kind} {name}: replicas {replicas}"
    scale = (*kubectl, "scale", f"{kind}/{name}")
    return _Work(
        "kubernetes",
        f"{kind}/{name}",
        policy,
        evidence=evidence,
        stop=() if replicas is None else ((*scale, "--replicas=0"),),
        start=((*scale, f"--replicas={replicas}"),) if replicas else (),
        advice=_take_away(kubectl, kind, name) if replicas is None else (),
        links=(f"pod {pod}",),
    )


def _owner(
    kubectl: tuple[str, ...], pod: str, uid: str | None, run: CommandRunner
) -> tuple[str, str, int | None]:
    """The topmost controller of a pod, whose ReplicaSet belongs to a Deployment, and its replicas.

    Raises:
        CommandFailedError: kubectl could not say, or knows another pod by this name.
    """
    kind, name = "pod", pod
    found = ask_json(run, (*kubectl, "get", kind, name, "-o", "json"), _Object)
    if found.metadata.uid != uid:
        raise CommandFailedError("it talks to another cluster, whose pod of this name is another")
    for _ in range(3):
        above = next((each for each in found.metadata.owner_references if each.controller), None)
        if above is None or above.kind == "Node":  # a static pod mirrors a file of its node
            break
        kind, name = above.kind.lower(), above.name
        found = ask_json(run, (*kubectl, "get", kind, name, "-o", "json"), _Object)
    replicas = found.spec.replicas if found.spec else None
    return kind, name, replicas if isinstance(replicas, int) else None


def _guess(container: Container, pod: str) -> tuple[str, str]:
    """The owner as the name of its pod tells it, by the way in which names are generated."""
    generation = _word(container, "pod-template-hash")
    if generation and f"-{generation}-" in pod:
        return "deployment", pod.rpartition(f"-{generation}-")[0]
    for kind, guess in _GUESSES:
        if match := re.fullmatch(guess, pod):
            return kind, match[1]
    return "pod", pod


def _take_away(kubectl: tuple[str, ...], kind: str, name: str) -> tuple[Command, ...]:
    if kind in {"deployment", "statefulset", "replicaset"}:
        return (Command((*kubectl, "scale", f"{kind}/{name}", "--replicas=0")),)
    return (Command((*kubectl, "delete", f"{kind}/{name}"), "its manifest brings it back"),)


# --- Nomad ----------------------------------------------------------------------------------------


def _nomad(container: Container, run: CommandRunner) -> _Work:
    allocation = _word(container, _ALLOCATION)
    links = (f"allocation {allocation[:8]}",)
    try:
        found = ask_json(run, ("nomad", "alloc", "status", "-json", allocation), _NomadAllocation)
    except CommandFailedError as error:
        job = _word(container, _JOB) or _word(container, "com.hashicorp.nomad.job_name")
        why = f"its labels name allocation {allocation}, and nomad could not confirm it: {error}"
        known = Command(("nomad", "job", "stop", job or "JOB"))
        look = Command(("nomad", "alloc", "status", allocation), "names its job")
        advice = (known,) if job else (look, known)
        name = job or f"allocation {allocation[:8]}"
        return _Work("nomad", name, "job unconfirmed", evidence=why, advice=advice, links=links)
    namespace = found.namespace or "default"
    words = (*(() if namespace == "default" else (f"-namespace={namespace}",)), found.job)
    return _Work(
        "nomad",
        found.job,
        "rescheduled, as `nomad alloc stop` would do too",
        evidence=f"nomad alloc status: job {found.job}",
        stop=(("nomad", "job", "stop", *words),),
        start=(("nomad", "job", "start", *words),),
        links=links,
    )
