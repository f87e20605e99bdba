"""What says of itself that it must not be interrupted: a lock of systemd-logind in the holder.

Whoever holds a descriptor of /run/systemd/inhibit/N.ref keeps the machine from being shut down
(systemd's "Inhibitor Locks"); the file N beside it says who, and why.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.host import trust
from resolver.host.descriptors import open_files
from resolver.model import Collateral, CollateralKind, Degree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.collateral.family import Family
    from resolver.model import Pid

_LOCK = r"(/run/systemd/inhibit/\w+)\.ref"
_NEAR = 2  # so many parents are looked at: systemd-inhibit → sh → server
_FIELD = r"(?m)^(WHAT|WHO|WHY|MODE)=(.*)$"


def lost(family: Family) -> Iterator[Collateral]:
    """What a lock against shutdown says; a mere delay, or a screen kept on, is none."""
    for pid in dict.fromkeys((*(each.pid for each in family.members), *_wrappers(family))):
        for _, target in open_files(pid):
            match = re.fullmatch(_LOCK, target)
            facts = dict(re.findall(_FIELD, trust.text_named(match[1], None))) if match else {}
            if "shutdown" in facts.get("WHAT", "").split(":") and facts.get("MODE") == "block":
                yield Collateral(
                    CollateralKind.STATE,
                    Degree.REFUSED,
                    f"what {facts.get('WHO', '?')} must not be interrupted in: {facts.get('WHY')}",
                    f"process {pid} holds a lock against shutdown ({target})",
                )
                return


def _wrappers(family: Family) -> list[Pid]:
    """systemd-inhibit(1) holds the lock for the program that it runs."""
    return [each.pid for each in family.above(_NEAR) if each.name == "systemd-inhibit"]
