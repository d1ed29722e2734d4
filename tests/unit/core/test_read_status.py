"""A status that a hand has edited, or that another version wrote: what can be read of it counts, and nothing raises."""

from __future__ import annotations

from typing import Any

import pytest
from steeltown.api.mlmodel import Phase
from steeltown.core.model import plan_model
from steeltown.core.observed.model import read_status
from steeltown.core.plan import Key, Obj, Snapshot
from steeltown.core.training import plan_run
from steeltown_testing.explore.cluster import START, later
from steeltown_testing.explore.scenarios import GOOD_A, GOOD_B, begun, create, in_step, retrain
from steeltown_testing.explore.schedule import MODEL, POLICY
from steeltown_testing.standings import rollout
from steeltown_testing.training_worlds import MADE, RUNNING, ended, over, plan, pod
from steeltown_testing.training_worlds import begun as run_begun

ROLLOUT = rollout("m-v2", Phase.SHIFTING, step=0, weight=5).dump()
LIVE = {"run": "m-v1", "digest": "sha256:aa"}


def model_status(**change: Any) -> Obj:
    return {"status": {"switches": 3, "versions": {"live": LIVE}, "rollout": {**ROLLOUT, **change}}}


UNREADABLE: dict[str, dict[str, Any]] = {
    "a phase of another version": {"phase": "Soaking"},
    "a weight that is no number": {"weight": "much"},
    "a time that is none": {"phaseTime": "yesterday"},
    "a time with fractions": {"phaseTime": "2026-01-01T00:00:00.000001Z"},
    "no time": {"phaseTime": ""},
    "a look that no rollout takes": {"failLook": 63},
    "a look for a pass that no rollout takes": {"passLook": 63},
    "a look before the first": {"failLook": -1},
    "a step before the first": {"step": -5},
    "a weight below nothing": {"weight": -5},
    "a weight above all": {"weight": 10**12},
    "an attempt before the first": {"attempt": -1},
    "an attempt that names no Job": {"attempt": 10**18},
    "a restart before the first": {"restarts": -1},
    "findings that are none": {"findings": [{"type": 7}]},
}


@pytest.mark.parametrize("change", UNREADABLE.values(), ids=UNREADABLE)
def test_rollout_that_cannot_be_read_is_none_and_the_rest_stays(change: dict[str, Any]) -> None:
    status = read_status(model_status(**change))
    assert status.rollout is None
    assert (status.switches, status.versions.live and status.versions.live.run) == (3, "m-v1")


def test_rollout_that_can_be_read_is_that() -> None:
    status = read_status(model_status())
    assert status.rollout is not None
    assert status.rollout.dump() == ROLLOUT


@pytest.mark.parametrize("raw", [None, {}, {"conditions": 7}, {"versions": "m-v1"}, {"history": [{}]}])
def test_status_without_sense_is_empty(raw: Any) -> None:
    assert read_status({"status": raw}).rollout is None


@pytest.mark.parametrize("change", UNREADABLE.values(), ids=UNREADABLE)
def test_planner_begins_an_unreadable_rollout_anew(change: dict[str, Any]) -> None:
    explorer = begun(create(GOOD_A), retrain(GOOD_B)).until(in_step(0), within=120)
    seen = explorer.operator.store.snapshot(Key("MLModel", explorer.cluster.namespace, MODEL))
    assert seen is not None
    status = {**seen.root["status"], "rollout": {**seen.root["status"]["rollout"], **change}}
    made = plan_model(
        Snapshot(root={**seen.root, "status": status}, members=seen.members), explorer.cluster.now, POLICY
    )
    assert made.status is not None
    assert (made.status["rollout"]["phase"], made.status["rollout"]["weight"]) == ("Loading", 0)


STARTED, JOB = run_begun()
TIMES: dict[str, dict[str, Any]] = {
    "since when it waits": {"waitingSince": "yesterday"},
    "when it ended": {"completionTime": "yesterday"},
    "conditions": {"conditions": [{"type": "Ready"}]},
    "all of it": {"phase": 7, "jobName": [], "rows": "many"},
}


@pytest.mark.parametrize("change", TIMES.values(), ids=TIMES)
def test_run_goes_on_whatever_its_status_says(change: dict[str, Any]) -> None:
    root = {**STARTED, "status": {**STARTED["status"], **change}}
    working = plan(root, JOB, pod(JOB, ("prepare", RUNNING)), seconds=5)
    assert working.status is not None
    assert working.status["phase"] == "Preparing"
    done = over(JOB, "Complete", at=100)
    made = plan(root, done, pod(JOB, ("prepare", ended(0)), ("finalise", ended(0, MADE))), seconds=101)
    assert made.status is not None
    assert made.status["phase"] == "Succeeded"


def test_run_with_an_unreadable_end_and_no_job_is_not_trained_again() -> None:
    root = {**STARTED, "status": {**STARTED["status"], "completionTime": "yesterday"}}
    made = plan_run(Snapshot(root=root, members={}), later(START, 5), POLICY)
    assert made.status is not None
    assert (made.status["phase"], made.status["reason"]) == ("Failed", "JobDeleted")
