"""Platforms that fail: no node, no image, no quota, evicted and dying Pods, evidence that cannot be read.

What says nothing about the model is never a Pass and never a rejection (I13): the rollout waits, says for what, and
goes on when the platform is well. What does say something (a new version that dies in service while the old one is
healthy) rolls back to a version that is still there.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from steeltown.api.mlmodel import Phase
from steeltown.core.plan import Obj, Target
from steeltown_testing.explore.nature import QUOTA, Behaviour, Trouble, everything, of_component, of_run, trained_by
from steeltown_testing.explore.scenarios import (
    GOOD_A,
    GOOD_B,
    GOOD_C,
    PHASES,
    When,
    begun,
    create,
    live_is,
    model,
    retrain,
    rolling_out,
    run,
    template,
)
from steeltown_testing.explore.schedule import MODEL, Explorer, Step

FAILING = Behaviour("failing", "b")
SEED = int(os.environ.get("STEELTOWN_EXPLORE_SEED", "20260101"))
STORMS = int(os.environ.get("STEELTOWN_EXPLORE_STORMS", "12"))
"""Schedules of random troubles."""

HOLD: dict[str, Any] = {"onInconclusive": "Hold", "progressDeadlineSeconds": 10}
HARSH: dict[str, Any] = {"onInconclusive": "Rollback", "progressDeadlineSeconds": 10}
"""The model that forgives least: ten seconds for each phase, and what is inconclusive by then is rolled back."""
OUTAGE_TICKS = 25
"""Well past those ten seconds."""
DEAD = (Trouble.UNSCHEDULABLE, Trouble.IMAGE_PULL)


def at(phase: str, candidate: Behaviour = GOOD_B, *, harsh: bool = False, replicas: int = 2) -> Explorer:
    return rolling_out(phase, candidate, replicas=replicas, **(HARSH if harsh else HOLD))


def before_rollout(*, harsh: bool = False, candidate: Behaviour = GOOD_B) -> Explorer:
    """m-v1 is live, and the next version begins to be trained."""
    return begun(create(GOOD_A, **(HARSH if harsh else HOLD)), retrain(candidate)).until(live_is("m-v1"))


def ended(name: str) -> When:
    return lambda x: bool((x.cluster.get("TrainingRun", name) or {}).get("status", {}).get("completionTime"))


def messages(x: Explorer, of: Obj | None = None) -> str:
    conditions = ((of or x.model or {}).get("status") or {}).get("conditions") or ()
    return " ".join(c["message"] for c in conditions)


def in_production(x: Explorer, name: str, behaviour: Behaviour) -> None:
    assert (x.live, x.promoted_digest) == (name, behaviour.model_digest)
    assert x.outcome(name)[0] == "Promoted"


# --- training --------------------------------------------------------------------------------------------------------


def created(behaviour: Behaviour, **spec: object) -> Step:
    """A model whose runs have a spec of their own."""

    def act(x: Explorer) -> None:
        obj = model(behaviour)
        changed = {**obj["spec"], "training": {"template": {**template(behaviour), **spec}}}
        meta = {**obj["metadata"], "namespace": x.cluster.namespace}
        x.cluster.put({**obj, "metadata": meta, "spec": changed})

    return Step(when=lambda x: True, act=act)


@pytest.mark.parametrize("pending", [0, 5])
def test_second_pod_of_a_run_has_a_start_deadline_of_its_own(pending: int) -> None:
    """Fails when the age of the Job is counted: a drain after the deadline ends a run that only waits for its Pod."""
    x = begun(created(GOOD_A, startDeadlineSeconds=10))
    x.nature.trouble(Trouble.BUSY, trained_by("m-v1"))
    x.go(20)
    x.nature.evict(trained_by("m-v1"), pending=pending)
    x.go(3 + pending)
    x.nature.heal()
    x.settle()
    assert x.condition("Ready", of=run(x, "m-v1"))[:2] == ("True", "Succeeded")


def test_run_whose_second_pod_cannot_be_made_for_a_while_waits_for_it() -> None:
    """Fails when a Job without a Pod is taken for one that has never started."""
    x = begun(created(GOOD_A, startDeadlineSeconds=10))
    x.nature.trouble(Trouble.BUSY, trained_by("m-v1"))
    x.go(20)
    x.nature.trouble(Trouble.NO_PODS, trained_by("m-v1"), ticks=6)
    x.nature.evict(trained_by("m-v1"))
    x.go(6)
    x.nature.heal()
    x.settle()
    assert x.condition("Ready", of=run(x, "m-v1"))[:2] == ("True", "Succeeded")


def test_second_pod_that_finds_no_node_within_the_deadline_ends_the_run_with_the_cause() -> None:
    """Fails when an attempt that never starts is waited for without an end."""
    x = begun(created(GOOD_A, startDeadlineSeconds=10))
    x.nature.trouble(Trouble.BUSY, trained_by("m-v1"))
    x.go(20)
    x.nature.evict(trained_by("m-v1"), pending=100)
    x.until(ended("m-v1"), within=20)
    assert x.condition("Ready", of=run(x, "m-v1"))[:2] == ("False", "Unschedulable")


def test_job_that_can_make_no_pod_says_why_within_ten_seconds() -> None:
    """Fails when the cause stands in the Job's Events alone, and the run is said to wait for images."""
    x = begun(create(GOOD_A))
    x.nature.trouble(Trouble.NO_PODS, trained_by("m-v1"))
    x.until(lambda x: bool(x.cluster.of_kind("Job"))).go(10)
    assert QUOTA in messages(x, run(x, "m-v1"))
    x.nature.heal()
    x.settle()
    in_production(x, "m-v1", GOOD_A)


