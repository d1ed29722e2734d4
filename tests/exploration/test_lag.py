"""Watches that lag: each kind is delivered by a watch of its own, and none waits for another.

So a Job may be seen complete before its Pod's end is, and a standby may begin to lead with one cache older than the
others. What is not seen yet is not gone: no schedule may end otherwise than with watches that are on time.
"""

from __future__ import annotations

import pytest
from steeltown.api.mlmodel import Phase
from steeltown_testing.explore.nature import Behaviour, Trouble, trained_by
from steeltown_testing.explore.scenarios import GOOD_A, GOOD_B, PHASES, SCENARIOS, begun, create, live_is, retrain, run
from steeltown_testing.explore.schedule import Explorer

KINDS = ("MLModel", "TrainingRun", "Service", "Deployment", "ReplicaSet", "Job", "Pod")
LAGS = (2, 5)
LATE = pytest.mark.parametrize("ticks", LAGS)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
TRIED = ("good rollout", "bad rollout: failing", "bad rollout: baddata", "bad rollout: latefailing")


def load_checks(x: Explorer) -> set[str]:
    return {line.split()[2] for line in x.cluster.log if "Create Job/m-load" in line}


@LATE
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TRIED)
def test_a_kind_that_lags_all_along_changes_nothing_in_the_end(name: str, kind: str, ticks: int) -> None:
    """Fails when a decision joins two kinds as if they had been seen at one moment."""
    scenario = BY_NAME[name]
    x = begun(*scenario.steps)
    x.cluster.lag = {kind: ticks}
    x.abort_ticks += ticks
    x.until(lambda x: not x.pending).go(60)
    x.cluster.lag = {}
    x.settle()
    plain = begun(*scenario.steps).until(lambda x: not x.pending).go(60).settle()
    assert x.live == plain.live
    assert x.final()["runs"] == plain.final()["runs"]
    assert [(h.run, h.outcome) for h in x.status.history] == [(h.run, h.outcome) for h in plain.status.history]


@LATE
def test_job_seen_complete_before_its_pods_end_loses_no_result(ticks: int) -> None:
    """Fails when a Job that is complete and a Pod that still runs are taken for a missing report."""
    x = begun(create(GOOD_A))
    x.cluster.lag = {"Pod": ticks}
    x.until(lambda x: bool((run(x, "m-v1").get("status") or {}).get("completionTime")) if x.tick else False)
    assert run(x, "m-v1")["status"]["artifact"]["digest"] == GOOD_A.model_digest


@LATE
def test_job_seen_failed_before_its_pods_end_keeps_the_real_reason(ticks: int) -> None:
    """Fails when the Job's own word is taken while the container that knows better is still on its way."""
    x = begun(create(Behaviour("baddata", "a")))
    x.cluster.lag = {"Pod": ticks}
    x.until(lambda x: bool((run(x, "m-v1").get("status") or {}).get("completionTime")) if x.tick else False)
    assert x.condition("DataValidated", of=run(x, "m-v1"))[:2] == ("False", "SchemaMissingColumn")


@LATE
def test_load_check_seen_complete_before_its_pods_end_is_not_taken_for_inconclusive(ticks: int) -> None:
    """Fails when a report that is still on its way costs an attempt."""
    x = begun(create(GOOD_A), retrain(GOOD_B)).until(live_is("m-v1"))
    before = load_checks(x)
    x.cluster.lag = {"Pod": ticks}
    x.abort_ticks += ticks
    x.until(live_is("m-v2"), within=100)
    assert len(load_checks(x) - before) == 1


@LATE
def test_standby_whose_job_watch_lags_does_not_take_the_job_for_deleted(ticks: int) -> None:
    """Fails when a status that names a Job, and a cache that does not show it yet, are taken for a deletion."""
    x = begun(create(GOOD_A))
    x.nature.trouble(Trouble.BUSY, trained_by("m-v1"))
    x.until(lambda x: x.cluster.get("Job", "m-v1-run") is not None, within=5)
    x.cluster.lag = {"Job": ticks, "Pod": ticks}
    x.take_over()
    x.go(ticks + 2)
    x.nature.heal()
    x.cluster.lag = {}
    x.settle()
    assert x.condition("Ready", of=run(x, "m-v1"))[:2] == ("True", "Succeeded")
    assert list(x.nature.trained.values()) == [1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phase", ["at rest", *PHASES])
def test_standby_that_leads_with_one_old_cache_harms_nobody(phase: str, kind: str) -> None:
    """Fails when an old Service is taken for the record: traffic goes back to a version that was replaced."""
    ticks = LAGS[-1]
    x = begun(create(GOOD_A), retrain(GOOD_B)).until(live_is("m-v1"))
    x.until(live_is("m-v2") if phase == "at rest" else PHASES[phase])
    x.cluster.lag = {kind: ticks}
    x.abort_ticks += ticks
    x.take_over()
    x.go(ticks + 1)
    x.cluster.lag = {}
    x.settle()
    assert (x.live, x.promoted_digest) == ("m-v2", GOOD_B.model_digest)
    assert [(h.run, h.outcome) for h in x.status.history] == [("m-v2", "Promoted"), ("m-v1", "Promoted")]


@LATE
def test_standby_with_an_old_service_does_not_switch_back_after_a_promotion(ticks: int) -> None:
    """Fails when leading begins with a Service from before the switch, and the old version's Pods are still there."""
    x = begun(create(GOOD_A), retrain(GOOD_B)).until(live_is("m-v1"))
    x.until(lambda x: x.phase(Phase.BAKING) and "m-v2" in str(x.cluster.get("Service", "m")))
    x.cluster.lag = {"Service": ticks}
    x.take_over()
    selector = x.selector
    for _ in range(ticks + 1):
        x.go(1)
        assert x.selector == selector
