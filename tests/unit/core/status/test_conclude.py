"""The whole status: stage, versions, and for every situation what tools that read conditions rely on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steeltown.api.conditions import ConditionType, violations
from steeltown.api.mlmodel import MLModelStatus, Phase, RolloutFinding
from steeltown.core.plan import Refusal, Target
from steeltown.core.record import LiveRecord
from steeltown.core.status import Standing, conclude
from steeltown_testing.explore.cluster import START
from steeltown_testing.standings import GATES, history, model, outcome, rollout, run, standing, version

FIRST, GOOD = run("m-v1"), run("m-v2")
TOO_BAD = run("m-v2", gates={**GATES, "QualityAccepted": ("False", "QualityBelowMinimum", "0.6")})


def concluded(s: Standing) -> MLModelStatus:
    return conclude(s, s.world.status.history, None, START)


def of(*runs: Any, **more: Any) -> Standing:
    return standing(model(*runs, **more))


PRODUCTION: dict[str, Any] = {"stage": "Production", "live": "m-v1"}
STAGES: dict[str, tuple[Standing, str]] = {
    "nothing yet": (of(), "Experimental"),
    "not eligible": (of(FIRST, TOO_BAD, live="m-v1"), "Experimental"),
    "eligible": (of(FIRST, GOOD, live="m-v1"), "Eligible"),
    "asked for": (of(FIRST, **PRODUCTION), "Requested"),
    "a canary": (of(FIRST, GOOD, in_flight=rollout("m-v2", Phase.LOADING), **PRODUCTION), "Canary"),
    "baking": (of(FIRST, GOOD, in_flight=rollout("m-v2", Phase.BAKING), **PRODUCTION), "Canary"),
    "taken back": (of(FIRST, GOOD, in_flight=rollout("m-v2", Phase.ROLLING_BACK), **PRODUCTION), "RollingBack"),
    "promoted": (of(FIRST, promoted=True, **PRODUCTION), "Production"),
    "promoted, and a trial beside it": (of(FIRST, TOO_BAD, promoted=True, **PRODUCTION), "Production"),
    "promoted, and an experiment since": (of(FIRST, live="m-v1", promoted=True), "Eligible"),
}


@pytest.mark.parametrize(("s", "stage"), STAGES.values(), ids=STAGES)
def test_stage(s: Standing, stage: str) -> None:
    assert concluded(s).stage == stage


def versions(s: Standing) -> tuple[str, str, str]:
    found = concluded(s).versions
    live, candidate, previous = (v.run if v else "" for v in (found.live, found.candidate, found.previous))
    return live, candidate, previous


VERSIONS: dict[str, tuple[Standing, tuple[str, str, str]]] = {
    "none": (of(), ("", "", "")),
    "one": (of(FIRST, live="m-v1"), ("m-v1", "", "")),
    "a newer one": (of(FIRST, GOOD, live="m-v1"), ("m-v1", "m-v2", "")),
    "one that trains is no version": (of(FIRST, run("m-v2", made=False), live="m-v1"), ("m-v1", "", "")),
    "the one before": (of(FIRST, GOOD, live="m-v2", previous="m-v1"), ("m-v2", "", "m-v1")),
    "the one before, its run deleted": (of(GOOD, live="m-v2", previous="m-v1"), ("m-v2", "", "m-v1")),
    "back to the one before": (of(FIRST, GOOD, live="m-v1", previous="m-v1"), ("m-v1", "m-v2", "")),
}


@pytest.mark.parametrize(("s", "expected"), VERSIONS.values(), ids=VERSIONS)
def test_versions(s: Standing, expected: tuple[str, str, str]) -> None:
    assert versions(s) == expected


def test_rows_of_a_live_version_are_not_forgotten_with_its_run() -> None:
    """They are what the next version's data is compared with."""
    known = of(live="m-v1")
    assert known.record is not None
    for rows in (1000, None):
        told = concluded(replace(known, record=replace(known.record, rows=rows))).versions.live
        assert told is not None
        assert told.rows == rows


