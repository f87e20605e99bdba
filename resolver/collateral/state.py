"""State in memory that somebody works with: kernels of notebooks.

Every kernel is started with the path of its connection file (jupyter-client.readthedocs.io,
"Connection files"), in whatever language it is written. Consoles are in `known.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.model import Collateral, CollateralKind, Degree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.collateral.family import Family

_CONNECTION_FILE = re.compile(
    r"(?:^|[/=])kernel-[\w.-]+\.json$|/jupyter/runtime/[^/]+\.json$|^ipykernel"
)


def lost(family: Family) -> Iterator[Collateral]:
    """The kernels among the holder's processes, and those that it has started."""
    for process in (*family.members, *family.below):
        word = next(filter(_CONNECTION_FILE.search, process.command), "")
        if word:
            yield Collateral(
                CollateralKind.STATE,
                Degree.REFUSED,
                f"the notebook kernel {process.pid} with all its variables",
                f"its command line names {word}",
            )
