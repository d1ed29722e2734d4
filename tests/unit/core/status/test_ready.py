"""Ready, with Reconciling or Stalled beside it: one row for each answer of each question, and their order."""

from __future__ import annotations

from typing import Any

import pytest
from steeltown.api.conditions import ConditionType, Reason
from steeltown.api.mlmodel import Phase
from steeltown.core.observed.pods import Obstacle
from steeltown.core.plan import Refusal, Target
from steeltown.core.status import Standing
from steeltown.core.status.ready import QUESTIONS, ready
from steeltown.core.status.verdict import verdict
from steeltown_testing.standings import GATES, history, model, outcome, pod, rollout, run, standing

UNFINISHED = run("m-v2", made=False, ready=("Unknown", "Training", "running the trainer"))
FAILED = run("m-v2", made=False, failed=True, ready=("False", "TrainerFailed", "boom"))
UNPROVEN = run("m-v2", gates={**GATES, "QualityAccepted": ("Unknown", "QualityInconclusive", "more rows")})
TOO_BAD = run("m-v2", gates={**GATES, "QualityAccepted": ("False", "QualityBelowMinimum", "0.6")})
GOOD = run("m-v2")
FIRST = run("m-v1")
REJECTED = run("m-v2", outcome=outcome("m-v2", "RolledBack", "ErrorRateTooHigh", "20 of 40 failed"))
WITHDRAWN = run("m-v2", outcome=outcome("m-v2", "Withdrawn", "Withdrawn", "no longer Production"))
REFUSAL = Refusal(target=Target("Deployment", "team", "m-h1"), message="exceeded quota")


def production(*runs: Any, **more: Any) -> Standing:
    return standing(model(*runs, **{"stage": "Production", "live": "m-v1", "promoted": True, **more}))


def experiment(*runs: Any, **more: Any) -> Standing:
    return standing(model(*runs, **{"live": "m-v1", **more}))


def told(s: Standing) -> tuple[str, str, str]:
    """(Ready, Reconciling or Stalled; "-" if neither, and the reason that both give)."""
    found = ready(s, verdict(s))
    beside = [k.value for k in (ConditionType.RECONCILING, ConditionType.STALLED) if k in found]
    assert len(beside) <= 1
    for kind in beside:
        assert found[ConditionType(kind)] == (
            "True",
            found[ConditionType.READY].reason,
            found[ConditionType.READY].message,
        )
    return found[ConditionType.READY].status, "".join(beside) or "-", found[ConditionType.READY].reason


SETTLED: dict[str, tuple[Standing, str]] = {
    "promoted": (production(FIRST), Reason.PROMOTED),
    "promoted, whatever is said of its gates now": (production(run("m-v1", gates={})), Reason.PROMOTED),
    "promoted, its run deleted": (production(), Reason.PROMOTED),
    "an experiment that is eligible": (experiment(FIRST), Reason.AWAITING_PROMOTION),
    "an experiment that is not": (experiment(run("m-v1", gates={})), Reason.SERVING),
    "an experiment without its run": (experiment(), Reason.SERVING),
    "a newest version that was withdrawn": (experiment(FIRST, WITHDRAWN), Reason.SERVING),
    "a newest version that was rejected, in Experimental": (experiment(FIRST, REJECTED), Reason.AWAITING_PROMOTION),
    "frozen": (production(FIRST, frozen=True), Reason.FROZEN),
    "frozen in the middle of a rollout": (
        production(FIRST, GOOD, frozen=True, in_flight=rollout("m-v2", Phase.SHIFTING)),
        Reason.FROZEN,
    ),
    "frozen, and nothing is live": (standing(model(GOOD, frozen=True)), Reason.FROZEN),
    "scaled to zero": (production(FIRST, ready={"m-v1": 0}, serving={"replicas": 0}), Reason.PROMOTED),
    "an abort of a version that is in the history": (
        production(FIRST, abort="m-v0", entries=[history("m-v0", "RolledBack")]),
        Reason.PROMOTED,
    ),
}


@pytest.mark.parametrize(("s", "reason"), SETTLED.values(), ids=SETTLED)
def test_settled(s: Standing, reason: str) -> None:
    assert told(s) == ("True", "-", reason)


