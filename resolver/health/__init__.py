"""Port status as part of system health: who holds a port, is it the right one, does it answer."""

from __future__ import annotations

from resolver.health.checking import check

__all__ = ["check"]
