"""`ultra-ports resolve`."""

from typing import Annotated, Any

import typer
from msgspec.structs import replace

from resolver import api
from resolver.cli import files, options
from resolver.cli.nearest import taken, with_nearest
from resolver.cli.output import NOTHING_LEFT, NOTHING_TO_FREE, show
from resolver.cli.progress import Terminal
from resolver.cli.stale import resolve_stale
from resolver.errors import UsageError
from resolver.leases import assigned
from resolver.model import Report, Whose
from resolver.project import names

EPILOG = options.EPILOG


def resolve(
    ports: options.Ports = None,
    everything: Annotated[
        bool, typer.Option("--all", help="The port of every service of the project file.")
    ] = False,
    standard: Annotated[str, typer.Option("--standard", hidden=True)] = "",
    dry_run: options.DryRun = False,
    plan_out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="As --dry-run; also write the plan, for `apply`. - is stdout."
        ),
    ] = None,
    json: options.Json = False,
    grace: options.Grace = options.DEFAULT.grace_seconds,
    settle: options.Settle = options.DEFAULT.settle_seconds,
    stop_services: options.StopServices = False,
    accept_loss: options.AcceptLoss = False,
    mine: options.Mine = False,
    anybody: options.Anybody = False,
    take: options.Take = False,
    stale: options.Stale = False,
    yes: options.Yes = False,
    force: options.Force = False,
    interactive: options.Interactive = False,
    no_docker: options.NoDocker = False,
    docker_timeout: options.DockerTimeout = options.DEFAULT.docker_timeout_seconds,
    compose: Annotated[
        bool, typer.Option("--compose", help="Also what others hold of a compose project's ports.")
    ] = False,
    file: options.Files = None,
    profile: options.Profiles = None,
    project: options.ComposeProject = "",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Examples:

    \b
      ultra-ports resolve 8085
      ultra-ports resolve 8085 5432/udp 127.0.0.1:9000 3000-3010
      ultra-ports resolve api frontend
      ultra-ports resolve --dry-run 8085
      ultra-ports resolve --stop-services 8085
      ultra-ports resolve --mine 8085 3000   spares what other checkouts hold
      ultra-ports resolve --stale            what deleted checkouts left behind
      ultra-ports resolve --plan-out plan.json 8085
      ultra-ports resolve --compose -f compose.yml

    Frees the ports, and proves it by binding them.
    """  # noqa: D415, D301 - a help text
    named = file or profile or project
    options.refuse(
        {
            "-f, --profile and --project go with --compose": named and not compose,
            "--mine and --anybody contradict each other": mine and anybody,
            "--json and --plan-out - both want stdout": json and plan_out == files.STREAM,
            "--stale finds the ports itself": stale
            and (ports or everything or compose or plan_out),
            "--yes goes with --stale": yes and not stale,
        }
    )
    wanted = options.wanted(ports, everything=everything)
    if standard and not (wanted or compose or stale):  # kill_api_ports: its name says what is meant
        wanted = names.or_standard([standard], assigned.current)
    if not (wanted or compose or stale):
        raise UsageError("no PORT was given", "ultra-ports resolve -h shows what can be")
    policy = options.policy(
        dry_run=dry_run,
        grace=grace,
        settle=settle,
        stop_services=stop_services,
        accept_loss=accept_loss,
        only_mine=mine or (not anybody and names.only_mine()),
        take=take,
        force=force,
        no_docker=no_docker,
        docker_timeout=docker_timeout,
    )
    plans = plan_out is not None
    with Terminal(asks=interactive) as terminal:
        if stale:
            report, plan = resolve_stale(terminal, policy, yes=yes, quiet=quiet or json), ""
        elif compose:
            from resolver.cli.compose import arguments_of, resolve_project

            about = arguments_of(file, profile, project)
            report, plan = resolve_project(about, wanted, terminal, policy, plans=plans)
        elif plans:
            report, plan = api.plan(*wanted, **policy)
        else:
            report, plan = api.resolve(*wanted, observer=terminal, **policy), ""
        if plan_out is not None and plan:
            files.save(plan, plan_out)
    heard = (json or not quiet) and not stale
    report = _allocated(report, policy, takes=take, names=heard, runs=not compose)
    show(
        report,
        json=json,
        quiet=quiet or (plans and plan_out == files.STREAM),
        verbose=verbose,
        again=_in_earnest(plan_out) if report.dry_run else (),
        nothing=NOTHING_LEFT if stale else NOTHING_TO_FREE,
    )
    return int(report.exit_status)


def _in_earnest(plan_out: str | None) -> tuple[str, ...]:
    """The command line that does what this dry run shows."""
    return options.in_earnest() if plan_out is None else ("ultra-ports", "apply", plan_out)


def _allocated(
    report: Report, policy: dict[str, Any], *, takes: bool, names: bool, runs: bool
) -> Report:
    """The report, when what it `takes` from another checkout is reserved for this one.

    Beside each port that stays held it `names` a free one.
    """
    found = [each.classification.ownership for port in report.ports for each in port.holders]
    takes = takes and any(each.whose is Whose.OTHER for each in found)
    held = [port.request for port in report.ports if names and port.verdict.stays_held]
    if not takes and not held:
        return report
    if takes:
        report = replace(report, notes=(*report.notes, *taken(report)))
    return with_nearest(report, held, use_docker=policy["use_docker"], runs=runs)