def load_checks(x: Explorer) -> list[Obj]:
    return [j for j in x.cluster.of_kind("Job") if of_component("loadcheck")(j)]


@pytest.mark.parametrize("harsh", [False, True], ids=["hold", "rollback"])
def test_load_check_that_can_make_no_pod_says_why_within_ten_seconds(harsh: bool) -> None:
    """Fails when the cause stands in the Job's Events alone, and the load check is said to be in progress."""
    x = before_rollout(harsh=harsh)
    x.nature.trouble(Trouble.NO_PODS, of_component("loadcheck"))
    known = {j["metadata"]["name"] for j in load_checks(x)}
    x.until(lambda x: any(j["metadata"]["name"] not in known for j in load_checks(x))).go(10)
    assert x.condition("ServingPerformance")[:2] == ("Unknown", "JobBlocked")
    assert QUOTA in x.condition("ServingPerformance")[2]
    assert x.condition("Reconciling")[:2] == ("True", "JobBlocked")
    x.nature.heal()
    x.until(live_is("m-v2"), within=120).settle()
    in_production(x, "m-v2", GOOD_B)


def test_load_checks_that_never_start_hold_the_rollout_and_say_why() -> None:
    """Fails when what is left in the end is that no report was found."""
    x = before_rollout(harsh=True)
    x.nature.trouble(Trouble.NO_PODS, of_component("loadcheck"))
    x.until(lambda x: x.condition("Stalled")[0] == "True", within=600)
    assert x.condition("Stalled")[1] == "LoadCheckFailed"
    assert QUOTA in x.condition("Stalled")[2]
    x.nature.heal()
    x.until(live_is("m-v2"), within=900).settle()
    in_production(x, "m-v2", GOOD_B)


@pytest.mark.parametrize("trouble", DEAD)
def test_run_that_waits_for_the_platform_says_so_and_goes_on(trouble: Trouble) -> None:
    """Fails when a Pod that cannot start yet ends the run before its deadline."""
    x = begun(create(GOOD_A))
    x.nature.trouble(trouble, trained_by("m-v1"))
    x.go(20)
    assert not ended("m-v1")(x)
    x.nature.heal()
    x.settle()
    in_production(x, "m-v1", GOOD_A)


# --- the rollout waits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harsh", [False, True], ids=["hold", "rollback"])
@pytest.mark.parametrize("trouble", [*DEAD, Trouble.NO_PODS])
@pytest.mark.parametrize("who", ["candidate", "baseline", "load check", "everybody"])
def test_platform_that_starts_no_pod_rejects_nobody(who: str, trouble: Trouble, harsh: bool) -> None:
    """Fails when a deadline that passes for want of a node, an image or quota is held against the version."""
    x = before_rollout(harsh=harsh)
    which = {
        "candidate": of_run("m-v2"),
        "baseline": of_run("m-v1", "baseline"),
        "load check": of_component("loadcheck"),
        "everybody": lambda obj: not trained_by("m-v2")(obj),
    }[who]
    x.nature.trouble(trouble, which, ticks=OUTAGE_TICKS)
    x.go(OUTAGE_TICKS)
    assert x.live == "m-v1"
    assert x.outcome("m-v2")[0] != "RolledBack"
    x.until(live_is("m-v2"), within=120).settle()
    in_production(x, "m-v2", GOOD_B)


