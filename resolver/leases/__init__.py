"""Leases on ports: who has which, for how long, and where that is kept."""
