"""What people ask of a rollout in flight: another stage, an abort, a brake, and new versions faster than any is proven.

The rule for versions that come in the meantime: a rollout in flight finishes; only one that is held, or that is being
rolled back, makes room for a newer eligible version. After it the newest eligible version is next, those between are
skipped.
"""

from __future__ import annotations

import pytest
from steeltown.api.base import API_VERSION
from steeltown.core.plan import Action, Apply, Obj
from steeltown.core.record import RETRY_ANNOTATION
from steeltown_testing.explore.nature import Behaviour
from steeltown_testing.explore.scenarios import (
    GOOD_A,
    GOOD_B,
    GOOD_C,
    PHASES,
    begun,
    create,
    edit,
    in_step,
    live_is,
    restage,
    retrain,
    rolling_out,
    template,
)
from steeltown_testing.explore.schedule import MODEL, Explorer

BEFORE_PROMOTION = [name for name in PHASES if name not in ("promoting", "baking")]


at = rolling_out


def by_hand(x: Explorer, name: str, behaviour: Behaviour) -> Obj:
    spec = {"modelRef": {"name": MODEL}, **template(behaviour)}
    meta = {"name": name, "namespace": x.cluster.namespace}
    return x.cluster.put({"apiVersion": API_VERSION, "kind": "TrainingRun", "metadata": meta, "spec": spec})


def ends(x: Explorer, run: str) -> list[str]:
    """How the rollouts of a run ended, newest first."""
    return [h.outcome for h in x.status.history if h.run == run]


def test_version_with_another_interface_is_promoted_once_that_is_accepted_and_not_before() -> None:
    renamed = Behaviour("renamed", "b")
    x = begun(create(GOOD_A), retrain(renamed)).until(live_is("m-v1"))
    x.until(lambda x: bool(ends(x, "m-v2"))).settle()
    assert (x.live, ends(x, "m-v2")) == ("m-v1", ["RolledBack"])
    assert x.condition("InterfaceCompatible")[:2] == ("False", "InterfaceChanged")
    assert "output 'y' (FP32 [-1,1]) is gone" in x.condition("InterfaceCompatible")[2]
    assert x.model is not None
    x.cluster.set_spec(x.model, lambda spec: {**spec, "objectives": {**spec["objectives"], "interface": "Any"}})
    x.go(30)
    assert ends(x, "m-v2") == ["RolledBack"], "a rejection is taken back by a person alone"
    assert not x.nature.carried.get(renamed.model_digest)
    run = x.cluster.get("TrainingRun", "m-v2")
    assert run is not None
    x.cluster.set_metadata(run, annotations={**run["metadata"]["annotations"], RETRY_ANNOTATION: "1"})
    x.until(live_is("m-v2"))
    assert ends(x, "m-v2") == ["Promoted", "RolledBack"]
    assert x.condition("InterfaceCompatible")[:2] == ("True", "ObservedOnly")


def test_interface_that_cannot_be_compared_is_no_pass_until_any_is_accepted() -> None:
    """The live version's manifest is lost; nobody is stuck, and nothing is rejected."""
    x = begun(create(Behaviour("uncharted", "a")), retrain(GOOD_B)).until(live_is("m-v1"))
    x.until(lambda x: x.condition("Stalled")[1] == "InterfaceUnknown")
    x.go(30)
    assert (x.live, ends(x, "m-v2"), x.nature.carried.get(GOOD_B.model_digest)) == ("m-v1", [], None)
    assert x.condition("InterfaceCompatible")[:2] == ("Unknown", "InterfaceUnknown")
    assert "ManifestMissing" in x.condition("Stalled")[2]
    assert x.model is not None
    x.cluster.set_spec(x.model, lambda spec: {**spec, "objectives": {**spec["objectives"], "interface": "Any"}})
    x.until(live_is("m-v2"))
    assert ends(x, "m-v2") == ["Promoted"]


def words(x: Explorer) -> str:
    return " ".join(c.message for c in x.status.conditions)


