"""`python -m resolver`, and the entry point of `ultra-ports`."""

from __future__ import annotations

import gc
import sys

_OBJECTS = 100_000  # are made before anybody looks for cycles among them: modules leave none


def main() -> None:
    """Runs the command line; where Python can, what is not used is not loaded.

    `sys.set_lazy_imports` (PEP 810, Python 3.15) has to come before the imports that it is about.
    """
    if hasattr(sys, "set_lazy_imports"):
        sys.set_lazy_imports("all")
    gc.set_threshold(_OBJECTS)
    try:
        from resolver.cli import main as run

        run()
    except KeyboardInterrupt:  # while that is loaded: it tells of every later one itself
        sys.stderr.write("ultra-ports: interrupted\n")
        sys.exit(130)  # 128 + SIGINT
    finally:
        gc.freeze()  # what is left ends with the process: nobody looks at all of it once more


if __name__ == "__main__":
    main()
