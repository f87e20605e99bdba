"""Reserving ports, holding them in the kernel, assigning them, and telling dependents."""