IN_WORK: dict[str, tuple[Standing, str]] = {
    "a child is refused": (standing(model(FIRST, live="m-v1"), refusals=(REFUSAL,)), Reason.APPLY_REFUSED),
    "a rollout": (production(FIRST, GOOD, in_flight=rollout("m-v2", Phase.LOADING)), Reason.PROGRESSING),
    "a rollback while frozen": (
        production(FIRST, GOOD, frozen=True, in_flight=rollout("m-v2", Phase.ROLLING_BACK)),
        Reason.PROGRESSING,
    ),
    "no run yet": (standing(model()), Reason.NO_VERSION),
    "the first run": (standing(model(UNFINISHED)), "Training"),
    "a further run": (production(FIRST, UNFINISHED), "Training"),
    "a further run of an experiment": (experiment(FIRST, UNFINISHED), "Training"),
    "an experiment starts": (experiment(FIRST, GOOD), Reason.PROGRESSING),
    "too few replicas": (production(FIRST, serving={"replicas": 2}), Reason.PROGRESSING),
    "too few replicas of a live version whose run is gone": (production(serving={"replicas": 2}), Reason.PROGRESSING),
}


@pytest.mark.parametrize(("s", "reason"), IN_WORK.values(), ids=IN_WORK)
def test_reconciling(s: Standing, reason: str) -> None:
    assert told(s) == ("False", "Reconciling", reason)


def test_rollout_whose_work_cannot_start_says_for_what_it_waits() -> None:
    world = model(FIRST, GOOD, live="m-v1", stage="Production", in_flight=rollout("m-v2", Phase.LOAD_CHECKING))
    s = standing(world, blocked=Obstacle(reason=Reason.JOB_BLOCKED, message="exceeded quota"))
    assert told(s) == ("False", "Reconciling", Reason.JOB_BLOCKED)
    assert ready(s, verdict(s))[ConditionType.READY].message == "LoadChecking m-v2: exceeded quota"
    last_word = verdict(s)
    assert last_word is not None
    assert (last_word.result, last_word.reason, last_word.message) == ("Unknown", "JobBlocked", "exceeded quota")


CRASHES = pod("m-v2", crashed="no memory for weights")
STALLED: dict[str, tuple[Standing, str]] = {
    "abort names nobody": (production(FIRST, abort="m-v7"), Reason.UNKNOWN_RUN),
    "the router cannot do it": (
        standing(model(FIRST, live="m-v1"), refused_by_router="serving.gateway must name a Gateway"),
        Reason.ROUTER_REFUSES,
    ),
    "a rollout is held": (
        standing(
            model(FIRST, GOOD, live="m-v1", stage="Production", in_flight=rollout("m-v2", Phase.SHIFTING)),
            held=(Reason.INCONCLUSIVE, "5 of 400 requests came"),
        ),
        Reason.INCONCLUSIVE,
    ),
    "the first run failed": (standing(model(FAILED)), "TrainerFailed"),
    "the first version is too bad": (standing(model(TOO_BAD, stage="Production")), "QualityBelowMinimum"),
    "the first version is not proven": (standing(model(UNPROVEN, stage="Production")), Reason.NOT_ELIGIBLE),
    "the first version was rejected": (standing(model(REJECTED, stage="Production")), "ErrorRateTooHigh"),
    "the first version is aborted": (standing(model(GOOD, stage="Production", abort="m-v2")), Reason.ABORTED),
    "the first version is aborted as an experiment": (standing(model(GOOD, abort="m-v2")), Reason.ABORTED),
    "the first version was withdrawn": (standing(model(WITHDRAWN)), Reason.WITHDRAWN),
    "a further run failed": (production(FIRST, FAILED), Reason.RUN_FAILED),
    "a further run of an experiment failed": (experiment(FIRST, FAILED), Reason.RUN_FAILED),
    "rejected": (production(FIRST, REJECTED), Reason.ROLLED_BACK),
    "rejected, by the history": (
        production(FIRST, GOOD, entries=[history("m-v2", "RolledBack")]),
        Reason.ROLLED_BACK,
    ),
    "rejected and aborted": (production(FIRST, REJECTED, abort="m-v2"), Reason.ROLLED_BACK),
    "aborted before its turn": (production(FIRST, GOOD, abort="m-v2"), Reason.ABORTED),
    "not eligible": (production(FIRST, TOO_BAD), Reason.NOT_ELIGIBLE),
    "not proven": (production(FIRST, UNPROVEN), Reason.NOT_ELIGIBLE),
    "an experiment that does not load": (
        experiment(FIRST, GOOD, ready={"m-v2": 0}, pods=[CRASHES]),
        Reason.NOT_LOADABLE,
    ),
    "the live version crashes": (
        production(GOOD, live="m-v2", ready={"m-v2": 0}, pods=[CRASHES]),
        Reason.NOT_LOADABLE,
    ),
}


