"""The last word on the newest run: one row for each answer, and what goes before what."""

from __future__ import annotations

from typing import Any

import pytest
from steeltown.api.mlmodel import Phase, RolloutFinding
from steeltown.core.status import Standing
from steeltown.core.status.verdict import verdict
from steeltown_testing.standings import GATES, history, model, outcome, rollout, run, standing

FIRST, GOOD = run("m-v1"), run("m-v2")
TRAINING = run("m-v3", made=False, ready=("Unknown", "Training", "running the trainer"))
FAILED = run("m-v3", made=False, failed=True, ready=("False", "TrainerFailed", "boom"))
TOO_BAD = run("m-v2", gates={**GATES, "QualityAccepted": ("False", "QualityBelowMinimum", "0.6")})
UNPROVEN = run("m-v2", gates={**GATES, "QualityAccepted": ("Unknown", "QualityInconclusive", "more rows")})
NOT_MEASURED = run("m-v2", gates={})


def shown(status: Any, message: str) -> list[RolloutFinding]:
    return [RolloutFinding(type="CanaryPassed", status=status, reason="X", message=message)]


def ended(result: str, reason: str, message: str) -> Any:
    return run("m-v2", outcome=outcome("m-v2", result, reason, message))


def production(*runs: Any, held: tuple[str, str] | None = None, **more: Any) -> Standing:
    return standing(model(FIRST, *runs, **{"stage": "Production", "live": "m-v1", **more}), held=held)


def flying(phase: Phase, *runs: Any, held: tuple[str, str] | None = None, **more: Any) -> Standing:
    return production(GOOD, *runs, in_flight=rollout("m-v2", phase, **more), held=held)


