"""Machines, networks and hardware in the holder: what its descriptors of devices say.

A machine has /dev/kvm open, a VPN /dev/net/tun (tuntap.rst), a file system in user space /dev/fuse
(fuse(4)), whoever drives a printer or a board its serial line (ttyS(4)).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.host.files import text_of
from resolver.model import Collateral, CollateralKind, Command, Degree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.collateral.family import Descriptor, Family

_FUSE = "/dev/fuse"
_STANDARD = range(3)  # a console is everybody's standard input and output


class _Device(Struct, frozen=True):
    """A row: what the link of a descriptor looks like, and what is lost; `{}` is the device."""

    pattern: str
    kind: CollateralKind
    text: str
    degree: Degree = Degree.REFUSED
    written: bool = False  # only where it is open for writing


_DEVICES = (
    _Device(
        r"/dev/kvm|anon_inode:\[?kvm-vm\]?|/dev/vboxdrv|/dev/vmmon",
        CollateralKind.MACHINE,
        "a virtual machine, as a power cut would",
    ),
    _Device(
        r"/dev/watchdog\d*",
        CollateralKind.MACHINE,
        "this whole machine: nobody would feed its watchdog {}, and it reboots",
    ),
    _Device(
        r"/dev/(?:tty(?:USB|ACM|AMA|S|O|THS|mxc|XRUSB)|rfcomm)\d+",
        CollateralKind.DEVICE,
        "the work of what hangs on the serial line {}",
    ),
    _Device(
        r"/dev/(?:bus/usb/\d+/\d+|hidraw\d+|usb/lp\d+|lp\d+)",
        CollateralKind.DEVICE,
        "the work of the device {}",
    ),
    _Device(
        r"/dev/(?:nbd\d+|sd[a-z]+\d*|vd[a-z]+\d*|nvme\d+n\d+(?:p\d+)?|dm-\d+|mapper/(?!control).+"
        r"|md\d+|drbd\d+)",
        CollateralKind.DEVICE,
        "the disk {}, which it serves",
        written=True,
    ),
    _Device(
        r"/dev/video\d+|/dev/snd/pcm\w+c",
        CollateralKind.DEVICE,
        "what it records from {}",
        Degree.MENTIONED,
    ),
)


def lost(family: Family) -> Iterator[Collateral]:
    """A virtual machine, hardware, file systems, and each network interface of the holder."""
    for row in _DEVICES:
        found = {
            e.target: e for e in family.group.descriptors if re.fullmatch(row.pattern, e.target)
        }
        opened = [each for each in found.values() if _counts(row, each, family)]
        for each in opened[:1] if row.kind is CollateralKind.MACHINE else opened:
            evidence = f"process {each.pid} has {each.target} open"
            yield Collateral(row.kind, row.degree, row.text.format(each.target), evidence)
    yield from _file_systems(family)
    tuns = [each for each in family.group.descriptors if each.target == "/dev/net/tun"]
    for name in sorted({each.facts().get("iff", "") for each in tuns} - {""}):
        yield Collateral(
            CollateralKind.NETWORK,
            Degree.REFUSED,
            f"the network interface {name}, and what goes through it",
            "it has /dev/net/tun open",
        )


def _counts(row: _Device, opened: Descriptor, family: Family) -> bool:
    """Whether a device is in use, and not the terminal that the holder was started from."""
    standard = {
        each.target
        for each in family.group.descriptors
        if each.pid == opened.pid and each.number in _STANDARD
    }
    return opened.target not in standard and (not row.written or opened.writes)


def _file_systems(family: Family) -> Iterator[Collateral]:
    for each in family.group.descriptors:
        if each.target == _FUSE:
            mounts = _mounts(each)
            where = " or ".join(mounts) or "of its own"
            command = ("fusermount3", "-u", *mounts)
            yield Collateral(
                CollateralKind.DEVICE,
                Degree.REFUSED,
                f"the file system {where}, and what everybody has open there",
                f"process {each.pid} has {_FUSE} open",
                (Command(command, "takes it down in order"),) if len(mounts) == 1 else (),
            )
            return


def _mounts(opened: Descriptor) -> list[str]:
    """Where a FUSE connection is mounted; every place in question where the kernel does not say.

    proc_pid_mountinfo(5): the third field is `0:CONNECTION`, which fdinfo has since Linux 6.16.
    """
    connection = opened.facts().get("fuse_connection", "")
    lines = map(str.split, text_of(f"/proc/{opened.pid}/mountinfo").splitlines())
    fuse = [words for words in lines if "-" in words and _is_fuse(words)]
    found = [w for w in fuse if not connection or w[2].partition(":")[2] == connection]
    return list(dict.fromkeys(words[4] for words in found))


def _is_fuse(words: list[str]) -> bool:
    kind = words[words.index("-") + 1]
    return kind in {"fuse", "fuseblk"} or kind.startswith("fuse.")
