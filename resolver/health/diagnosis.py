"""Who holds ports, without binding any for proof.

A server that is just being started, or started again, would fail on a port that is bound for a
moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver import api, pipeline, verdicts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.model import Policy, PortRequest, Report


def diagnosed(requests: Iterable[PortRequest], policy: Policy) -> Report:
    """The report of `who`, with each port once."""
    once = list(dict.fromkeys(requests))
    diagnosis = pipeline.diagnose(once, {}, policy, api.effects(None))
    ports = [verdicts.diagnosed(each, diagnosis, None, policy) for each in once]
    return verdicts.report("who", ports, diagnosis.snapshot)
