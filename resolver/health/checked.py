"""A check as the answer to whoever asks over HTTP: `serve`, and an application's own routes."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from resolver.errors import UltraPortsError
from resolver.health import public
from resolver.health.model import HealthReport
from resolver.json_text import encode
from resolver.report import health as report_health

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_SECONDS = 30.0  # for a check; probes may be slow, and an engine too


class Checked(Struct, frozen=True):
    """A check, or why it could not be made; `seconds` is how long it took."""

    report: HealthReport | None
    seconds: float
    error: str = ""
    exit_status: int = 1


def checked(check: Callable[[], HealthReport]) -> Checked:
    """Makes a check; what it raises on purpose is an answer too."""
    begun = time.monotonic()
    try:
        report = check()
    except UltraPortsError as error:
        return Checked(None, time.monotonic() - begun, str(error), int(error.status))
    return Checked(report, time.monotonic() - begun)


def late(seconds: float) -> Checked:
    """A check that is still under way."""
    return Checked(None, seconds, f"the check has not ended within {seconds:g} seconds")


def status(found: Checked) -> int:
    """The status of the response: 200 only where everything is known to be healthy."""
    healthy = found.report is not None and found.report.healthy
    return HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE


def body(found: Checked, *, details: bool) -> bytes:
    """The envelope of `health --json`; without `details` what everybody may see of it."""
    report = found.report or HealthReport(time.time(), (), (found.error,))
    if not details:
        report = public.report(report)
    envelope = report_health.envelope(report)
    if found.report is None:
        envelope = replace(envelope, healthy=False, exit_status=found.exit_status)
    return encode(envelope).encode() + b"\n"