@pytest.mark.parametrize("trouble", DEAD)
def test_rollout_that_waits_for_the_platform_says_for_what(trouble: Trouble) -> None:
    """Fails when all that is said is that it was not ready in time."""
    x = before_rollout(harsh=True)
    x.nature.trouble(trouble, of_run("m-v2"))
    x.go(OUTAGE_TICKS)
    reason = {Trouble.UNSCHEDULABLE: "Unschedulable", Trouble.IMAGE_PULL: "ImagePullFailed"}[trouble]
    assert reason in {c.reason for c in x.status.conditions}
    word = {Trouble.UNSCHEDULABLE: "Insufficient memory", Trouble.IMAGE_PULL: "registry unavailable"}[trouble]
    assert word in messages(x)


@pytest.mark.parametrize("harsh", [False, True], ids=["hold", "rollback"])
@pytest.mark.parametrize("phase", ["first step", "second step"])
def test_capacity_that_the_next_step_needs_may_come_late(phase: str, harsh: bool) -> None:
    """Fails when a full node between two steps is held against the version."""
    x = at(phase, harsh=harsh, replicas=4)
    x.nature.trouble(Trouble.UNSCHEDULABLE, of_run("m-v2"), ticks=OUTAGE_TICKS)
    x.go(OUTAGE_TICKS)
    assert x.outcome("m-v2")[0] != "RolledBack"
    x.until(live_is("m-v2"), within=120).settle()
    in_production(x, "m-v2", GOOD_B)


DRAINED = {
    "candidate": tuple(PHASES),
    "live version": tuple(PHASES),
    "baseline": ("loading", "load checking"),
    "load check": ("load checking",),
    "everybody": tuple(PHASES),
}
"""Who has Pods to lose, and when."""


def _checks(pod: Obj) -> bool:
    """A load check that is under way."""
    return of_component("loadcheck")(pod) and pod["status"].get("phase") not in ("Succeeded", "Failed")


@pytest.mark.parametrize(
    ("pending", "harsh"), [(0, False), (15, False), (15, True)], ids=["short", "long, hold", "long, rollback"]
)
@pytest.mark.parametrize(("phase", "who"), [(phase, who) for who, phases in DRAINED.items() for phase in phases])
def test_drain_in_any_phase_rejects_nobody(phase: str, who: str, pending: int, harsh: bool) -> None:
    """Fails when the loss of a node is taken for what a version has done."""
    x = at(phase, harsh=harsh)
    which = {
        "candidate": of_run("m-v2"),
        "live version": of_run("m-v1"),
        "baseline": of_run("m-v1", "baseline"),
        "load check": _checks,
        "everybody": everything,
    }[who]
    assert x.nature.evict(which, pending=pending) > 0
    x.until(live_is("m-v2"), within=150).settle()
    in_production(x, "m-v2", GOOD_B)


def test_load_check_that_is_evicted_again_and_again_rejects_nobody() -> None:
    """Fails when lost load checks add up to a verdict."""
    x = at("load checking", harsh=True)
    for _ in range(5):
        x.nature.evict(of_component("loadcheck"))
        x.go(2)
    x.until(live_is("m-v2"), within=150).settle()
    in_production(x, "m-v2", GOOD_B)


# --- refused writes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Deployment", "Service", "Job", "TrainingRun"])
@pytest.mark.parametrize("phase", PHASES)
def test_refused_children_delay_a_rollout_and_do_not_change_its_end(phase: str, kind: str) -> None:
    """Fails when a quota on one kind makes something of the rollout be skipped or rejected."""
    x = at(phase)
    x.cluster.refused = {kind: f"exceeded quota: count/{kind.lower()}s"}
    x.go(15)
    x.cluster.refused = {}
    x.until(live_is("m-v2"), within=120).settle()
    in_production(x, "m-v2", GOOD_B)


@pytest.mark.parametrize("kind", ["TrainingRun", "Deployment", "Service"])
def test_weight_goes_to_nothing_although_something_else_is_refused(kind: str) -> None:
    """Fails when the first refusal ends the plan: the canary that fails keeps its share (I6)."""
    x = at("first step", FAILING)
    x.cluster.refused = {kind: "exceeded quota"}
    retrain(GOOD_C).act(x)  # a TrainingRun to make, before anything of the rollback
    live = next(d for d in x.cluster.of_kind("Deployment") if d["metadata"]["labels"].items() >= x.selector.items())
    x.cluster.set_metadata(live, annotations={})  # and a Deployment to mend
    x.until(lambda x: x.phase(Phase.ROLLING_BACK) or x.outcome("m-v2")[0] == "RolledBack", within=20)
    x.go(x.abort_ticks)
    assert not any(route.weight for route in x._routes().values())
    x.cluster.refused = {}
    x.settle()
    assert x.live in ("m-v1", "m-v3")