@pytest.mark.parametrize(("s", "reason"), STALLED.values(), ids=STALLED)
def test_stalled(s: Standing, reason: str) -> None:
    assert told(s) == ("False", "Stalled", reason)


def message(s: Standing) -> str:
    return ready(s, verdict(s))[ConditionType.READY].message


MESSAGES: dict[str, tuple[Standing, str]] = {
    "what is refused": (
        standing(model(FIRST, live="m-v1"), refusals=(REFUSAL, REFUSAL)),
        "Deployment m-h1: exceeded quota; Deployment m-h1: exceeded quota",
    ),
    "where a rollout stands": (
        production(FIRST, GOOD, in_flight=rollout("m-v2", Phase.SHIFTING, step=1, weight=25)),
        "Shifting m-v2 at 25%",
    ),
    "why it is taken back": (
        production(FIRST, GOOD, in_flight=rollout("m-v2", Phase.ROLLING_BACK, reason="LatencyTooHigh")),
        "RollingBack m-v2: LatencyTooHigh",
    ),
    "which gate": (production(FIRST, TOO_BAD), "m-v2: QualityBelowMinimum: QualityAccepted: 0.6"),
    "what to do": (experiment(FIRST), "m-v1 is eligible: set spec.stage: Production to promote it"),
}


@pytest.mark.parametrize(("s", "expected"), MESSAGES.values(), ids=MESSAGES)
def test_message_says(s: Standing, expected: str) -> None:
    assert message(s) == expected


ALL: dict[str, Any] = {"abort": "m-v7", "frozen": True, "in_flight": rollout("m-v2", Phase.SHIFTING)}
FIRST_COME_FIRST: tuple[tuple[str, Reason], ...] = (
    ("refusals", Reason.APPLY_REFUSED),
    ("abort", Reason.UNKNOWN_RUN),
    ("refused_by_router", Reason.ROUTER_REFUSES),
    ("frozen", Reason.FROZEN),
    ("held", Reason.INCONCLUSIVE),
    ("in_flight", Reason.PROGRESSING),
    ("", Reason.RUN_FAILED),
)


@pytest.mark.parametrize("solved", range(len(FIRST_COME_FIRST)), ids=[r.value for _, r in FIRST_COME_FIRST])
def test_what_stands_in_the_way_first_is_said_first(solved: int) -> None:
    """Everything is so at once; what has been said is mended, one after the other."""
    mended = {name for name, _ in FIRST_COME_FIRST[:solved]}
    spec = {k: v for k, v in ALL.items() if k not in mended}
    s = standing(
        model(FIRST, FAILED, live="m-v1", stage="Production", ready={"m-v1": 0}, **spec),
        held=None if "held" in mended else (Reason.INCONCLUSIVE, "held"),
        refusals=() if "refusals" in mended else (REFUSAL,),
        refused_by_router="" if "refused_by_router" in mended else "cannot",
    )
    assert told(s)[2] == FIRST_COME_FIRST[solved][1]


def test_every_question_is_the_first_to_answer_somewhere() -> None:
    tables: tuple[dict[str, tuple[Standing, str]], ...] = (SETTLED, IN_WORK, STALLED)
    asked = set()
    for s, _ in (row for table in tables for row in table.values()):
        asked.add(next(q for q in QUESTIONS if q(s, verdict(s)) is not None))
    assert asked == set(QUESTIONS)
