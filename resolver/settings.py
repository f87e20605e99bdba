"""Defaults, environment variables and the limits that keep a call bounded."""

from __future__ import annotations

from msgspec import Struct

ENVIRONMENT_VARIABLE = "ULTRA_PORTS_ENV"  # which [environments.NAME] of the project file applies
STATE_VARIABLE = "ULTRA_PORTS_STATE"  # the directory that reservations are kept in
STORE_VARIABLE = "ULTRA_PORTS_STORE"  # redis://...: a store that several machines share
SCOPE_VARIABLE = "ULTRA_PORTS_SCOPE"  # whose ports are meant: "machine" or "engine"
HOST_VARIABLE = "ULTRA_PORTS_HOST"  # this machine's name in scopes, where its own id will not do
ONLY_VARIABLE = "ULTRA_PORTS_ONLY"  # "mine": resolve ends nothing of other checkouts
LOG_VARIABLE = "ULTRA_PORTS_LOG"  # a level, or LEVEL:FILE
GATHERER_VARIABLE = "ULTRA_PORTS_GATHER"  # "psutil" takes the portable path, for tests
DEBUG_VARIABLE = "ULTRA_PORTS_DEBUG"  # anything: show the traceback of an internal error
LEASES_VARIABLE = "ULTRA_PORTS_LEASES"  # no setting: `run` gives it to its program


class Setting(Struct, frozen=True):
    """What a variable is for, its default, and a value for `.env.example`."""

    description: str
    example: str
    default: str = ""


SETTINGS = {
    ENVIRONMENT_VARIABLE: Setting(
        "which [environments.NAME] of the project file decides the ports", "staging"
    ),
    STATE_VARIABLE: Setting(
        "the directory that reservations are kept in", "~/.local/state/ultra-ports"
    ),
    STORE_VARIABLE: Setting(
        "a store of reservations that several machines share (ultra-ports[redis])",
        "redis://ci.example:6379/0",
    ),
    SCOPE_VARIABLE: Setting("whose ports are reserved: machine or engine", "engine", "machine"),
    HOST_VARIABLE: Setting(
        "this machine's name in a shared store, where its machine-id will not do", "runner-7"
    ),
    ONLY_VARIABLE: Setting("mine: resolve ends only what belongs to this checkout", "mine"),
    LOG_VARIABLE: Setting(
        "debug, info, warning or error, to stderr; LEVEL:FILE to a file", "debug"
    ),
    GATHERER_VARIABLE: Setting(
        "psutil: look at sockets and processes by the portable way (for tests)", "psutil"
    ),
    DEBUG_VARIABLE: Setting("anything: show the traceback of an internal error", "1"),
}
"""Every variable."""
COMMAND_TIMEOUT_SECONDS = 5.0  # a manager's own command, asked a question
SERVICE_TIMEOUT_SECONDS = 100.0  # systemd's DefaultTimeoutStopSec is 90 s
KILL_WAIT_SECONDS = 2.0  # from SIGKILL until the kernel has cleaned up
WATCH_INTERVAL_SECONDS = 0.05
PATIENCE_SECONDS = 30.0  # a manager whose stop command returns at once, while its service is ending
RELEASE_SECONDS = 2.0  # an engine lets go of a port shortly after it calls its container stopped
EXPLAINED_SHARE = 1 / 8  # of an engine's time, where a port is explained without it
LONGEST_SECONDS = 86_400  # for any time that the caller may choose
SHELL_SECONDS = 10.0  # a loop that a shell runs mostly sleeps for less between two servers
LONGER_SETTLE = 3  # times as long a watch for a port that was taken back: respawners back off
STORE_SECONDS = 10.0  # how long a store of reservations may be busy with others
LEASE_SECONDS = 120.0  # of a lease whose owner others cannot see alive: its owner renews it
RENEW_SECONDS = 30.0
ASSIGNMENT_DAYS = 30  # of what a checkout was assigned; each `assign` begins them anew
RESERVATION_SECONDS = 8 * 3600.0  # of a reservation that no living process owns
