"""How a run ended is kept on the run itself: restored it ends as it had ended, and forged or copied it has not."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from steeltown.core import record
from steeltown.core.plan import Annotate, Create, Obj, Plan
from steeltown_testing.explore.scenarios import GOOD_B, template
from steeltown_testing.training_worlds import DIGEST, MADE, after, begun, ended, over, phase, plan, pod, run

STARTED, JOB = begun()
DONE = over(JOB, "Complete", at=100)
END = plan(STARTED, DONE, pod(JOB, ("prepare", ended(0)), ("finalise", ended(0, MADE))), seconds=101)
RESULT = after(STARTED, END)["metadata"]["annotations"][record.RESULT_ANNOTATION]


def restored(text: str, **metadata: str) -> Obj:
    """As a backup tool creates it anew: without status, with another uid."""
    found = run(uid="restored", notes={record.RESULT_ANNOTATION: text})
    return {**found, "metadata": {**found["metadata"], **metadata}}


def test_restored_run_ends_as_it_had_ended_and_is_not_trained_again() -> None:
    made = plan(restored(RESULT), seconds=9_999)
    assert made.actions == ()
    assert phase(made) == ("Succeeded", "Succeeded")
    assert made.status is not None
    assert made.status["artifact"]["digest"] == DIGEST
    assert made.status["createdTime"] == run()["metadata"]["creationTimestamp"]
    assert plan(after(restored(RESULT), made), seconds=9_999) == Plan()


def test_restored_run_keeps_its_place_in_the_order_of_versions() -> None:
    made = plan(restored(RESULT, creationTimestamp="2027-01-01T00:00:00Z"), seconds=9_999)
    assert made.status is not None
    assert made.status["createdTime"] == run()["metadata"]["creationTimestamp"]


def forged(**change: object) -> str:
    return json.dumps({**json.loads(RESULT), **change})


OTHER_SPEC = {"spec": run(**template(GOOD_B))["spec"]}
TRIED_AGAIN: dict[str, Obj] = {
    "copied to another run": restored(RESULT, name="r2"),
    "copied to another namespace": restored(RESULT, namespace="other"),
    "copied to another spec": {**restored(RESULT), **OTHER_SPEC},
    "another digest": restored(forged(artifact={"digest": "sha256:" + "f" * 64, "uri": "s3://x"})),
    "all gates True": restored(forged(conditions=[])),
    "no seal": restored(json.dumps({k: v for k, v in json.loads(RESULT).items() if k != "seal"})),
    "truncated": restored(RESULT[:-1]),
    "1 MB of brackets": restored("[" * (1 << 20)),
    "half a surrogate pair": restored(forged(seal="\ud800")),
}


@pytest.mark.parametrize("root", TRIED_AGAIN.values(), ids=TRIED_AGAIN)
def test_result_that_is_not_this_runs_makes_no_version(root: Obj) -> None:
    """It is a run like any other, and starts."""
    model = {"kind": "MLModel", "metadata": {"name": "m", "namespace": root["metadata"]["namespace"], "uid": "mu"}}
    made = plan(root, {**model, "spec": {}})
    assert [type(a) for a in made.actions] == [Create]
    assert made.status is not None
    assert "artifact" not in made.status


def test_result_of_version_0_1_is_sealed_by_its_witness_the_status() -> None:
    old = json.dumps({k: v for k, v in json.loads(RESULT).items() if k != "seal"})
    over_run = after(STARTED, END)
    over_run["metadata"]["annotations"][record.RESULT_ANNOTATION] = old
    (action,) = plan(over_run, DONE, seconds=200).actions
    assert isinstance(action, Annotate)
    sealed = action.annotations[record.RESULT_ANNOTATION]
    assert sealed is not None
    assert phase(plan(restored(sealed), seconds=9_999)) == ("Succeeded", "Succeeded")


SPOILED: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "changed by a hand": lambda text: text.replace("Succeeded", "Failed"),
    "sealed with a key of before": lambda text: text.replace('"seal":"', '"seal":"0'),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_ended_run_is_left_alone(spoil: Callable[[str], str]) -> None:
    over_run = after(STARTED, END)
    over_run["metadata"]["annotations"][record.RESULT_ANNOTATION] = spoil(RESULT)
    assert plan(over_run, seconds=200) == Plan()
