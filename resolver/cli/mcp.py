"""`ultra-ports mcp`: the tools for agents, on stdin and stdout (modelcontextprotocol.io)."""

from __future__ import annotations

from resolver.errors import UsageError

EPILOG = """\b
Exit status:
  0  the client has left
  2  the package mcp is not installed"""


def mcp() -> int:
    """Examples:

    \b
      pip install 'ultra-ports[mcp]'
      ultra-ports mcp                     for the configuration of a client

    Serves tools for agents on stdin and stdout: who, health, reservations, plan, apply,
    assign, reserve, release. docs/integrations.md has configurations of clients.
    """  # noqa: D415, D301 - a help text
    try:
        from resolver.cli.mcp_server import server
    except ImportError as error:
        raise UsageError(
            "the package mcp is not installed", "pip install 'ultra-ports[mcp]'"
        ) from error
    server().run("stdio")
    return 0
