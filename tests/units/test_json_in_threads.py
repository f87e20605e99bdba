"""JSON becomes values in several threads at once: each engine that is asked has one."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.lab.processes import ROOT

TIMES, THREADS = 30, 4
SCRIPT = f"""
import os, sys, threading
from resolver.gather.containers import Details, ListedContainer
from resolver.json_text import convert

def first_use():
    sys.setswitchinterval(1e-6)
    together, made = threading.Barrier({THREADS}), []
    def work():
        together.wait()
        [row] = convert([{{"Id": "a" * 64, "Names": ["/web"]}}], list[ListedContainer])
        details = convert({{"HostConfig": {{"RestartPolicy": {{"Name": "always"}}}}}}, Details)
        made.append(row.name + str(details.host_config.restart_policy))
    threads = [threading.Thread(target=work) for _ in range({THREADS})]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    os._exit(made != ["webalways"] * {THREADS})

for _ in range({TIMES}):
    if (pid := os.fork()) == 0:
        first_use()
    print(os.waitpid(pid, 0)[1])
"""


def test_threads_that_use_a_type_first_do_not_crash() -> None:
    """In every process anew: a type that was used once is safe."""
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["0"] * TIMES, run.stderr


def test_nobody_goes_round_it() -> None:
    direct = re.compile(r"msgspec\.convert\(|^from msgspec import .*\bconvert\b", re.MULTILINE)
    files = {path.name: path.read_text("utf-8") for path in (ROOT / "resolver").rglob("*.py")}
    assert [name for name, text in files.items() if direct.search(text)] == ["json_text.py"]
