"""Who asks for new TrainingRuns: when the template makes one, under which name, and when nothing does."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from steeltown.api.mlmodel import Phase
from steeltown.api.trainingrun import TrainingRunTemplate
from steeltown.core import new_runs
from steeltown.core.new_runs import TEMPLATE_ANNOTATION, Wish, fingerprint, new_run
from steeltown.core.observed.model import ObservedModel
from steeltown.core.plan import Obj
from steeltown_testing.explore.cluster import START
from steeltown_testing.explore.scenarios import GOOD_A, GOOD_B, template
from steeltown_testing.explore.schedule import MODEL
from steeltown_testing.standings import history, model, rollout, run

A, B = template(GOOD_A), template(GOOD_B)


def fingerprint_of(raw: Obj) -> str:
    return fingerprint(TrainingRunTemplate.model_validate(raw))


def made_from(name: str, raw: Obj, *, noted: bool = True, owned: bool = True, **more: Any) -> Obj:
    """A run that the template made. noted, owned: False where a hand took that away."""
    found = run(name, spec={"modelRef": {"name": MODEL}, **raw}, **more)
    if noted:
        found["metadata"]["annotations"][TEMPLATE_ANNOTATION] = fingerprint_of(raw)
    if owned:
        found["metadata"]["ownerReferences"] = [{"kind": "MLModel", "uid": "model", "controller": True}]
    return found


def asked(world: ObservedModel) -> Obj | None:
    """The run that is created, None if there is none."""
    made, again = new_run(world, START)
    assert again is None
    assert len(made) <= 1
    return made[0].body if made else None


def training(raw: Obj | None) -> Obj:
    return {"template": raw} if raw else {}


BY_HAND = run("mine", spec={"modelRef": {"name": MODEL}, **B})
CASES: dict[str, tuple[ObservedModel, str | None]] = {
    "the first": (model(training=training(A)), "m-v1"),
    "unchanged": (model(made_from("m-v1", A), training=training(A)), None),
    "unchanged while it trains": (model(made_from("m-v1", A, made=False), training=training(A)), None),
    "unchanged after it failed": (model(made_from("m-v1", A, made=False, failed=True), training=training(A)), None),
    "changed": (model(made_from("m-v1", A), training=training(B)), "m-v2"),
    "changed while the last one trains": (model(made_from("m-v1", A, made=False), training=training(B)), "m-v2"),
    "changed back": (model(made_from("m-v1", A), made_from("m-v2", B), training=training(A)), "m-v3"),
    "a default written out": (
        model(made_from("m-v1", A), training=training({**A, "maxAttempts": 3, "startDeadlineSeconds": 600})),
        None,
    ),
    "a hand took the annotation": (model(made_from("m-v1", A, noted=False), training=training(A)), None),
    "a hand took the annotation, and it changed": (
        model(made_from("m-v1", A, noted=False), training=training(B)),
        "m-v2",
    ),
    "a restore took the owner": (model(made_from("m-v1", A, owned=False), training=training(A)), None),
    "a spec of another version without its annotation": (
        model(
            {**made_from("m-v1", A, noted=False), "spec": {"modelRef": {"name": MODEL}, "train": {"data": 7}}},
            training=training(A),
        ),
        "m-v2",
    ),
    "somebody's own run is none of the template's": (model(BY_HAND, training=training(B)), "m-v1"),
    "nor is it newer than that": (model(made_from("m-v1", A), BY_HAND, training=training(A)), None),
    "the newest was deleted": (model(made_from("m-v1", B), training=training(A), live="m-v2"), "m-v3"),
    "numbers count, not text": (
        model(made_from("m-v9", B), made_from("m-v10", A), training=training(B)),
        "m-v11",
    ),
    "a number by hand": (model(run("m-v41"), made_from("m-v1", A), training=training(B)), "m-v42"),
    "after the last number that is read": (
        model(run("m-v999999999"), made_from("m-v1000000000", A), training=training(B)),
        "m-v1000000001",
    ),
    "runs of a model that had the name": (
        model(made_from("m-v1", A), training=training(B), taken=["m-v5"]),
        "m-v6",
    ),
    "none but those": (model(training=training(A), taken=["m-v1"]), "m-v2"),
    "names that only begin alike": (
        model(run("m-v7x"), run("mm-v8"), run("m-v12345678901"), training=training(A)),
        "m-v1",
    ),
    "frozen": (model(training=training(A), frozen=True), None),
    "no template": (model(training=training(None)), None),
    "no training": (model(), None),
}


@pytest.mark.parametrize(("world", "name"), CASES.values(), ids=CASES)
def test_template_makes_a_run_when_it_is_not_that_of_the_newest(world: ObservedModel, name: str | None) -> None:
    body = asked(world)
    assert (body["metadata"]["name"] if body else None) == name


def candidate(name: str) -> Obj:
    return {"versions": {"candidate": {"run": name, "digest": "sha256:x"}}}


GONE: dict[str, ObservedModel] = {
    "live": model(training=training(A), live="m-v5"),
    "live before": model(training=training(A), live="m-v1", previous="m-v5"),
    "in the history": model(training=training(A), entries=[history("m-v5", "RolledBack")]),
    "in flight": model(training=training(A), in_flight=rollout("m-v5", Phase.LOADING)),
    "the last candidate": model(training=training(A), status=candidate("m-v5")),
    "the last that was judged": model(
        training=training(A), status={"verdict": {"run": "m-v5", "result": "Fail", "reason": "TrainerFailed"}}
    ),
}


@pytest.mark.parametrize("world", GONE.values(), ids=GONE)
def test_name_of_a_deleted_run_that_is_spoken_of_is_not_given_again(world: ObservedModel) -> None:
    body = asked(world)
    assert body is not None
    assert body["metadata"]["name"] == "m-v6"


def test_run_carries_the_template_as_it_stands_and_belongs_to_its_model() -> None:
    body = asked(model(training=training(A)))
    assert body is not None
    assert body["spec"] == {"modelRef": {"name": MODEL}, **A}
    assert body["metadata"]["annotations"] == {TEMPLATE_ANNOTATION: fingerprint_of(A)}
    (owner,) = body["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == ("model", True)


def wish(answer: Wish | None) -> Any:
    return lambda world, now: answer


def test_first_trigger_that_asks_gets_its_run_and_the_soonest_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = (
        Wish(requeue_after=90.0),
        None,
        Wish(annotations={"a": "1"}),
        Wish(annotations={"b": "2"}, requeue_after=30.0),
    )
    monkeypatch.setattr(new_runs, "TRIGGERS", tuple(wish(a) for a in answers))
    made, again = new_run(model(training=training(A)), START)
    assert [c.body["metadata"]["annotations"] for c in made] == [{"a": "1"}]
    assert again == 30.0
    assert new_run(model(training=training(A), frozen=True), START) == ((), None)


def test_trigger_is_told_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[datetime] = []
    monkeypatch.setattr(new_runs, "TRIGGERS", (lambda world, now: seen.append(now),))
    new_run(model(training=training(A)), START + timedelta(hours=1))
    assert seen == [START + timedelta(hours=1)]
