"""As much of a Kubernetes API server as a real `kubectl port-forward pod/web` asks for.

It says that one pod runs, and accepts the upgrade to SPDY/3.1 by which kubectl reaches it; nothing
is ever forwarded. kubectl listens once the upgrade was accepted.
"""

from __future__ import annotations

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.lab.servers.common import ready

_POD = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"containers": [{"name": "web", "image": "web", "ports": [{"containerPort": 80}]}]},
    "status": {"phase": "Running"},
}
_RESOURCES = {
    "kind": "APIResourceList",
    "groupVersion": "v1",
    "resources": [
        {"name": name, "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get"]}
        for name, kind in (("pods", "Pod"), ("pods/portforward", "PodPortForwardOptions"))
    ],
}
_ANSWERS = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": _RESOURCES,
    "/version": {"major": "1", "minor": "20", "gitVersion": "v1.20.2"},
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        upgrade = self.headers.get("Upgrade", "").lower()
        if upgrade.startswith("spdy"):
            self._upgrade()
        elif upgrade:  # a websocket, which newer ones try first, and then fall back
            self.send_error(400)
        else:
            self._answer()

    do_POST = do_GET  # noqa: N815

    def _answer(self) -> None:
        body = json.dumps(_ANSWERS.get(self.path.partition("?")[0], _POD)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _upgrade(self) -> None:
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "SPDY/3.1")
        self.send_header("X-Stream-Protocol-Version", "portforward.k8s.io")
        self.end_headers()
        while self.rfile.read(1):
            pass
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--log")
    with ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Handler) as server:
        ready()
        server.serve_forever()


if __name__ == "__main__":
    main()