# --- what dies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES)
def test_live_pods_that_die_for_a_while_are_not_held_against_the_candidate(phase: str) -> None:
    """Fails when trouble of the live version ends the rollout of the one that may mend it."""
    x = at(phase, harsh=True)
    x.nature.trouble(Trouble.CRASHING, of_run("m-v1"), ticks=4)
    x.until(live_is("m-v2"), within=150).settle()
    in_production(x, "m-v2", GOOD_B)


@pytest.mark.parametrize("trouble", [Trouble.CRASHING, Trouble.UNREADY])
def test_version_whose_pods_die_in_the_bake_goes_back_to_the_old_one_which_is_still_there(trouble: Trouble) -> None:
    """Fails when the bake is a timer: it passes while every new Pod crashes, and the healthy old version is deleted."""
    x = at("baking")
    old = next(
        d for d in x.cluster.of_kind("Deployment") if d["metadata"]["labels"].items() < _labels(x, "m-v1").items()
    )
    x.nature.trouble(trouble, of_run("m-v2"))
    x.settle()
    assert x.live == "m-v1"
    assert x.outcome("m-v2")[0] == "RolledBack"
    kept = x.cluster.objects.get(Target("Deployment", x.cluster.namespace, old["metadata"]["name"]))
    assert kept is not None
    assert kept["metadata"]["uid"] == old["metadata"]["uid"]
    assert len(x.nature.endpoints(MODEL)) == x.scenario.replicas


def _labels(x: Explorer, name: str) -> dict[str, str]:
    labels: dict[str, str] = next(p for p in x.cluster.of_kind("Pod") if of_run(name)(p))["metadata"]["labels"]
    return labels


def test_version_that_dies_as_soon_as_it_serves_everybody_is_rolled_back() -> None:
    """Fails when Pods that die under the whole traffic are out of sight: who is not ready says nothing bad."""
    x = before_rollout(candidate=Behaviour("latecrashing", "b"))
    x.until(lambda x: x.outcome("m-v2")[0] == "RolledBack", within=80).settle()
    assert x.live == "m-v1"
    assert len(x.nature.endpoints(MODEL)) == x.scenario.replicas


@pytest.mark.parametrize("harsh", [False, True], ids=["hold", "rollback"])
def test_bake_does_not_pass_while_its_evidence_cannot_be_read(harsh: bool) -> None:
    """Fails when no news is good news: the old version is deleted without a look at the new one."""
    x = at("baking", harsh=harsh)
    x.nature.trouble(Trouble.MUTE)
    x.go(20)
    assert x.phase(Phase.BAKING)
    assert any(of_run("m-v1")(p) for p in x.cluster.of_kind("Pod"))
    x.nature.heal()
    x.settle()
    in_production(x, "m-v2", GOOD_B)


def test_bake_of_a_version_that_fails_behind_unreadable_evidence_ends_in_a_rollback() -> None:
    """Fails when the bake has passed before its evidence could be read."""
    x = at("baking", Behaviour("latefailing", "b"))
    x.nature.trouble(Trouble.MUTE, ticks=15)
    x.until(lambda x: x.outcome("m-v2")[0] == "RolledBack", within=60).settle()
    assert x.live == "m-v1"


@pytest.mark.parametrize("trouble", [Trouble.MUTE, Trouble.STALE])
@pytest.mark.parametrize("phase", ["first step", "second step"])
def test_canary_whose_evidence_does_not_come_is_neither_passed_nor_rejected(phase: str, trouble: Trouble) -> None:
    """Fails when evidence that cannot be read is inconclusive evidence, and so a rejection.

    Old counts of the same step look like users who have gone: there only whoever rolls back without evidence rejects.
    """
    x = at(phase, harsh=trouble is Trouble.MUTE)
    x.go(1)
    x.nature.trouble(trouble)
    step = x.status.rollout.step if x.status.rollout else -1
    x.go(OUTAGE_TICKS)
    assert x.outcome("m-v2")[0] == ""
    assert x.status.rollout is not None
    assert x.status.rollout.step <= step + 1
    x.nature.heal()
    x.settle()
    in_production(x, "m-v2", GOOD_B)