# --- newer versions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("newer", ["worse", "baddata"])
@pytest.mark.parametrize("phase", PHASES)
def test_newer_version_that_is_not_eligible_does_not_end_a_healthy_rollout(phase: str, newer: str) -> None:
    """Fails when newer is enough, whatever the gates said about it."""
    x = at(phase)
    retrain(Behaviour(newer, "c")).act(x)
    x.settle()
    assert ends(x, "m-v2") == ["Promoted"]
    assert (x.live, x.promoted_digest) == ("m-v2", GOOD_B.model_digest)


@pytest.mark.parametrize("phase", PHASES)
def test_somebodys_trial_does_not_end_a_healthy_rollout(phase: str) -> None:
    """Fails when a run that nobody asked to be promoted takes the place of the one in flight."""
    x = at(phase)
    by_hand(x, "trial", Behaviour("worse", "x"))
    x.settle()
    assert ends(x, "m-v2") == ["Promoted"]
    assert x.live == "m-v2"


@pytest.mark.parametrize("phase", PHASES)
def test_rollout_in_flight_finishes_before_a_newer_eligible_version_begins(phase: str) -> None:
    """Fails when each new version throws away the evidence about the one before it."""
    x = at(phase)
    retrain(GOOD_C).act(x)
    x.settle()
    assert [(h.run, h.outcome) for h in x.status.history][:2] == [("m-v3", "Promoted"), ("m-v2", "Promoted")]
    assert x.live == "m-v3"


def test_stream_of_new_versions_is_promoted_all_the_same() -> None:
    """Fails when a new run every few seconds ends each rollout before its end: many versions, no promotion."""
    x = begun(create(GOOD_A)).until(live_is("m-v1"))
    for number in range(40):
        retrain(Behaviour("good", f"s{number}")).act(x)
        x.go(3)
    promoted = [h.run for h in x.status.history if h.outcome == "Promoted"]
    assert len(promoted) >= 4
    x.settle()
    assert x.promoted_digest == Behaviour("good", "s39").model_digest


def test_versions_between_are_skipped_when_a_rollout_has_ended() -> None:
    """Fails when each of the versions that have come meanwhile is rolled out in turn."""
    x = at("first step")
    for number in range(3):
        retrain(Behaviour("good", f"s{number}")).act(x)
        x.go(1)
    x.settle()
    assert [h.run for h in x.status.history] == ["m-v5", "m-v2", "m-v1"]


def test_rollout_that_is_held_makes_room_for_a_newer_eligible_version() -> None:
    """Fails when a version that a person has to look at blocks the one that would replace it."""
    x = begun(create(GOOD_A), retrain(Behaviour("unmeasurable", "b"))).until(live_is("m-v1"))
    x.until(lambda x: x.rollout is not None and x.condition("Stalled")[0] == "True")
    retrain(GOOD_C).act(x)
    x.settle()
    assert (x.live, x.promoted_digest) == ("m-v3", GOOD_C.model_digest)


# --- stage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [False, True], ids=["", "frozen"])
@pytest.mark.parametrize("phase", BEFORE_PROMOTION)
def test_withdrawn_promotion_keeps_the_live_version_and_serves_the_candidate_to_nobody(
    phase: str, frozen: bool
) -> None:
    """Fails when an unproven candidate becomes the newest experiment, or the brake holds it at its share."""
    x = at(phase)
    if frozen:
        edit(frozen=True).act(x)
        x.go(2)
    selector = x.selector
    restage("Experimental").act(x)
    for tick in range(30):
        x.go(1)
        assert x.selector == selector
        assert tick <= x.abort_ticks or not any(r.weight for r in x._routes().values())
    x.settle()
    assert x.live == "m-v1"
    assert x.rollout is None
    assert x.outcome("m-v2")[0] != "RolledBack"


