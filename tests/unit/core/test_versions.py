"""Which runs are a model's own, and which of what they made is not rolled out again."""

from __future__ import annotations

from typing import Any

import pytest
from steeltown.api.base import API_VERSION
from steeltown.api.conditions import rfc3339
from steeltown.api.mlmodel import HistoryEntry, MLModelSpec, MLModelStatus
from steeltown.core.observed.model import ObservedModel
from steeltown.core.plan import Obj, Snapshot
from steeltown.core.record import Outcome
from steeltown_testing.explore.cluster import START, later
from steeltown_testing.explore.schedule import POLICY
from steeltown_testing.standings import history, model, run, version

ROOT: Obj = {
    "apiVersion": API_VERSION,
    "kind": "MLModel",
    "metadata": {"name": "m", "namespace": "team", "uid": "model", "generation": 1},
}


def owned(name: str, *owners: tuple[str, bool]) -> Obj:
    """A run with these owners: (uid, whether it controls)."""
    found = run(name)
    found["metadata"]["ownerReferences"] = [{"kind": "MLModel", "uid": u, "controller": c} for u, c in owners]
    return found


def observed(*runs: Obj) -> ObservedModel:
    seen = Snapshot(root=ROOT, members={"TrainingRun": {r["metadata"]["name"]: r for r in runs}})
    return ObservedModel.of(seen, MLModelSpec(), MLModelStatus(), START, POLICY)


@pytest.mark.parametrize(
    ("found", "own"),
    [
        (run("m-v1"), True),
        (owned("m-v1", ("model", True)), True),
        (owned("m-v1", ("a model that had the name", True)), False),
        (owned("m-v1", ("a model that had the name", False)), True),
        (owned("m-v1", ("somebody", False), ("model", True)), True),
        (owned("m-v1", ("model", False), ("a model that had the name", True)), False),
    ],
    ids=[
        "by hand",
        "its own",
        "of another uid",
        "another uid that does not control",
        "beside another",
        "another beside",
    ],
)
def test_run_of_another_model_that_had_the_name_counts_for_nothing_but_its_name(found: Obj, own: bool) -> None:
    """Fails when a model that is made again serves what its predecessor made, which is about to be collected."""
    world = observed(found)
    assert (list(world.runs), list(world.run_names)) == (["m-v1"] if own else [], ["m-v1"])
    assert (world.candidate is not None) is own
    assert (world.next_experiment is not None) is own


# --- the same bytes --------------------------------------------------------------------------------------------------


def deleted(name: str = "m-v2", *, seconds: float = 0.0, retry: str | None = None, **more: Any) -> HistoryEntry:
    """The rollout of what `name` made ended because the run was deleted, so many seconds after `made` was created."""
    entry = history(name, "Superseded", "RunDeleted", "was deleted", retry)
    return entry.model_copy(update={"time": rfc3339(later(START, seconds)), **more})


SAME = {"digest": version("m-v2").digest}
TABLE: dict[str, tuple[list[HistoryEntry], str, bool]] = {
    # what the history says, retry of the run, whether it may be rolled out
    "nothing": ([], "", True),
    "its run was deleted, and made again later": ([deleted(seconds=-1)], "", False),
    "and made again within the same second": ([deleted()], "", False),
    "the run is older: it was restored": ([deleted(seconds=1)], "", True),
    "the same bytes under another name": ([deleted("m-v1", seconds=-1, **SAME)], "", False),
    "the same bytes under another name that is younger": ([deleted("m-v1", seconds=1, **SAME)], "", False),
    "other bytes under the name": ([deleted(seconds=-1, digest="sha256:other")], "", True),
    "a person asks for them": ([deleted(seconds=-1)], "1", True),
    "a person had asked for them": ([deleted(seconds=-1, retry="1")], "1", False),
    "a newer version had its turn": ([history("m-v2", "Superseded", "Superseded")], "", True),
    "capacity was missing": ([history("m-v2", "Superseded", "CapacityMissing")], "", True),
    "rejected": ([history("m-v2", "RolledBack", "Crashing")], "", False),
    "promoted since": ([history("m-v2", "Promoted"), deleted(seconds=-1)], "", True),
    "promoted before": ([deleted(seconds=-1), history("m-v2", "Promoted")], "", False),
}


@pytest.mark.parametrize(("entries", "retry", "has_its_turn"), TABLE.values(), ids=TABLE)
def test_bytes_whose_rollout_a_hand_ended_are_not_rolled_out_again(
    entries: list[HistoryEntry], retry: str, has_its_turn: bool
) -> None:
    made = run("m-v2", retry=retry)
    world = model(run("m-v1"), made, live="m-v1", promoted=True, entries=entries, stage="Production")
    assert (world.candidate is not None) is has_its_turn
    assert (world.rejected(world.runs["m-v2"]) is None) is has_its_turn


def test_why_the_same_bytes_are_not_rolled_out_names_where_they_came_from() -> None:
    for name, told in (("m-v2", "was deleted"), ("m-v1", "same model as m-v1: was deleted")):
        world = model(run("m-v2"), entries=[deleted(name, seconds=-1, **SAME)])
        found = world.rejected(world.runs["m-v2"])
        assert found is not None
        assert (found.reason, found.message) == ("RunDeleted", told)


@pytest.mark.parametrize(
    ("retry", "entries", "promoted"),
    [
        ("", [], True),  # the history was lost, or has not got so far
        ("", [history("m-v2", "RolledBack")], False),
        ("", [history("m-v2", "Superseded"), history("m-v2", "RolledBack")], False),
        ("again", [history("m-v2", "RolledBack")], True),  # the attempt after that one
        ("again", [history("m-v2", "Promoted", retry="again"), history("m-v2", "RolledBack")], True),
        ("again", [history("m-v2", "RolledBack", retry="again")], False),
        ("", [history("m-v1", "RolledBack")], True),  # of another
    ],
)
def test_promotion_that_was_taken_back_and_is_put_back_by_a_hand_counts_for_nothing(
    retry: str, entries: list[HistoryEntry], promoted: bool
) -> None:
    """Fails when a genuine record of before is believed: a version that its bake rejected is promoted by a copy."""
    kept = Outcome(result="Promoted", digest=version("m-v2").digest, reason="X", message="", retry=retry)
    found = run("m-v2", outcome=kept, retry=retry)
    world = model(run("m-v1"), found, live="m-v2", entries=entries)
    assert world.was_promoted(version("m-v2")) is promoted
    assert world.promoted is promoted
    assert (world.rejected(world.runs["m-v2"]) is None) is promoted
