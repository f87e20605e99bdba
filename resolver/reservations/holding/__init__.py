"""Keeping a port in the kernel, and running a program on it."""