@pytest.mark.parametrize("phase", BEFORE_PROMOTION)
def test_promotion_that_is_asked_for_again_begins_a_fresh_rollout(phase: str) -> None:
    """Fails when forward again promotes what was never proven, because it is served by now."""
    x = at(phase)
    restage("Experimental").act(x)
    x.until(lambda x: x.rollout is None and x.settled())
    before = len(x.routed)
    restage("Production").act(x)
    x.settle()
    assert (x.live, x.promoted_digest) == ("m-v2", GOOD_B.model_digest)
    weights = {weight for _, digest, weight in x.routed[before:] if digest == GOOD_B.model_digest}
    assert weights == {20, 50}


def test_newer_experiment_is_served_after_a_withdrawal() -> None:
    """Fails when a withdrawal stops more than the version whose rollout it ended."""
    x = at("first step")
    restage("Experimental").act(x)
    x.settle()
    retrain(GOOD_C).act(x)
    x.settle()
    assert x.live == "m-v3"


# --- abort -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [False, True], ids=["", "frozen"])
@pytest.mark.parametrize("phase", PHASES)
def test_abort_ends_the_rollout_at_once_and_rejects_its_version(phase: str, frozen: bool) -> None:
    """Fails when an abort waits for its turn, does nothing while frozen, or is an annotation that is ignored."""
    x = at(phase)
    if frozen:
        edit(frozen=True).act(x)
        x.go(2)
    edit(abort="m-v2").act(x)
    x.go(x.abort_ticks + 1)
    assert not any(route.weight for route in x._routes().values())
    x.settle()
    assert x.live == "m-v1"
    assert x.outcome("m-v2") == ("RolledBack", "Aborted")
    edit(frozen=False).act(x)
    x.go(20)
    assert x.live == "m-v1"
    retrain(GOOD_C).act(x)
    x.settle()
    assert (x.live, x.promoted_digest) == ("m-v3", GOOD_C.model_digest)


def test_abort_of_a_run_that_does_not_exist_is_said() -> None:
    """Fails when what cannot be done is ignored in silence."""
    x = at("first step")
    edit(abort="m-v9").act(x)
    x.go(2)
    assert "m-v9" in words(x)
    x.until(live_is("m-v2"))
    assert "m-v9" in words(x)


def test_abort_of_the_live_version_after_its_rollout_moves_no_traffic() -> None:
    """Fails when an abort that comes too late takes away what has long been proven."""
    x = begun(create(GOOD_A), retrain(GOOD_B)).until(live_is("m-v2")).settle()
    selector = x.selector
    edit(abort="m-v2").act(x)
    x.settle()
    assert x.selector == selector
    assert "abort" in words(x)


# --- rolling back ----------------------------------------------------------------------------------------------------


class WatchesScale(Explorer):
    """Notes how many replicas each Deployment is given."""

    def __post_init__(self) -> None:
        self.sizes: list[tuple[str, int]] = []
        super().__post_init__()

    def _written(self, what: Action | Obj) -> None:
        super()._written(what)
        if isinstance(what, Apply) and what.body["kind"] == "Deployment":
            self.sizes.append((what.body["metadata"]["name"], what.body["spec"]["replicas"]))


@pytest.mark.parametrize("kind", ["unloadable", "slow", "failing"])
def test_rollback_never_scales_the_rejected_candidate_up(kind: str) -> None:
    """Fails when the candidate is kept at full size until its end: a rollback that needs room may find none."""
    steps = (create(GOOD_A), retrain(Behaviour(kind, "b")))
    x = WatchesScale(scenario=begun(*steps, replicas=4).scenario)
    x.until(lambda x: x.outcome("m-v2")[0] == "RolledBack").settle()
    live = next(d for d in x.cluster.of_kind("Deployment") if x.selector.items() <= d["metadata"]["labels"].items())
    given = [size for name, size in x.sizes if name not in (live["metadata"]["name"], f"{MODEL}-baseline")]
    assert max(given) == 1


def test_healthy_canary_is_not_ended_by_an_experiment_that_is_eligible_before_it_is_its_turn() -> None:
    """Fails when somebody's good trial throws away the evidence about the version in flight."""
    x = at("second step")
    assert in_step(1)(x)
    by_hand(x, "trial", GOOD_C)
    x.settle()
    assert ends(x, "m-v2") == ["Promoted"]