def test_selector_and_replicas_are_those_of_the_live_version() -> None:
    status = concluded(of(FIRST, GOOD, live="m-v1", ready={"m-v1": 2, "m-v2": 1}))
    assert status.replicas == 2
    assert status.selector == f"steeltown.dev/model=m,steeltown.dev/version={version('m-v1').id}"
    assert (concluded(of()).selector, concluded(of()).replicas) == ("", 0)


@pytest.mark.parametrize(("seen", "recorded", "told"), [(0, 3, 3), (5, 3, 5)])
def test_switches_never_become_fewer(seen: int, recorded: int, told: int) -> None:
    s = of(FIRST, live="m-v1", status={"switches": seen})
    now = replace(s, record=LiveRecord(live=version("m-v1"), switches=recorded))
    assert concluded(now).switches == told


# --- for every situation ---------------------------------------------------------------------------------------------

status = st.sampled_from(["True", "False", "Unknown"])
result = st.sampled_from(["Promoted", "RolledBack", "Withdrawn", "Superseded"])
maybe_finding = st.lists(
    st.builds(
        lambda kind, s: RolloutFinding(type=kind, status=s, reason="X", message="shown"),
        st.sampled_from(["Loadable", "ServingPerformance", "CanaryPassed"]),
        status,
    ),
    max_size=3,
    unique_by=lambda f: f.type,
)


@st.composite
def situations(draw: st.DrawFn) -> Standing:
    names = ["m-v1", "m-v2", "m-v3"]
    runs = []
    for name in names[: draw(st.integers(0, 3))]:
        gates = {g: (draw(status), "X", "said") for g in GATES}
        how = draw(st.sampled_from(["made", "failed", "under way"]))
        ended = draw(st.none() | result)
        noted = outcome(name, ended, "X", "said", draw(maybe_finding)) if ended and how == "made" else None
        runs.append(run(name, made=how == "made", failed=how == "failed", gates=gates, outcome=noted))
    live = draw(st.sampled_from([None, *names[:2]]))
    in_flight = None
    if draw(st.booleans()):
        more = {"step": draw(st.integers(-1, 2)), "findings": draw(maybe_finding)}
        ending = draw(st.sampled_from(["RolledBack", "Withdrawn", "Superseded"]))
        in_flight = rollout(draw(st.sampled_from(names)), draw(st.sampled_from(list(Phase))), ending=ending, **more)
    world = model(
        *runs,
        live=live,
        promoted=draw(st.booleans()),
        previous=draw(st.sampled_from([None, "m-v1"])),
        ready={live: draw(st.integers(0, 2))} if live else {},
        entries=[history(draw(st.sampled_from(names)), draw(result)) for _ in range(draw(st.integers(0, 2)))],
        in_flight=in_flight,
        stage=draw(st.sampled_from(["Experimental", "Production"])),
        frozen=draw(st.booleans()),
        abort=draw(st.sampled_from([None, "m-v2", "m-v9"])),
        serving={"replicas": draw(st.integers(0, 2))},
    )
    return standing(
        world,
        held=draw(st.none() | st.just(("Inconclusive", "said"))) if in_flight else None,
        refusals=(Refusal(target=Target("Service", "team", "m"), message="no"),) if draw(st.booleans()) else (),
        refused_by_router=draw(st.sampled_from(["", "cannot"])),
    )


@settings(max_examples=200, deadline=None)
@given(situations())
def test_no_situation_is_without_an_answer_and_tools_can_read_it(s: Standing) -> None:
    found = concluded(s)
    assert violations({**s.world.root, "status": found.dump()}) == []
    told = {c.type: c for c in found.conditions}
    assert set(told) >= {k.value for k in ConditionType} - {"Reconciling", "Stalled"}
    if told["Ready"].status == "True" and told["Ready"].reason != "Frozen":
        assert s.live is not None
    if told["Promoted"].status == "True":
        assert s.promoted and s.subject is not None and s.subject.version == s.live
    if told["Available"].status == "True":
        assert s.live_ready >= 1
    assert all(c.message or c.type == "CanaryPassed" for c in found.conditions)
