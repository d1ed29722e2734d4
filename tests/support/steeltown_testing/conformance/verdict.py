"""Whether a server's answer to a case is what the case says: used by the tests and by the table of divergences."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import NamedTuple

from steeltown_testing.conformance.cases import STEELTOWN, Case
from steeltown_testing.conformance.target import Target
from steeltown_testing.conformance.wire import Body, send


class Verdict(NamedTuple):
    """state: passed, failed, or not offered (of an extension or a version that the server does not name)."""

    state: str
    reason: str = ""
    short: str = ""


PASSED = Verdict("passed")


def judge(case: Case, server: Target, levels: Collection[str], extensions: Collection[str]) -> Verdict:
    """At level STEELTOWN every extension is expected and every status must be the decided one."""
    ours = STEELTOWN in levels
    if case.extension and case.extension not in extensions and not ours:
        return Verdict("not offered", f"the server does not name the extension {case.extension}")
    if "{v}" in case.path and not server.version:
        return Verdict("not offered", "the server names no version")
    try:
        answer = send(server.url, case.method, server.path(case.path), case.body)
    except OSError as error:
        return Verdict("failed", f"no answer: {error!r}", "no answer")
    told = f"{answer.status} {answer.content[:200]!r}"
    if answer.status not in case.statuses or (ours and case.exact and answer.status != case.exact):
        return Verdict("failed", f"expected status {expected_status(case, ours=ours)}, got {told}", str(answer.status))
    try:
        case.check(answer)
    except (AssertionError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = "no JSON" if isinstance(error, json.JSONDecodeError) else f"{error}".split(", got ")[0]
        why = why if answer.content else "empty body"
        return Verdict("failed", f"{type(error).__name__} {error}: {told}", f"{answer.status}, {why}")
    return PASSED


def expected_status(case: Case, *, ours: bool) -> str:
    if ours and case.exact:
        return str(case.exact)
    statuses = case.statuses
    return f"{statuses.start}-{statuses.stop - 1}" if isinstance(statuses, range) else " or ".join(map(str, statuses))


def extensions_of(server: Target) -> list[str]:
    """Names that the server's metadata lists; none where there are no such metadata."""
    answer = send(server.url, "GET", "/v2", Body(b""))
    names: list[str] = answer.json.get("extensions", []) if answer.status == 200 else []
    return names
