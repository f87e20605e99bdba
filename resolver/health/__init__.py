"""Port status as part of system health: who holds a port, is it the right one, does it answer.

`check` asks once. It is loaded when it is first used, so importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["check"]

if TYPE_CHECKING:
    from resolver.health.checking import check


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the module protocol's own signature
    """Loads a public name on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("resolver.health.checking"), name)
