"""Ports of a project's own: allocated, held in the kernel, and exported to what depends on them."""
