"""Defaults, environment variables and the limits that keep a call bounded."""

from __future__ import annotations

ENVIRONMENT_VARIABLE = "ULTRA_PORTS_ENV"  # which [environments.NAME] of the project file applies
GATHERER_VARIABLE = "ULTRA_PORTS_GATHER"  # "psutil" takes the portable path, for tests
COMMAND_TIMEOUT_SECONDS = 5.0  # a manager's own command, asked a question
SERVICE_TIMEOUT_SECONDS = 100.0  # systemd's DefaultTimeoutStopSec is 90 s
KILL_WAIT_SECONDS = 2.0  # from SIGKILL until the kernel has cleaned up
WATCH_INTERVAL_SECONDS = 0.05
PATIENCE_SECONDS = 30.0  # a manager whose stop command returns at once, while its service is ending
RELEASE_SECONDS = 2.0  # an engine lets go of a port shortly after it calls its container stopped
LONGEST_SECONDS = 86_400  # for any time that the caller may choose
LONGER_SETTLE = 3  # times as long a watch for a port that was taken back: respawners back off
