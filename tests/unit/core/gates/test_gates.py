"""The gates of a run: what each concludes from what the run has shown, branch by branch."""

from __future__ import annotations

from dataclasses import replace

import pytest
from steeltown.api.conditions import RUN_GATES, ConditionType, Finding, Reason
from steeltown.api.objectives import QualityObjective
from steeltown.contract.reports import MetricComparison, StepReport
from steeltown.core.gates import GATES, Failure, RunFacts, gates

DATA, HEALTH = ConditionType.DATA_VALIDATED, ConditionType.TRAINING_HEALTHY
RESOURCES, QUALITY = ConditionType.RESOURCES_WITHIN_BUDGET, ConditionType.QUALITY_ACCEPTED

ACCURACY = QualityObjective.model_validate({"metric": "accuracy", "min": "0.8"})
REPORT = StepReport(
    reason="ModelReady",
    message="",
    digest="sha256:" + "a" * 64,
    metrics=(MetricComparison(name="accuracy", candidate=0.9, n=500),),
)
PREPARED = StepReport(reason="DataValid", message="500 rows")
OBSERVED = StepReport(reason="ObservedOnly", message="observed only, not enforced: 3 rows")

RUNNING = RunFacts()
MADE = RunFacts(over=True, prepared=PREPARED, report=REPORT, quality=(ACCURACY,))
IMPORTED = replace(MADE, imported=True)
BAD_DATA = RunFacts(over=True, failure=Failure(reason="TooFewRows", message="10 rows", condition=DATA))
CRASHED = RunFacts(over=True, prepared=PREPARED, failure=Failure(reason=Reason.TRAINER_FAILED, message="boom"))
NO_MEMORY = replace(CRASHED, failure=Failure(reason=Reason.OUT_OF_MEMORY, message="raise limits.memory"))
BAD_MODEL = replace(CRASHED, failure=Failure(reason="ModelDoesNotLoad", message="no graph", condition=QUALITY))
NEVER_STARTED = RunFacts(over=True, failure=Failure(reason=Reason.UNSCHEDULABLE, message="no node"))

NOT_YET = ("Unknown", Reason.AWAITING_EVIDENCE, "not measured yet")
NEVER = ("Unknown", Reason.AWAITING_EVIDENCE, "the run ended before this was measured")
VALID = ("True", Reason.DATA_VALID, "500 rows")

TABLE: dict[ConditionType, dict[str, tuple[RunFacts, tuple[str, str, str]]]] = {
    DATA: {
        "running": (RUNNING, NOT_YET),
        "prepared, but still running": (RunFacts(prepared=PREPARED), NOT_YET),
        "made": (MADE, VALID),
        "only observed": (replace(MADE, prepared=OBSERVED), ("True", Reason.OBSERVED_ONLY, OBSERVED.message)),
        "of another reason": (
            replace(MADE, prepared=StepReport(reason="Fine", message="well")),
            ("True", Reason.DATA_VALID, "well"),
        ),
        "made, but prepare is not seen": (
            replace(MADE, prepared=None),
            ("True", Reason.DATA_VALID, "all data checks passed"),
        ),
        "imported": (IMPORTED, ("True", Reason.NOT_APPLICABLE, "imported model: no training data")),
        "imported, running": (RunFacts(imported=True), NOT_YET),
        "imported, failed": (replace(NEVER_STARTED, imported=True), NEVER),
        "bad data": (BAD_DATA, ("False", "TooFewRows", "10 rows")),
        "failed later": (CRASHED, VALID),
        "never started": (NEVER_STARTED, NEVER),
    },
    HEALTH: {
        "running": (RUNNING, NOT_YET),
        "made": (MADE, ("True", Reason.COMPLETED, "training completed within its deadlines")),
        "imported": (IMPORTED, ("True", Reason.NOT_APPLICABLE, "imported model: no training")),
        "imported, running": (RunFacts(imported=True), NOT_YET),
        "crashed": (CRASHED, ("False", Reason.TRAINER_FAILED, "boom")),
        "no memory": (NO_MEMORY, ("False", Reason.OUT_OF_MEMORY, "raise limits.memory")),
        "never started": (NEVER_STARTED, ("False", Reason.UNSCHEDULABLE, "no node")),
        "bad data": (BAD_DATA, NEVER),
        "bad model": (BAD_MODEL, NEVER),
    },
    RESOURCES: {
        "running": (RUNNING, NOT_YET),
        "made": (MADE, ("True", Reason.WITHIN_LIMITS, "all containers stayed within their memory limits")),
        "no memory": (NO_MEMORY, ("False", Reason.OUT_OF_MEMORY, "raise limits.memory")),
        "crashed": (CRASHED, NEVER),
    },
    QUALITY: {
        "running": (RUNNING, NOT_YET),
        "made": (MADE, ("True", Reason.OBJECTIVES_MET, "accuracy 0.9000 on 500 rows")),
        "below": (
            replace(MADE, quality=(QualityObjective.model_validate({"metric": "accuracy", "min": "0.95"}),)),
            ("False", Reason.QUALITY_BELOW_MINIMUM, "accuracy 0.9000 on 500 rows: below the minimum 0.95"),
        ),
        "imported": (IMPORTED, ("True", Reason.OBJECTIVES_MET, "accuracy 0.9000 on 500 rows")),
        "bad model": (BAD_MODEL, ("False", "ModelDoesNotLoad", "no graph")),
        "crashed": (CRASHED, NEVER),
    },
}
ROWS = [(kind, *row) for kind, rows in TABLE.items() for row in rows.values()]
NAMES = [f"{kind.value}: {name}" for kind, rows in TABLE.items() for name in rows]


@pytest.mark.parametrize(("kind", "facts", "expected"), ROWS, ids=NAMES)
def test_gate(kind: ConditionType, facts: RunFacts, expected: tuple[str, str, str]) -> None:
    assert gates(facts)[kind] == Finding(*expected)  # type: ignore[arg-type]


def test_objective_without_a_measurement_is_no_pass() -> None:
    finding = gates(replace(MADE, report=replace(REPORT, metrics=())))[QUALITY]
    assert (finding.status, finding.reason) == ("Unknown", Reason.NO_EVALUATION)


def test_version_without_an_objective_is_no_pass() -> None:
    finding = gates(replace(MADE, quality=()))[QUALITY]
    assert (finding.status, finding.reason) == ("Unknown", Reason.NO_QUALITY_OBJECTIVE)


def test_live_version_that_was_there_must_have_been_measured() -> None:
    margin = QualityObjective.model_validate({"metric": "accuracy", "nonInferiorityMargin": "0.01"})
    first = gates(replace(MADE, quality=(margin,)))[QUALITY]
    later = gates(replace(MADE, quality=(margin,), had_live=True))[QUALITY]
    assert (first.status, later.status, later.reason) == ("True", "Unknown", Reason.LIVE_NOT_COMPARABLE)


def test_every_gate_of_a_run_has_a_chain_and_a_table() -> None:
    assert [kind for kind, _ in GATES] == list(RUN_GATES) == list(TABLE)


@pytest.mark.parametrize("kind", RUN_GATES)
def test_without_a_report_no_gate_passes_but_on_what_prepare_has_shown(kind: ConditionType) -> None:
    for facts in (
        RUNNING,
        NEVER_STARTED,
        RunFacts(over=True),
        RunFacts(over=True, imported=True),
        RunFacts(report=REPORT),
    ):
        assert gates(facts)[kind].status != "True"
