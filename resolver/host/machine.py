"""Which machine this is, and since when: PIDs, inodes and ports mean something only there."""

from __future__ import annotations

import platform

import psutil
from msgspec import Struct

from resolver.host.files import namespace_of, text_of

INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of linux/proc_ns.h
INITIAL_USER_NAMESPACE = "user:[4026531837]"  # PROC_USER_INIT_INO
_BOOT_ID = "/proc/sys/kernel/random/boot_id"  # proc_sys_kernel(5), random(4)


class Machine(Struct, frozen=True, forbid_unknown_fields=True):
    """The boot, and the namespaces in which PIDs and ports are counted; "" where there are none."""

    boot: str
    pid_namespace: str
    network_namespace: str


def this_machine() -> Machine:
    """The machine as this process sees it."""
    return Machine(_boot(), namespace_of("self", "pid"), namespace_of("self", "net"))


def _boot() -> str:
    """Changes with every boot; on Linux it is the kernel's own random id."""
    return text_of(_BOOT_ID).strip() or f"{platform.node()} {round(psutil.boot_time())}"
