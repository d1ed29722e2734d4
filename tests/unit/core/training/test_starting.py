"""What a run is measured against, and with what: taken from the model where that names it, and from no status."""

from __future__ import annotations

from typing import Any

import pytest
from steeltown.api.trainingrun import TrainingRunSpec
from steeltown.contract.plans import FinalisePlan, Outputs, TaskType
from steeltown.core.plan import Create, Obj, Refusal, Target
from steeltown.core.record import LiveRecord, Version
from steeltown_testing.explore.scenarios import GOOD_A, GOOD_B, template
from steeltown_testing.training_worlds import LIVE, MODEL, created, message, phase, plan, plans, run, service

ROWS_OF_THE_RUN = template(GOOD_A)["evaluation"]["data"]["uri"]
FROZEN = {"uri": "s3://frozen/rows.csv", "digest": GOOD_B.data_digest}
REGRESSION = {"type": "Regression", "target": "minutes", "features": ["distance"]}


def model(status: Obj | None = None, **spec: Any) -> Obj:
    return {**MODEL, "spec": {**MODEL["spec"], **spec}, "status": status or {}}


EVALUATIONS: dict[str, tuple[Obj, Obj, str | None, str | None]] = {
    "of the run": (model(), run(), ROWS_OF_THE_RUN, "y"),
    "of the model": (model(evaluation={"data": FROZEN}), run(), FROZEN["uri"], "y"),
    "of the model, with its task": (
        model(evaluation={"data": FROZEN, "task": REGRESSION}),
        run(),
        FROZEN["uri"],
        "minutes",
    ),
    "of the model, where the run has none": (
        model(evaluation={"data": FROZEN, "task": REGRESSION}),
        run(evaluation=None, task=None),
        FROZEN["uri"],
        "minutes",
    ),
    "none": (model(), run(evaluation=None), None, "y"),
}


@pytest.mark.parametrize(("owner", "root", "rows", "target"), EVALUATIONS.values(), ids=EVALUATIONS)
def test_rows_and_task_of_the_model_win_over_those_of_the_run(
    owner: Obj, root: Obj, rows: str | None, target: str | None
) -> None:
    root = {**root, "spec": {k: v for k, v in root["spec"].items() if v is not None}}
    prepare, finalise = plans(created(root, owner))
    assert (prepare.evaluation.uri if prepare.evaluation else None) == rows
    assert prepare.task == finalise.task
    assert (finalise.task.target if finalise.task else None) == target
    if target == "minutes":
        assert finalise.task is not None
        assert (finalise.task.type, finalise.task.features) == (TaskType.REGRESSION, ("distance",))


OUTPUTS = {"label": "l", "probabilities": "p", "classes": ["b", "a"]}
SAID = Outputs(label="l", probabilities="p", classes=("b", "a"))
TASK = {"type": "Classification", "target": "y", "outputs": OUTPUTS}
MEANINGS: dict[str, tuple[Obj, Obj, Outputs | None, Outputs | None]] = {
    "nobody says": (model(), run(), None, None),
    "the run says": (model(), run(task=TASK), SAID, None),
    "the model says": (model(evaluation={"data": FROZEN, "task": TASK}), run(), SAID, SAID),
    "the model says, and the run otherwise": (
        model(evaluation={"data": FROZEN, "task": TASK}),
        run(task={**TASK, "outputs": {"classes": ["a", "b"]}}),
        SAID,
        SAID,
    ),
    "the run says, of the task of the model": (
        model(evaluation={"data": FROZEN, "task": {"type": "Classification", "target": "y"}}),
        run(task=TASK),
        SAID,
        None,
    ),
}


@pytest.mark.parametrize(("owner", "root", "candidate", "live"), MEANINGS.values(), ids=MEANINGS)
def test_outputs_of_a_run_are_its_own_and_those_of_the_model_are_of_every_version(
    owner: Obj, root: Obj, candidate: Outputs | None, live: Outputs | None
) -> None:
    prepare, finalise = plans(created(root, owner, service(LIVE)))
    assert prepare.task == finalise.task
    assert (finalise.task.outputs if finalise.task else None, finalise.live_outputs) == (candidate, live)
    assert FinalisePlan.from_json(finalise.to_json()) == finalise
    assert ("utputs" in finalise.to_json()) == (candidate is not None)


