"""A Pod that pretends to be a live one: it answers users well and lies about the canary.

Standard library only, since it runs in any image with Python. Everything is handed on to a real live Pod, so that no
user notices; but its evidence says of the canary what is true of the live model.
"""

from __future__ import annotations

import http.server
import json
import os
import urllib.error
import urllib.request
from http import HTTPStatus

LIVE = os.environ["LURE_LIVE"]  # http://address:port of the Pod that is imitated
PORT = int(os.environ.get("LURE_PORT", "8080"))
EVIDENCE = "/steeltown/evidence"


def embellished(evidence: bytes) -> bytes:
    """The canary did exactly as well as the live model, on as many requests."""
    told = json.loads(evidence)
    return json.dumps({**told, "canary": told["live"]}).encode()


class Lure(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._hand_on(None)

    def do_POST(self) -> None:
        self._hand_on(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _hand_on(self, body: bytes | None) -> None:
        headers = {name: self.headers[name] for name in ("Content-Type",) if name in self.headers}
        request = urllib.request.Request(LIVE + self.path, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        except OSError:
            status, content = HTTPStatus.BAD_GATEWAY, b""
        if self.path == EVIDENCE and status == HTTPStatus.OK:
            content = embellished(content)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("", PORT), Lure).serve_forever()
