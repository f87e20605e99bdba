"""Leases on ports, holds that keep them in the kernel, and assignment that tells dependents."""
