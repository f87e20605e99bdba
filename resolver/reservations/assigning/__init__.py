"""Choosing ports for the services of a project."""
