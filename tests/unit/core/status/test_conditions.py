"""The conditions of a model, less the summary: each chain of questions, answer by answer."""

from __future__ import annotations

from typing import Any

import pytest
from steeltown.api.conditions import RUN_GATES, ConditionType, Reason
from steeltown.api.mlmodel import Phase, RolloutFinding
from steeltown.core.observed.pods import Obstacle
from steeltown.core.status import Standing
from steeltown.core.status.conditions import CONDITIONS, NO_VERSION, conditions
from steeltown_testing.standings import GATES, history, model, outcome, pod, rollout, run, standing

LOADABLE, PERFORMANCE = ConditionType.LOADABLE, ConditionType.SERVING_PERFORMANCE
INTERFACE = ConditionType.INTERFACE_COMPATIBLE
NOT_COMPARED = ("Unknown", Reason.AWAITING_EVIDENCE, "compared with the live version by the load check")
CANARY, PROMOTED, AVAILABLE = ConditionType.CANARY_PASSED, ConditionType.PROMOTED, ConditionType.AVAILABLE
QUALITY, ELIGIBLE = ConditionType.QUALITY_ACCEPTED, ConditionType.ELIGIBLE
REQUESTED = ConditionType.PROMOTION_REQUESTED

FIRST, GOOD = run("m-v1"), run("m-v2")
TRAINING = run("m-v3", made=False, gates={"DataValidated": ("True", "DataValid", "500 rows")})
TOO_BAD = run("m-v2", gates={**GATES, "QualityAccepted": ("False", "QualityBelowMinimum", "0.6")})
UNPROVEN = run("m-v2", gates={**GATES, "QualityAccepted": ("Unknown", "QualityInconclusive", "more rows")})


def shown(kind: ConditionType, status: Any = "True", message: str = "shown") -> list[RolloutFinding]:
    return [RolloutFinding(type=kind.value, status=status, reason="X", message=message)]


def nothing(*runs: Any, **more: Any) -> Standing:
    return standing(model(*runs, **more))


def served(*runs: Any, **more: Any) -> Standing:
    return standing(model(FIRST, *runs, **{"live": "m-v1", **more}))


def flying(
    phase: Phase, *, held: tuple[str, str] | None = None, blocked: Obstacle | None = None, **more: Any
) -> Standing:
    world = model(FIRST, GOOD, live="m-v1", stage="Production", in_flight=rollout("m-v2", phase, **more))
    return standing(world, held=held, blocked=blocked)


NO_QUOTA = Obstacle(reason=Reason.JOB_BLOCKED, message="exceeded quota")


def ended(result: str, kind: ConditionType = CANARY, **more: Any) -> Standing:
    found = outcome("m-v2", result, "LatencyTooHigh", "slow", shown(kind))
    return served(run("m-v2", outcome=found), stage="Production", **more)


NO_POD = "waiting for a Pod to load this version"
NO_TRAFFIC = "no canary traffic yet"
LATER = "the load check runs once promotion is requested"
READY = pod("m-v2", ready=True)
BROKEN = pod("m-v2", crashed="no such operator")
BLOCKED = pod("m-v2", waiting="ImagePullBackOff")

