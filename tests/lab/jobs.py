"""A real cron, or a real atd, in a mount namespace with spools and tables of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.lab.processes import MARK, unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.processes import Lab

# cron starts @reboot jobs at once where /run says that the machine has just started: here it has.
_CRON = """\
mount -t tmpfs none /run
mount -t tmpfs none /var/spool/cron
mount -t tmpfs none /etc/cron.d
mount --bind /dev/null /etc/crontab
mkdir -m 1730 /var/spool/cron/crontabs
install -m 600 "$1" /var/spool/cron/crontabs/root
exec cron -f
"""
_ATD = """\
mount -t tmpfs none /run
mount -t tmpfs none /var/spool/cron
install -d -o daemon -g daemon -m 1770 /var/spool/cron/atjobs /var/spool/cron/atspool
install -o daemon -g daemon -m 600 /dev/null /var/spool/cron/atjobs/.SEQ
exec atd -f
"""


class Jobs:
    """A daemon that starts jobs; `enter` is a command that runs another one in its namespace."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.popen = popen
        self.enter = ("nsenter", "--mount", "--target", str(popen.pid))

    @property
    def alive(self) -> bool:
        """True where the daemon has not ended."""
        return self.popen.poll() is None

    def at_now(self, job: str) -> None:
        """Hands a job to `at now`."""
        subprocess.run(
            [*self.enter, "at", "now"], input=job.encode(), check=True, capture_output=True
        )


@contextlib.contextmanager
def _daemon(lab: Lab, program: str, script: str, *arguments: str) -> Iterator[Jobs]:
    if os.geteuid() != 0:
        unavailable(f"{program} in a namespace of its own needs root")
    for needed in (program, "unshare", "nsenter"):
        if shutil.which(needed) is None:
            unavailable(f"{needed} is missing")
    words = ("unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh")
    popen = lab.command(*words, *arguments)
    try:
        yield Jobs(popen)
    finally:
        popen.kill()
        popen.wait()


@contextlib.contextmanager
def cron(lab: Lab, folder: Path, job: str, schedule: str = "@reboot") -> Iterator[Jobs]:
    """A cron with one job of root's; the job bears the lab's mark, and is reaped with it."""
    mark = lab.marked()[MARK]
    table = folder / "crontab"
    table.write_text(f"# a table\n{MARK}={mark}\n{schedule} {job}\n", encoding="utf-8")
    with _daemon(lab, "cron", _CRON, str(table)) as found:
        yield found


@contextlib.contextmanager
def atd(lab: Lab) -> Iterator[Jobs]:
    """An atd that waits for jobs."""
    with _daemon(lab, "atd", _ATD) as found:
        answers = ("test", "-e", "/run/atd.pid")
        wait_until(
            lambda: subprocess.run([*found.enter, *answers], check=False).returncode == 0,
            "atd is ready",
        )
        yield found
