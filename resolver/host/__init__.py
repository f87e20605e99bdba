"""Adapters to this machine that more than one room needs: identity, commands, clock, engines."""
