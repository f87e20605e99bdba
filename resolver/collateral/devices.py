"""Machines and networks in the holder: /dev/kvm, and tun or tap interfaces (tuntap.rst)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.model import Collateral, CollateralKind, Degree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.collateral.family import Family

_KVM = {"/dev/kvm", "anon_inode:kvm-vm", "anon_inode:[kvm-vm]", "/dev/vboxdrv", "/dev/vmmon"}


def lost(family: Family) -> Iterator[Collateral]:
    """A virtual machine, and each network interface that goes with the holder."""
    kvm = next((each for each in family.descriptors if each.target in _KVM), None)
    if kvm is not None:
        yield Collateral(
            CollateralKind.MACHINE,
            Degree.REFUSED,
            "a virtual machine, as a power cut would",
            f"process {kvm.pid} has {kvm.target} open",
        )
    tuns = [each for each in family.descriptors if each.target == "/dev/net/tun"]
    for name in sorted({each.facts().get("iff", "") for each in tuns} - {""}):
        yield Collateral(
            CollateralKind.NETWORK,
            Degree.REFUSED,
            f"the network interface {name}, and what goes through it",
            "it has /dev/net/tun open",
        )
