"""`ultra-ports assign` in many checkouts at once; run as a program of its own.

    python -m tests.lab.checkout_race --kills 40 PLACE...

One child for each checkout, all of one process, which is quick to start, and let go together. Some
are killed at random moments by SIGKILL; their checkouts ask again. Prints one JSON object: how many
were killed, and what each checkout was told, by the order of its calls.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from resolver import cli
from resolver.cli import assign  # noqa: F401 - loaded once, for all children

ANSWER, SAID = "answer", "said"  # files in each checkout's git directory
LONGEST_GAP_SECONDS = 0.06


def spawn(place: Path, gate: int, opener: int | None = None) -> int:
    pid = os.fork()
    if pid == 0:
        if opener is not None:
            os.close(opener)
        os.read(gate, 1)  # until nobody has the other end any more
        os.chdir(place)
        for number, name in ((1, ANSWER), (2, SAID)):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            os.dup2(os.open(place.with_name(f"{place.name}.{name}"), flags, 0o600), number)
        sys.argv = ["ultra-ports", "assign", "--no-docker", "--format", "json"]
        status = 1
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            os._exit(status)
    return pid


def race(places: list[Path], kills: int) -> dict[str, object]:
    gate, opener = os.pipe()
    children = {spawn(place, gate, opener): place for place in places}
    os.close(opener)
    dice = random.Random(os.getpid())  # noqa: S311 - no secret
    killed, failed = 0, []
    while children:
        if kills:
            time.sleep(dice.uniform(0, LONGEST_GAP_SECONDS))
            os.kill(dice.choice(sorted(children)), signal.SIGKILL)
            kills -= 1
        while children:
            pid, status = os.waitpid(-1, os.WNOHANG if kills else 0)
            if pid == 0:
                break
            place = children.pop(pid)
            if os.WIFSIGNALED(status):
                killed += 1
                children[spawn(place, gate)] = place
            elif status:
                failed.append(place.with_name(f"{place.name}.{SAID}").read_text())
    told = {str(place): _answers(place) for place in places}
    return {"killed": killed, "failed": failed, "told": told}


def _answers(place: Path) -> list[int]:
    """The port in each answer that was printed as a whole."""
    text = place.with_name(f"{place.name}.{ANSWER}").read_text(encoding="utf-8")
    found, decoder = [], json.JSONDecoder()
    at = text.find("{\n")
    while at >= 0:
        try:
            answer, end = decoder.raw_decode(text, at)
        except ValueError:  # cut off by its death
            end = at + 1
        else:
            found.append(answer["services"][0]["port"])
        at = text.find('{\n  "schema"', end)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("places", type=Path, nargs="+")
    given = parser.parse_args()
    print(json.dumps(race(given.places, given.kills)))


if __name__ == "__main__":
    main()
