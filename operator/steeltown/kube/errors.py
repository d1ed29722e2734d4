"""The few ways a request can fail that a controller treats differently.

HTTP status codes do not tell them apart: a 409 is a lost race or a name that is taken, and a failing
admission webhook answers 400, 403 or 500 although the webhook, not the API server, is what somebody has to
fix. `from_status` sorts by the Status object that the server sends, which says more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_REFUSALS: Final = frozenset({400, 403, 405, 413, 415, 422})


class ApiError(Exception):
    """A request that did not succeed. `status`: the HTTP code, 0 when no answer came."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class NotFound(ApiError):
    """No such object, or no such kind (a CustomResourceDefinition that is not installed)."""


class Expired(ApiError):
    """The resourceVersion or continue token is older than the server remembers: start the read again."""


class Conflict(ApiError):
    """The object is not the one that the precondition named (resourceVersion or uid)."""


class AlreadyExists(ApiError):
    """The name of a new object is taken."""


class Refused(ApiError):
    """The server or an admission webhook says no. The same request is refused again until somebody acts."""


class Transient(ApiError):
    """Worth trying again. `status` 0 or 504: the outcome is unknown, the write may have happened."""

    def __init__(self, message: str, *, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message, status=status)
        self.retry_after = retry_after


def from_status(*, code: int, body: Mapping[str, Any], retry_after: float | None = None) -> ApiError:
    """The error for an answer of HTTP `code` with a decoded Status object (or {} where there was none)."""
    message = str(body.get("message") or f"HTTP {code}")
    reason = str(body.get("reason") or "")
    if code == 404:
        return NotFound(message, status=code)
    if code == 410:
        return Expired(message, status=code)
    if code == 409:
        return AlreadyExists(message, status=code) if reason == "AlreadyExists" else Conflict(message, status=code)
    if code == 422 and _names_the_uid(body):
        # A patch that carries the uid of a predecessor: a precondition in all but its status code.
        return Conflict(message, status=code)
    # A webhook that denies, is down or hangs shows as any code; its name in the message is the constant.
    if code in _REFUSALS or "webhook" in message:
        return Refused(message, status=code)
    # 401 too: the token was rotated, the client reads it anew within a minute.
    return Transient(message, status=code, retry_after=retry_after or _suggested_delay(body))


def _names_the_uid(body: Mapping[str, Any]) -> bool:
    causes = (body.get("details") or {}).get("causes") or ()
    return any(cause.get("field") == "metadata.uid" for cause in causes)


def _suggested_delay(body: Mapping[str, Any]) -> float | None:
    seconds = (body.get("details") or {}).get("retryAfterSeconds")
    return float(seconds) if seconds else None