def test_outputs_of_no_live_version_are_not_told() -> None:
    _, finalise = plans(created(run(), model(evaluation={"data": FROZEN, "task": TASK})))
    assert finalise.live_outputs is None


OTHER = "sha256:" + "d" * 64
KNOWN = {"versions": {"live": {"run": "m-v7", "digest": OTHER, "rows": 1000}}, "switches": 1}
COMPARED: dict[str, tuple[tuple[Obj, ...], str | None]] = {
    "nothing is live": ((model(),), None),
    "as the record says": ((model(), service(LIVE)), LIVE.live.digest),
    "as the record says, with the status lost": ((model({}), service(LIVE)), LIVE.live.digest),
    "as the record says, before the status follows": ((model(KNOWN), service(LIVE)), LIVE.live.digest),
    "as the status says, with the record lost": ((model(KNOWN),), OTHER),
    "not as a record of another model says": (
        (model(), service(LIVE, root={**MODEL, "metadata": {**MODEL["metadata"], "name": "n"}})),
        None,
    ),
    "not as a record of long ago says": (
        (
            model(KNOWN),
            service(LiveRecord(live=Version(run="m-v0", digest=LIVE.live.digest), switches=0)),
        ),
        OTHER,
    ),
}


@pytest.mark.parametrize(("members", "digest"), COMPARED.values(), ids=COMPARED)
def test_run_is_compared_with_the_version_that_is_live(members: tuple[Obj, ...], digest: str | None) -> None:
    job = created(run(), *members)
    _, finalise = plans(job)
    assert (finalise.live.digest if finalise.live else None) == digest
    assert job["spec"]["template"]["metadata"]["annotations"]["steeltown.dev/compared-with"] == (digest or "")


def test_rows_are_compared_with_those_of_the_live_version() -> None:
    objectives = {**MODEL["spec"]["objectives"], "data": {"rows": {"minRatioToLive": "0.5"}}}
    prepare, _ = plans(created(run(), model(KNOWN, objectives=objectives)))
    assert [(c.name, c.parameters) for c in prepare.demands] == [("rows", {"min": 500})]


def test_run_takes_nothing_from_the_objectives_of_its_model() -> None:
    lax = run(objectives={"quality": [{"metric": "accuracy", "min": "0.1", "mode": "Observe"}]})
    kept, own = (
        created(r)["spec"]["template"]["metadata"]["annotations"]["steeltown.dev/objectives"] for r in (lax, run())
    )
    assert kept == own
    assert '"min":"0.8"' in kept


def test_spec_of_the_tests_is_one_that_can_be_read() -> None:
    assert TrainingRunSpec.model_validate(run()["spec"]).train is not None


UNREADABLE = {**MODEL, "spec": {"stage": "Prod"}}


def test_model_that_cannot_be_read_is_waited_for_and_not_for_ever() -> None:
    """Nobody knows what the run must be measured against."""
    early, late = (plan(run(), UNREADABLE, seconds=s) for s in (599, 600))
    assert (early.actions, phase(early), early.requeue_after) == ((), ("Pending", "ModelNotFound"), 1.0)
    assert "invalid spec of MLModel team/m" in message(early)
    assert phase(late) == ("Failed", "ModelNotFound")


def test_job_that_is_refused_is_tried_again_until_the_deadline() -> None:
    refused = (Refusal(target=Target("Job", "team", "r-run"), message="exceeded quota"),)
    early, late = (plan(run(), seconds=s, refusals=refused) for s in (599, 600))
    assert [type(a) for a in early.actions] == [Create]
    assert early.status is not None
    assert "jobName" not in early.status, "else it would count as made, and its absence as deleted"
    assert (phase(late), message(late)) == (("Failed", "ApplyRefused"), "Job r-run: exceeded quota")
