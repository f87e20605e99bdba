"""Port status as part of system health: who holds a port, is it the right one, does it answer.

`check` asks once. It is loaded when it is first used: who only watches needs no asyncio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["check"]

if TYPE_CHECKING:
    from resolver.health.checking import check


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the module protocol's own signature
    """Loads a public name on first use (PEP 562)."""
    if name in __all__:
        from resolver.health import checking

        return getattr(checking, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
