"""Telling those who depend on a port: variables, files, values."""
