"""Whether the version that is rolled out keeps what users of the live version rely on.

The load check compares the manifests of both in the store; what follows is decided here, by the objective as it is at
this moment, so a user who accepts a change needs no new run. No comparison is no pass.
"""

from __future__ import annotations

from typing import Final

from ...api.conditions import Finding, Reason, false, true, unknown
from ...api.objectives import Interface
from ...contract.reports import InterfaceReport

NOTHING_LIVE: Final = "no other version is live: nobody relies on another interface"
_ANYWAY: Final = (
    "keep it, or accept the change with spec.objectives.interface: Any and a new steeltown.dev/retry on the run"
)
_TOO_OLD: Final = "the checker image compares no interfaces: install images of the operator's version"


def interface_compatible(report: InterfaceReport | None, live: str, objective: Interface) -> Finding:
    """report: what the load check has found, None if its image is too old to look. live: digest of the live version."""
    if report is None:
        return _unknown(_TOO_OLD, objective)
    if report.live != live:
        return _unknown(f"compared with {report.live}, but {live} is live", objective)
    if report.problem:
        return _unknown(f"cannot be compared with the live version: {report.problem}", objective)
    if report.breaking or report.more:
        lines = "; ".join((*report.breaking, *([f"and {report.more} more"] if report.more else [])))
        if objective is Interface.ANY:
            return true(Reason.OBSERVED_ONLY, f"accepted by spec.objectives.interface: {lines}")
        return false(Reason.INTERFACE_CHANGED, f"{lines}: {_ANYWAY}")
    added = f": {'; '.join(report.notes)}" if report.notes else ""
    return true(Reason.INTERFACE_KEPT, f"nothing that users of the live version rely on has changed{added}")


def _unknown(why: str, objective: Interface) -> Finding:
    if objective is Interface.ANY:
        return true(Reason.OBSERVED_ONLY, f"any is accepted by spec.objectives.interface ({why})")
    return unknown(Reason.INTERFACE_UNKNOWN, why)
