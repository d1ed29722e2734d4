"""How answers of the API server are sorted, by examples that a real one (1.36) gave."""

from __future__ import annotations

from typing import Any

import pytest
from steeltown.kube.errors import AlreadyExists, ApiError, Conflict, Expired, NotFound, Refused, Transient, from_status

UID_CAUSE = {"details": {"causes": [{"field": "metadata.uid", "message": "field is immutable"}]}}
CASES: list[tuple[str, int, dict[str, Any], type[ApiError]]] = [
    ("no such object", 404, {"reason": "NotFound", "message": 'pods "p" not found'}, NotFound),
    ("no such kind, answered without a Status", 404, {}, NotFound),
    ("expired continue token", 410, {"reason": "Expired"}, Expired),
    ("name taken", 409, {"reason": "AlreadyExists", "message": 'jobs "j" already exists'}, AlreadyExists),
    ("lost race", 409, {"reason": "Conflict", "message": "the object has been modified"}, Conflict),
    ("uid of a predecessor in a patch", 422, {"reason": "Invalid", **UID_CAUSE}, Conflict),
    ("invalid object", 422, {"reason": "Invalid", "message": "must be between 1 and 65535"}, Refused),
    ("quota", 403, {"reason": "Forbidden", "message": "exceeded quota: compute"}, Refused),
    ("policy", 422, {"reason": "Invalid", "message": "ValidatingAdmissionPolicy 'x' denied request"}, Refused),
    ("webhook denies", 400, {"message": 'admission webhook "a.b" denied the request: no'}, Refused),
    (
        "webhook is down",
        500,
        {"reason": "InternalError", "message": 'Internal error occurred: failed calling webhook "a.b": EOF'},
        Refused,
    ),
    ("webhook hangs", 504, {"message": 'failed calling webhook "a.b": context deadline exceeded'}, Refused),
    ("server error", 500, {"reason": "InternalError", "message": "etcdserver: leader changed"}, Transient),
    ("overload", 429, {"reason": "TooManyRequests"}, Transient),
    ("unavailable, from a proxy", 503, {}, Transient),
    ("token rotated", 401, {"reason": "Unauthorized"}, Transient),
]


@pytest.mark.parametrize(("code", "body", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_answer_is_sorted_by_what_to_do_about_it(code: int, body: dict[str, Any], expected: type[ApiError]) -> None:
    error = from_status(code=code, body=body)
    assert type(error) is expected
    assert error.status == code


def test_delay_asked_for_by_the_server_is_kept() -> None:
    by_header = from_status(code=429, body={}, retry_after=3.0)
    by_body = from_status(code=429, body={"details": {"retryAfterSeconds": 5}})
    assert isinstance(by_header, Transient)
    assert isinstance(by_body, Transient)
    assert (by_header.retry_after, by_body.retry_after) == (3.0, 5.0)
