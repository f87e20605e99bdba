"""Docker-aware port conflict resolver.

`resolve` frees ports and proves it; `who` says who holds them and touches nothing. Both return the
same frozen `Report` that the command line prints. `plan` and `apply` are `resolve` in two parts.
`health.check` asks whether services work. Names are loaded when first used, so importing the
package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Policy", "Report", "__version__", "apply", "health", "plan", "resolve", "who"]

if TYPE_CHECKING:
    from resolver import health
    from resolver.api import apply, plan, resolve, who
    from resolver.model import Policy, Report

_HOME = {
    **dict.fromkeys(("apply", "plan", "resolve", "who"), "api"),
    **dict.fromkeys(("Policy", "Report"), "model"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the module protocol's own signature
    """Loads a public name on first use (PEP 562)."""
    if name == "health":
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
