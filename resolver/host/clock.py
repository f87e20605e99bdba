"""The real clock."""

from __future__ import annotations

import time


class SystemClock:
    """Monotonic time of this machine."""

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)