BACK: dict[str, Any] = {"ending": "RolledBack", "reason": "ErrorRateTooHigh", "message": "20 of 40 failed"}
TABLE: dict[str, tuple[Standing, tuple[str, str, str, str] | None]] = {
    "no run": (standing(model()), None),
    "rejected just now": (
        flying(Phase.ROLLING_BACK, **BACK),
        ("m-v2", "Fail", "ErrorRateTooHigh", "20 of 40 failed"),
    ),
    "withdrawn just now": (
        flying(Phase.ROLLING_BACK, ending="Withdrawn", reason="Withdrawn", message="no longer Production"),
        ("m-v2", "Unknown", "Withdrawn", "no longer Production"),
    ),
    "superseded just now": (
        flying(Phase.ROLLING_BACK, ending="Superseded", reason="Superseded", message="m-v3 is newer"),
        ("m-v2", "Unknown", "Superseded", "m-v3 is newer"),
    ),
    "a run trains": (production(GOOD, TRAINING), ("m-v3", "Unknown", "Training", "running the trainer")),
    "a run failed": (production(GOOD, FAILED), ("m-v3", "Fail", "TrainerFailed", "boom")),
    "a run that says nothing yet": (
        production({**TRAINING, "status": {}}),
        ("m-v3", "Unknown", "Pending", "waiting for the Pod to be scheduled and its images to be pulled"),
    ),
    "loading": (flying(Phase.LOADING), ("m-v2", "Unknown", "CollectingEvidence", "Loading")),
    "load check": (flying(Phase.LOAD_CHECKING), ("m-v2", "Unknown", "CollectingEvidence", "LoadChecking")),
    "first requests": (
        flying(Phase.SHIFTING, step=0, weight=5),
        ("m-v2", "Unknown", "CollectingEvidence", "step 0: 5% of requests to the canary"),
    ),
    "some evidence": (
        flying(Phase.SHIFTING, step=1, findings=shown("Unknown", "5%: kept")),
        ("m-v2", "Unknown", "CollectingEvidence", "5%: kept"),
    ),
    "all evidence": (
        flying(Phase.PROMOTING, findings=shown("True", "50%: kept")),
        ("m-v2", "Pass", "WithinObjectives", "50%: kept"),
    ),
    "baking": (
        flying(Phase.BAKING, findings=shown("True", "50%: kept")),
        ("m-v2", "Pass", "WithinObjectives", "50%: kept"),
    ),
    "held": (
        flying(Phase.SHIFTING, held=("Inconclusive", "5 of 400 came"), findings=shown("Unknown", "5%: kept")),
        ("m-v2", "Unknown", "Inconclusive", "5 of 400 came"),
    ),
    "promoted": (
        production(ended("Promoted", "TrafficShifted", "50%: kept"), live="m-v2"),
        ("m-v2", "Pass", "Promoted", "50%: kept"),
    ),
    "promoted, an experiment since": (
        production(ended("Promoted", "TrafficShifted", "50%: kept"), live="m-v2", stage="Experimental"),
        ("m-v2", "Pass", "Promoted", "50%: kept"),
    ),
    "rejected": (
        production(ended("RolledBack", "LatencyTooHigh", "slow")),
        ("m-v2", "Fail", "LatencyTooHigh", "slow"),
    ),
    "rejected, by the history alone": (
        production(GOOD, entries=[history("m-v2", "RolledBack", "LatencyTooHigh", "slow")]),
        ("m-v2", "Fail", "LatencyTooHigh", "slow"),
    ),
    "withdrawn": (
        production(ended("Withdrawn", "Withdrawn", "no longer Production")),
        ("m-v2", "Unknown", "Withdrawn", "no longer Production"),
    ),
    "rejected, an experiment since": (
        production(ended("RolledBack", "LatencyTooHigh", "slow"), stage="Experimental"),
        ("m-v2", "Pass", "GatesPassed", ""),
    ),
    "rejected, and asked for again": (
        production(run("m-v2", outcome=outcome("m-v2", "RolledBack", "X", "slow"), retry="2")),
        ("m-v2", "Pass", "GatesPassed", ""),
    ),
    "eligible": (production(GOOD), ("m-v2", "Pass", "GatesPassed", "")),
    "a gate failed": (production(TOO_BAD), ("m-v2", "Fail", "QualityBelowMinimum", "QualityAccepted: 0.6")),
    "a gate cannot tell": (
        production(UNPROVEN),
        ("m-v2", "Unknown", "QualityInconclusive", "QualityAccepted: more rows"),
    ),
    "nothing measured": (
        production(NOT_MEASURED),
        ("m-v2", "Unknown", "AwaitingEvidence", "DataValidated: not measured yet"),
    ),
    # what goes before what
    "a rollback before a run that trains": (
        flying(Phase.ROLLING_BACK, TRAINING, **BACK),
        ("m-v2", "Fail", "ErrorRateTooHigh", "20 of 40 failed"),
    ),
    "a run that trains before a rollout": (
        flying(Phase.SHIFTING, TRAINING),
        ("m-v3", "Unknown", "Training", "running the trainer"),
    ),
    "a rollout before how the last one ended": (
        production(ended("RolledBack", "X", "slow"), in_flight=rollout("m-v2", Phase.LOADING)),
        ("m-v2", "Unknown", "CollectingEvidence", "Loading"),
    ),
}


@pytest.mark.parametrize(("s", "expected"), TABLE.values(), ids=TABLE)
def test_verdict(s: Standing, expected: tuple[str, str, str, str] | None) -> None:
    found = verdict(s)
    if expected is None:
        assert found is None
        return
    assert found is not None
    run_name, result, reason, message = expected
    assert (found.run, found.result, found.reason) == (run_name, result, reason)
    assert found.message == message if message else found.message.startswith("m-v2 passed DataValidated, ")


def test_nothing_but_evidence_is_a_pass() -> None:
    """Whatever a phase has shown before traffic, and whatever a gate has not."""
    for phase in Phase:
        found = verdict(flying(phase, findings=shown("Unknown", "not yet")))
        assert found is not None
        assert found.result != "Pass"
