"""Port status as part of system health: who holds a port, is it the right one, does it answer."""
