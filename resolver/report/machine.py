"""The machine-readable envelope. Its shape is public API: `schema` changes when it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resolver import __version__
from resolver.shell import join, shell_line

if TYPE_CHECKING:
    from resolver.model import (
        Container,
        EngineState,
        HolderReport,
        Manager,
        Outcome,
        PortReport,
        Process,
        Report,
        Step,
    )

SCHEMA = "ultra-ports.report/1"


def envelope(report: Report) -> dict[str, Any]:
    """The report as plain values for `json.dumps`; keys are always present."""
    return {
        "schema": SCHEMA,
        "tool": {"name": "ultra-ports", "version": __version__},
        "command": report.command,
        "dry_run": report.dry_run,
        "exit_status": int(report.exit_status),
        "scan": report.scan,
        "engines": [_engine(engine) for engine in report.engines],
        "ports": [_port(port) for port in report.ports],
        "notes": list(report.notes),
    }


def _engine(engine: EngineState) -> dict[str, Any]:
    return {
        "endpoint": engine.endpoint,
        "asked": engine.asked,
        "trouble": engine.trouble,
        "elsewhere": engine.elsewhere,
    }


def _port(port: PortReport) -> dict[str, Any]:
    request = port.request
    return {
        "label": str(request),
        "request": {
            "port": request.port,
            "transport": request.transport,
            "address": request.address,
        },
        "services": list(port.services),
        "verdict": port.verdict,
        "reason": port.reason,
        "holders": [plain(holder) for holder in port.holders],
        "retaken_by": [plain(holder) for holder in port.retaken_by],
        "notes": list(port.notes),
    }


def plain(report: HolderReport) -> dict[str, Any]:
    """One holder for `json.dumps`; keys are always present."""
    found = report.classification
    holder = found.holder
    return {
        "binding": {
            "transport": holder.binding.transport,
            "address": holder.binding.address,
            "port": holder.binding.port,
        },
        "state": holder.state,
        "kind": found.kind,
        "manager": _manager(found.manager),
        "respawn": found.respawn,
        "confidence": found.confidence,
        "processes": [_process(process) for process in holder.processes],
        "container": _container(holder.container),
        "chain": list(found.chain),
        "evidence": list(found.evidence),
        "step": _step(report.step),
        "outcome": _outcome(report.outcome),
    }


def _manager(manager: Manager | None) -> dict[str, Any] | None:
    if manager is None:
        return None
    return {
        "kind": manager.kind,
        "name": manager.name,
        "policy": manager.policy,
        "stop": [join((*_prefix(manager), *argv)) for argv in manager.stop],
        "start": [join((*_prefix(manager), *argv)) for argv in manager.start],
    }


def _prefix(manager: Manager) -> tuple[str, ...]:
    return manager.account.prefix if manager.account else manager.prefix


def _process(process: Process) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "start_time": process.identity.start_time,
        "name": process.name,
        "command": list(process.command),
        "user": process.user,
        "cwd": process.cwd,
        "parent": process.parent.pid if process.parent else None,
    }


def _container(container: Container | None) -> dict[str, Any] | None:
    if container is None:
        return None
    return {
        "id": container.id,
        "name": container.name,
        "image": container.image,
        "state": container.state,
        "restart_policy": container.restart_policy,
        "compose_project": container.label("com.docker.compose.project"),
        "compose_service": container.label("com.docker.compose.service"),
    }


def _step(step: Step | None) -> dict[str, Any] | None:
    if step is None:
        return None
    return {
        "kind": step.kind,
        "why": step.why,
        "commands": list(map(shell_line, step.commands)),
        "undo": list(map(shell_line, step.undo)),
    }


def _outcome(outcome: Outcome | None) -> dict[str, Any] | None:
    if outcome is None:
        return None
    return {
        "result": outcome.result,
        "reason": outcome.reason,
        "actions": list(outcome.actions),
    }
