"""Every command, and what people type who know other tools. Data only: each <TAB> loads it."""

from __future__ import annotations

COMMANDS = {
    "who": ("who", "who holds ports, why, and what would free them"),
    "resolve": ("resolve", "free ports without doing harm, and prove it by binding them"),
    "apply": ("plan", "do what a plan file says, if no holder has changed since"),
    "preflight": ("compose", "what a compose project would publish, and what is in its way"),
    "up": ("up", "free a compose project's ports, start it, prove it answers"),
    "assign": ("assign", "give each service a port of its own, and tell .env files"),
    "run": ("run", "run a program on ports that are kept from others until then"),
    "reserve": ("reservations", "reserve a port for a service, so that nobody else takes it"),
    "release": ("reservations", "end reservations of this project"),
    "reservations": ("reservations", "what is reserved, for whom, and until when"),
    "env": ("env", "the port of a service for scripts, or .env.example"),
    "health": ("health", "who holds each service's port, and what it answers"),
    "wait": ("wait", "wait until ports answer or are free, and then run a program"),
    "watch": ("watch", "what happens to ports, as it happens"),
    "serve": ("serve", "a page, /healthz and /metrics"),
    "init": ("init", "write ultra-ports.toml, from the compose file or what listens now"),
    "config": ("config", "every setting, and where it came from"),
    "shell-init": ("shell", "clear_port and kill_api_ports for your shell"),
    "schema": ("schema", "the JSON Schema of what is printed, or of the project file"),
    "man": ("man", "the manual, for man(1)"),
    "mcp": ("mcp", "tools for agents on stdin and stdout"),
    "docker-plugin": ("docker_plugin", "make `docker ports` of this, or end that"),
}
"""In the order of the overview: the module, in which each is a function, and what it is for."""
GROUPS = {
    "Free ports": ("who", "resolve", "apply"),
    "Compose": ("preflight", "up"),
    "Assign and reserve": ("assign", "run", "reserve", "release", "reservations", "env"),
    "Health": ("health", "wait", "watch", "serve"),
}
"""The commands that the overview explains; it only names the others."""
MEANT = {
    **dict.fromkeys(("kill", "free", "stop", "clear", "rm"), "resolve"),
    **dict.fromkeys(("list", "ls", "ps", "show"), "who"),
    "status": "health",
}
"""What people who know other tools type, and the command that does it here."""