# --- at random -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(STORMS))
def test_random_troubles_of_the_platform_only_delay_what_is_good(number: int) -> None:
    """Fails when troubles together do what no single one does. A failure prints what replays it."""
    seed = f"{SEED} storm {number}"
    generator = random.Random(seed)
    x = before_rollout(harsh=generator.random() < 0.5)
    done = []
    try:
        for _ in range(60):
            if generator.random() < 0.1:
                name = generator.choice(sorted(WEATHER))
                ticks = generator.randrange(1, 15)
                done.append(f"{x.tick}: {name} for {ticks}")
                WEATHER[name](x, ticks)
            x.go(1)
            x.cluster.refused = {k: v for k, v in x.cluster.refused.items() if int(v.split()[-1]) > x.tick}
        x.nature.heal()
        x.cluster.refused = {}
        x.until(live_is("m-v2"), within=200).settle()
        in_production(x, "m-v2", GOOD_B)
    except AssertionError as error:
        acts = "\n".join(done)
        pytest.fail(f"seed {seed!r}\n{acts}\n{error}")


def _refuse(x: Explorer, kind: str, ticks: int) -> None:
    x.cluster.refused = {**x.cluster.refused, kind: f"exceeded quota until tick {x.tick + ticks}"}


WEATHER: dict[str, Callable[[Explorer, int], object]] = {
    "no node": lambda x, ticks: x.nature.trouble(Trouble.UNSCHEDULABLE, ticks=ticks),
    "no image": lambda x, ticks: x.nature.trouble(Trouble.IMAGE_PULL, ticks=ticks),
    "no quota": lambda x, ticks: x.nature.trouble(Trouble.NO_PODS, ticks=ticks),
    "no evidence": lambda x, ticks: x.nature.trouble(Trouble.MUTE, ticks=ticks),
    "old evidence": lambda x, ticks: x.nature.trouble(Trouble.STALE, ticks=ticks),
    "candidate drained": lambda x, ticks: x.nature.evict(of_run("m-v2"), pending=ticks),
    "live version drained": lambda x, ticks: x.nature.evict(of_run("m-v1"), pending=ticks),
    "load check drained": lambda x, ticks: x.nature.evict(of_component("loadcheck"), pending=ticks),
    "Deployments refused": lambda x, ticks: _refuse(x, "Deployment", ticks),
    "Services refused": lambda x, ticks: _refuse(x, "Service", ticks),
    "Jobs refused": lambda x, ticks: _refuse(x, "Job", ticks),
}


# --- the fix of what is broken ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("harsh", [False, True], ids=["hold", "rollback"])
@pytest.mark.parametrize("broken", ["its new Pods", "all of it"])
def test_fix_of_a_live_version_that_is_broken_can_be_rolled_out(broken: str, harsh: bool) -> None:
    """Fails when a baseline that cannot become ready blocks, or even rejects, the version that mends it."""
    x = before_rollout(harsh=harsh)
    x.nature.trouble(Trouble.CRASHING, of_run("m-v1", "baseline"))
    if broken == "all of it":
        x.nature.trouble(Trouble.CRASHING, of_run("m-v1"))
    x.until(lambda x: x.live == "m-v2", within=100)
    x.nature.heal()
    x.settle()
    in_production(x, "m-v2", GOOD_B)


DIES: dict[str, tuple[tuple[str, str], str]] = {
    "loading": (("RolledBack", "Crashing"), "RolledBack"),
    "load checking": (("RolledBack", "Crashing"), "RolledBack"),
    "first step": (("RolledBack", "ErrorRateTooHigh"), "RolledBack"),
    "second step": (("RolledBack", "ErrorRateTooHigh"), "RolledBack"),
    "promoting": (("RolledBack", "Crashing"), "RolledBack"),
    "baking": (("RolledBack", "Crashing"), "RolledBack"),
}
"""How it ends for a version whose Pods die from this phase on, and why the model is stalled."""


@pytest.mark.parametrize("harsh", [False, True], ids=["hold", "rollback"])
@pytest.mark.parametrize("phase", PHASES)
def test_version_whose_pods_die_from_some_phase_on_is_never_promoted(phase: str, harsh: bool) -> None:
    """Fails when Pods that die are passed over for what was shown before."""
    x = at(phase, harsh=harsh)
    x.nature.trouble(Trouble.CRASHING, of_run("m-v2"))
    x.go(60).settle()
    outcome, stalled = DIES[phase]
    assert (x.live, x.outcome("m-v2"), x.condition("Stalled")[1]) == ("m-v1", outcome, stalled)
    assert len(x.nature.endpoints(MODEL)) == x.scenario.replicas