Expected = tuple[str, str, str]
TABLE: dict[ConditionType, dict[str, tuple[Standing, Expected]]] = {
    QUALITY: {
        "no version": (nothing(), ("Unknown", Reason.AWAITING_EVIDENCE, NO_VERSION)),
        "of the newest version": (served(GOOD), ("True", "Fine", "QualityAccepted holds")),
        "of the version in flight": (
            standing(model(FIRST, TOO_BAD, live="m-v1", in_flight=rollout("m-v1", Phase.LOADING))),
            ("True", "Fine", "QualityAccepted holds"),
        ),
        "of the live version, while the next trains": (served(TRAINING), ("True", "Fine", "QualityAccepted holds")),
        "of the run that trains, where none has finished": (
            nothing(TRAINING),
            ("Unknown", Reason.AWAITING_EVIDENCE, "not measured yet"),
        ),
        "of a live version whose run is gone": (
            standing(model(live="m-v1")),
            ("Unknown", Reason.AWAITING_EVIDENCE, NO_VERSION),
        ),
    },
    LOADABLE: {
        "shown in this rollout": (flying(Phase.LOAD_CHECKING, findings=shown(LOADABLE)), ("True", "X", "shown")),
        "shown in the last": (ended("RolledBack", LOADABLE), ("True", "X", "shown")),
        "an experiment that is ready": (
            served(GOOD, ready={"m-v2": 1}, pods=[BROKEN, READY]),
            ("True", Reason.GOLDEN_ROWS_ANSWERED, "ready; golden rows match the outputs recorded in training"),
        ),
        "an experiment that crashes": (
            served(GOOD, ready={"m-v2": 0}, pods=[BROKEN]),
            (
                "False",
                Reason.NOT_LOADABLE,
                "container server keeps exiting with code 1: no such operator",
            ),
        ),
        "an experiment that cannot start": (
            served(GOOD, ready={"m-v2": 0}, pods=[BLOCKED]),
            ("Unknown", Reason.IMAGE_PULL_FAILED, "container server: ImagePullBackOff: cannot"),
        ),
        "a Pod that is not ours": (
            served(GOOD, pods=[READY]),
            ("Unknown", Reason.AWAITING_EVIDENCE, NO_POD),
        ),
        "no Pod": (served(GOOD), ("Unknown", Reason.AWAITING_EVIDENCE, NO_POD)),
        "a run that trains": (nothing(TRAINING), ("Unknown", Reason.AWAITING_EVIDENCE, NO_POD)),
        "loading": (flying(Phase.LOADING), ("Unknown", Reason.AWAITING_EVIDENCE, NO_POD)),
        "held while loading": (
            flying(Phase.LOADING, held=("Unschedulable", "full")),
            ("Unknown", "Unschedulable", "full"),
        ),
        "held later, without having shown it": (
            flying(Phase.LOAD_CHECKING, held=("LoadCheckFailed", "no node")),
            ("Unknown", Reason.AWAITING_EVIDENCE, NO_POD),
        ),
        "held later": (
            flying(Phase.SHIFTING, held=("Inconclusive", "few"), findings=shown(LOADABLE)),
            ("True", "X", "shown"),
        ),
    },
    INTERFACE: {
        "shown": (flying(Phase.SHIFTING, findings=shown(INTERFACE)), ("True", "X", "shown")),
        "shown in the last": (ended("RolledBack", INTERFACE), ("True", "X", "shown")),
        "the check runs": (flying(Phase.LOAD_CHECKING), NOT_COMPARED),
        "no rollout": (served(GOOD), NOT_COMPARED),
        "nothing": (nothing(), NOT_COMPARED),
    },
    PERFORMANCE: {
        "shown": (flying(Phase.SHIFTING, findings=shown(PERFORMANCE)), ("True", "X", "shown")),
        "shown in the last": (ended("Promoted", PERFORMANCE), ("True", "X", "shown")),
        "shown in one of which only the history is left": (
            served(GOOD, entries=[history("m-v2", "RolledBack", findings=shown(PERFORMANCE))]),
            ("True", "X", "shown"),
        ),
        "the check runs": (
            flying(Phase.LOAD_CHECKING),
            ("Unknown", Reason.COLLECTING_EVIDENCE, "load check in progress"),
        ),
        "the check cannot start": (
            flying(Phase.LOAD_CHECKING, blocked=NO_QUOTA, findings=shown(PERFORMANCE, "Unknown", "again")),
            ("Unknown", Reason.JOB_BLOCKED, "exceeded quota"),
        ),
        "the check could not tell": (
            flying(Phase.LOAD_CHECKING, findings=shown(PERFORMANCE, "Unknown", "again")),
            ("Unknown", "X", "again"),
        ),
        "no check yet": (flying(Phase.LOADING), ("Unknown", Reason.AWAITING_EVIDENCE, LATER)),
        "an experiment": (served(), ("Unknown", Reason.AWAITING_EVIDENCE, LATER)),
    },
    ELIGIBLE: {
        "no version": (nothing(), ("Unknown", Reason.NO_VERSION, NO_VERSION)),
        "a run that trains": (nothing(TRAINING), ("Unknown", Reason.NO_VERSION, NO_VERSION)),
        "all gates": (
            served(GOOD),
            ("True", Reason.GATES_PASSED, f"m-v2 passed {', '.join(g.value for g in RUN_GATES)}"),
        ),
        "one failed": (served(TOO_BAD), ("False", "QualityBelowMinimum", "QualityAccepted: 0.6")),
        "one cannot tell": (served(UNPROVEN), ("Unknown", "QualityInconclusive", "QualityAccepted: more rows")),
    },
    REQUESTED: {
        "Production": (served(stage="Production"), ("True", Reason.REQUESTED_BY_SPEC, "spec.stage is Production")),
        "Experimental": (
            served(),
            ("False", Reason.NOT_REQUESTED, "set spec.stage: Production to request promotion"),
        ),
    },
    CANARY: {
        "rejected just now": (
            flying(Phase.ROLLING_BACK, ending="RolledBack", reason="X", message="slow", findings=shown(CANARY)),
            ("False", "X", "slow"),
        ),
        "withdrawn just now": (
            flying(Phase.ROLLING_BACK, ending="Withdrawn", reason="Withdrawn", message="not asked for"),
            ("Unknown", "Withdrawn", "not asked for"),
        ),
        "taken back without a reason": (
            flying(Phase.ROLLING_BACK, ending="RolledBack"),
            ("False", Reason.ROLLED_BACK, ""),
        ),
        "rejected": (ended("RolledBack"), ("False", "LatencyTooHigh", "slow")),
        "rejected, by the history": (
            served(GOOD, entries=[history("m-v2", "RolledBack", "LatencyTooHigh", "slow")]),
            ("False", "LatencyTooHigh", "slow"),
        ),
        "withdrawn": (ended("Withdrawn"), ("Unknown", "LatencyTooHigh", "slow")),
        "promoted": (ended("Promoted"), ("True", "X", "shown")),
        "some evidence": (flying(Phase.SHIFTING, findings=shown(CANARY, "Unknown")), ("Unknown", "X", "shown")),
        "all evidence": (flying(Phase.PROMOTING, findings=shown(CANARY)), ("True", "X", "shown")),
        "first requests": (
            flying(Phase.SHIFTING, step=0, weight=5),
            ("Unknown", Reason.COLLECTING_EVIDENCE, "step 0: 5% of requests to the canary"),
        ),
        "before traffic": (flying(Phase.LOAD_CHECKING), ("Unknown", Reason.AWAITING_EVIDENCE, NO_TRAFFIC)),
        "never": (served(), ("Unknown", Reason.AWAITING_EVIDENCE, NO_TRAFFIC)),
        "a rejection that is void": (
            served(run("m-v2", outcome=outcome("m-v2", "RolledBack", "X", "slow"), retry="again")),
            ("Unknown", Reason.AWAITING_EVIDENCE, NO_TRAFFIC),
        ),
    },
    PROMOTED: {
        "live by evidence": (served(promoted=True), ("True", Reason.TRAFFIC_SHIFTED, "all traffic goes to m-v1")),
        "live as an experiment": (served(), ("False", Reason.NOT_PROMOTED, "m-v1 is not promoted")),
        "another is": (served(GOOD, promoted=True), ("False", Reason.NOT_PROMOTED, "m-v2 is not promoted")),
        "none": (nothing(), ("False", Reason.NOT_PROMOTED, "no version available")),
        "by the history": (
            served(entries=[history("m-v1", "Promoted")]),
            ("True", Reason.TRAFFIC_SHIFTED, "all traffic goes to m-v1"),
        ),
    },
    AVAILABLE: {
        "nothing live": (nothing(GOOD), ("False", Reason.NO_VERSION, "no version is live")),
        "one answers": (served(), ("True", Reason.MINIMUM_REPLICAS_AVAILABLE, "m-v1 is available")),
        "one of two answers": (
            served(serving={"replicas": 2}),
            ("True", Reason.MINIMUM_REPLICAS_AVAILABLE, "m-v1 is available"),
        ),
        "none answers": (
            served(ready={"m-v1": 0}, serving={"replicas": 2}),
            ("False", Reason.MINIMUM_REPLICAS_UNAVAILABLE, "0 of 2 replicas of m-v1 are ready"),
        ),
        "scaled to zero": (
            served(serving={"replicas": 0}),
            ("False", Reason.SCALED_TO_ZERO, "spec.serving.replicas is 0: increase it to serve m-v1"),
        ),
        "while another is rolled out": (
            flying(Phase.SHIFTING),
            ("True", Reason.MINIMUM_REPLICAS_AVAILABLE, "m-v1 is available"),
        ),
    },
}
ROWS = [(kind, *row) for kind, rows in TABLE.items() for row in rows.values()]
NAMES = [f"{kind.value}: {name}" for kind, rows in TABLE.items() for name in rows]


@pytest.mark.parametrize(("kind", "s", "expected"), ROWS, ids=NAMES)
def test_condition(kind: ConditionType, s: Standing, expected: Expected) -> None:
    assert tuple(conditions(s)[kind]) == expected


def test_every_condition_is_always_there() -> None:
    """All but the summary, and each in the table above: one gate stands for the four."""
    kinds = [kind for kind, _ in CONDITIONS]
    assert set(kinds) == set(TABLE) | set(RUN_GATES)
    for s in (nothing(), served(GOOD), flying(Phase.BAKING)):
        assert list(conditions(s)) == kinds


def test_every_gate_is_that_of_the_run() -> None:
    found = conditions(served(GOOD))
    assert [found[g].message for g in RUN_GATES] == [f"{g.value} holds" for g in RUN_GATES]


def test_new_version_starts_with_nothing_shown() -> None:
    """What the version before it has shown is of another digest."""
    s = served(run("m-v2", outcome=outcome("m-v2", "Promoted", "X", "", shown(CANARY))), run("m-v3"), live="m-v2")
    assert [conditions(s)[k].status for k in (LOADABLE, PERFORMANCE, CANARY)] == ["Unknown"] * 3
