"""A program that uses python_portpicker; says which ports it got, and stays until it is ended."""

from __future__ import annotations

import json
import os
import signal
import sys

import portpicker  # type: ignore[import-untyped]


def main() -> None:
    address, count = sys.argv[1], int(sys.argv[2])
    ports = [portpicker.get_port_from_port_server(address) for _ in range(count)]
    free = [bool(port and portpicker.is_port_free(port)) for port in ports]
    print(json.dumps({"pid": os.getpid(), "ports": ports, "free": free}), flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
