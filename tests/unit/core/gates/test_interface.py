"""InterfaceCompatible: what is concluded from each comparison, and how it is told."""

from __future__ import annotations

import pytest
from steeltown.api.conditions import Reason
from steeltown.api.objectives import Interface
from steeltown.contract.reports import InterfaceReport
from steeltown.core.gates.interface import interface_compatible

LIVE = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
GONE, NEW = "output 'y' (FP32 [-1]) is gone", "output 'z' (FP32 [-1]) is new"
KEPT = "nothing that users of the live version rely on has changed"
ANYWAY = "keep it, or accept the change with spec.objectives.interface: Any and a new steeltown.dev/retry on the run"
TOO_OLD = "the checker image compares no interfaces: install images of the operator's version"
UNREAD = "cannot be compared with the live version: ManifestMissing: not found"
BOTH = f"compared with {OTHER}, but {LIVE} is live"


def report(*breaking: str, live: str = LIVE, **more: object) -> InterfaceReport:
    return InterfaceReport(live=live, breaking=breaking, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "status", "reason", "message"),
    [
        (report(), "True", Reason.INTERFACE_KEPT, KEPT),
        (report(notes=(NEW,)), "True", Reason.INTERFACE_KEPT, f"{KEPT}: {NEW}"),
        (report(GONE, notes=(NEW,)), "False", Reason.INTERFACE_CHANGED, f"{GONE}: {ANYWAY}"),
        (report(GONE, more=3), "False", Reason.INTERFACE_CHANGED, f"{GONE}; and 3 more: {ANYWAY}"),
        (report(more=3), "False", Reason.INTERFACE_CHANGED, f"and 3 more: {ANYWAY}"),
        (report(problem="ManifestMissing: not found"), "Unknown", Reason.INTERFACE_UNKNOWN, UNREAD),
        (report(live=OTHER), "Unknown", Reason.INTERFACE_UNKNOWN, BOTH),
        (report(GONE, live=OTHER), "Unknown", Reason.INTERFACE_UNKNOWN, BOTH),
        (None, "Unknown", Reason.INTERFACE_UNKNOWN, TOO_OLD),
    ],
)
def test_compatible(given: InterfaceReport | None, status: str, reason: Reason, message: str) -> None:
    assert tuple(interface_compatible(given, LIVE, Interface.COMPATIBLE)) == (status, reason, message)


@pytest.mark.parametrize(
    ("given", "reason", "message"),
    [
        (report(), Reason.INTERFACE_KEPT, KEPT),
        (report(GONE), Reason.OBSERVED_ONLY, f"accepted by spec.objectives.interface: {GONE}"),
        (
            report(problem="ManifestMissing: not found"),
            Reason.OBSERVED_ONLY,
            f"any is accepted by spec.objectives.interface ({UNREAD})",
        ),
        (None, Reason.OBSERVED_ONLY, f"any is accepted by spec.objectives.interface ({TOO_OLD})"),
    ],
)
def test_any_blocks_nothing_and_says_what_changed(given: InterfaceReport | None, reason: Reason, message: str) -> None:
    assert tuple(interface_compatible(given, LIVE, Interface.ANY)) == ("True", reason, message)
