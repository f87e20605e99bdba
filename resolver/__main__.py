"""`python -m resolver` is `ultra-ports`."""

from __future__ import annotations

from resolver.cli import main

if __name__ == "__main__":
    main()
