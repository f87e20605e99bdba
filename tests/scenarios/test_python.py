"""The package's own functions, which return what the command line prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import resolver
from resolver.errors import UsageError
from resolver.report.machine import envelope
from tests.lab.ports import free_port
from tests.lab.processes import answered_by

if TYPE_CHECKING:
    from tests.lab.processes import Lab


def test_python_resolve(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)

    report = resolver.resolve(port, grace_seconds=1, settle_seconds=0.3)

    assert report.exit_status == 0
    assert report.ports[0].verdict == "freed"
    [holder] = report.ports[0].holders
    assert holder.classification.holder.processes[0].pid == server.pid
    with pytest.raises(AttributeError):
        report.exit_status = 1  # type: ignore[assignment,misc]
    assert not server.alive
    assert lab.frees(port)


def test_python_who(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)

    report = resolver.who(str(port))

    assert (report.exit_status, report.ports[0].verdict) == (0, "held")
    assert envelope(report) == envelope(resolver.who(port))
    assert server.signals() == []
    assert answered_by(port) == server.pid


def test_python_errors(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)

    with pytest.raises(UsageError, match="65536"):
        resolver.resolve(port, 65536)
    with pytest.raises(UsageError, match="abc"):
        resolver.who("abc")

    assert answered_by(port) == server.pid
    assert server.signals() == []
