"""Asks a program whether it is well, over HTTP(S) on this machine, with a time limit and without any proxy.

The certificates are not checked: the question goes to a port of this machine, and nothing secret is sent.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from pathlib import Path
from typing import Any

_SECONDS = 2.0  # an API server that is shutting down accepts connections for a minute without answering

_no_verification = ssl.create_default_context()
_no_verification.check_hostname = False
_no_verification.verify_mode = ssl.CERT_NONE


def https_ok(port: int, path: str, *, host: str = "127.0.0.1") -> bool:
    """Whether the path answers 200 over TLS."""
    return _ok(http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=_no_verification), path)


def http_ok(port: int, path: str, *, host: str = "127.0.0.1") -> bool:
    """Whether the path answers 200."""
    return _ok(http.client.HTTPConnection(host, port, timeout=_SECONDS), path)


def post_json(port: int, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a JSON body; raises OSError when there is none or it is not a 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise OSError(f"{path} answered {response.status}: {text.decode(errors='replace')}")
        answer: dict[str, Any] = json.loads(text)
        return answer
    except http.client.HTTPException as error:
        raise OSError(f"{path}: {error!r}") from error
    finally:
        connection.close()


def socket_ok(path: Path) -> bool:
    """Whether something accepts connections on a Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_SECONDS)
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True


def _ok(connection: http.client.HTTPConnection, path: str) -> bool:
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
