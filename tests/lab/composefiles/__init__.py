"""Compose files and `.env` files with everything that their grammars have: what is tried on both
the compose plug-in and our own reader."""
