"""Today's podman, in a folder with today's Debian: collected only where one is named."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("ULTRA_PORTS_TODAY") else ["test_*.py"]
