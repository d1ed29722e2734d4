"""From the Job to its end: watches that are not in step, Pods that do not start, and whose word counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from steeltown.contract.reports import StepReport
from steeltown.core.plan import Create, Explain, Obj, Plan
from steeltown_testing.training_worlds import (
    DIGEST,
    MADE,
    RUNNING,
    after,
    begun,
    ended,
    message,
    over,
    phase,
    plan,
    pod,
    run,
    unscheduled,
)

GRACE = 30.0

# --- watches that are not in step ------------------------------------------------------------------------------------

STARTED, JOB = begun()
DONE = over(JOB, "Complete", at=100)
FAILED = over(JOB, "Failed", at=100, reason="BackoffLimitExceeded")
NOT_SEEN: dict[str, tuple[Obj, ...]] = {
    "no Pod": (),
    "a Pod that still runs": (pod(JOB, ("prepare", ended(0)), ("train", ended(0)), ("finalise", RUNNING)),),
    "a Pod of which nothing is told": (pod(JOB),),
}


@pytest.mark.parametrize("seen", NOT_SEEN.values(), ids=NOT_SEEN)
@pytest.mark.parametrize(("job", "reason"), [(DONE, "ResultMissing"), (FAILED, "StepFailed")], ids=["done", "failed"])
def test_end_of_a_pod_may_come_later_than_that_of_its_job(job: Obj, reason: str, seen: tuple[Obj, ...]) -> None:
    """Nothing is concluded for half a minute, and nothing is written."""
    for seconds in (100, 100 + GRACE - 1):
        assert plan(STARTED, job, *seen, seconds=seconds) == Plan(requeue_after=GRACE)
    assert phase(plan(STARTED, job, *seen, seconds=100 + GRACE)) == ("Failed", reason)


def test_late_pod_still_brings_its_report() -> None:
    done = pod(JOB, ("prepare", ended(0)), ("train", ended(0)), ("finalise", ended(0, MADE)))
    for seconds in (100, 100 + GRACE - 1, 100 + 10 * GRACE):
        made = plan(STARTED, DONE, done, seconds=seconds)
        assert phase(made) == ("Succeeded", "Succeeded")
        assert made.status is not None
        assert made.status["artifact"]["digest"] == DIGEST


def test_late_pod_still_brings_its_reason() -> None:
    crashed = pod(JOB, ("prepare", ended(0)), ("train", ended(1, "boom")))
    assert phase(plan(STARTED, FAILED, crashed, seconds=100)) == ("Failed", "TrainerFailed")


def test_deadline_of_a_job_needs_no_pod_to_be_believed() -> None:
    late = over(JOB, "Failed", at=100, reason="DeadlineExceeded")
    assert phase(plan(STARTED, late, seconds=100)) == ("Failed", "DeadlineExceeded")


def test_process_that_has_just_begun_to_watch_lets_pods_arrive() -> None:
    """The Job was over long ago: the operator was away."""
    assert plan(STARTED, DONE, seconds=9999, watched_seconds=2.0) == Plan(requeue_after=GRACE)
    assert phase(plan(STARTED, DONE, seconds=9999, watched_seconds=GRACE)) == ("Failed", "ResultMissing")


def test_clock_that_jumped_back_concludes_nothing_early() -> None:
    assert plan(STARTED, DONE, seconds=100 - 3600) == Plan(requeue_after=GRACE)


# --- a Pod that does not start ---------------------------------------------------------------------------------------

# A second after it was created the run has its Job, and gives a Pod 600 seconds to start.
# (Pods, seconds since the run was created, phase, reason)
NO_ROOM = unscheduled()
AT_WORK = ("prepare", RUNNING)
STARTS: dict[str, tuple[tuple[Obj, ...], float, str, str]] = {
    "no Pod, early": ((), 600, "Pending", "Pending"),
    "no Pod, late": ((), 601, "Failed", "StartDeadlineExceeded"),
    "no room, early": ((pod(JOB, **NO_ROOM),), 599, "Pending", "Unschedulable"),
    "no room, late": ((pod(JOB, **NO_ROOM),), 600, "Failed", "Unschedulable"),
    "at work for long": ((pod(JOB, AT_WORK),), 9_999, "Preparing", "Preparing"),
    "a retry begins anew": (
        (pod(JOB, ("train", ended(1, at=1_000)), name="a"), pod(JOB, name="b", at=1_010, **NO_ROOM)),
        1_609,
        "Pending",
        "Unschedulable",
    ),
    "a retry, late": (
        (pod(JOB, ("train", ended(1, at=1_000)), name="a"), pod(JOB, name="b", at=1_010, **NO_ROOM)),
        1_610,
        "Failed",
        "Unschedulable",
    ),
    "drained after an hour": ((pod(JOB, name="b", at=3_600, **NO_ROOM),), 4_199, "Pending", "Unschedulable"),
    "drained after an hour, late": ((pod(JOB, name="b", at=3_600, **NO_ROOM),), 4_200, "Failed", "Unschedulable"),
    "the next container cannot start": (
        (pod(JOB, ("prepare", ended(0, at=1_000)), ("train", {"waiting": {"reason": "ImagePullBackOff"}})),),
        1_599,
        "Pending",
        "ImagePullFailed",
    ),
    "the next container cannot start, late": (
        (pod(JOB, ("prepare", ended(0, at=1_000)), ("train", {"waiting": {"reason": "ImagePullBackOff"}})),),
        1_600,
        "Failed",
        "ImagePullFailed",
    ),
}


@pytest.mark.parametrize(("pods", "seconds", "where", "reason"), STARTS.values(), ids=STARTS)
def test_start_deadline_counts_from_the_pod_that_is_awaited(
    pods: tuple[Obj, ...], seconds: float, where: str, reason: str
) -> None:
    made = plan(STARTED, JOB, *pods, seconds=seconds)
    stands = after(STARTED, made)["status"]
    assert (stands["phase"], stands["reason"]) == (where, reason)
    if where == "Failed":
        assert "startDeadlineSeconds (600)" in message(made)


def test_job_whose_pod_is_not_there_yet_costs_no_second_status() -> None:
    assert plan(STARTED, JOB, seconds=2).status is None


def test_preempted_pod_that_is_gone_is_awaited_from_then_on() -> None:
    """The Job controller makes another: while there is none, the status remembers since when."""
    working = after(STARTED, plan(STARTED, JOB, pod(JOB, AT_WORK), seconds=5_000))
    waits = after(working, plan(working, JOB, seconds=5_010))
    assert waits["status"]["waitingSince"] == "2026-01-01T01:23:30Z"
    assert plan(waits, JOB, seconds=5_609).status is None
    assert phase(plan(waits, JOB, seconds=5_610)) == ("Failed", "StartDeadlineExceeded")
    again = after(waits, plan(waits, JOB, pod(JOB, AT_WORK, name="b", at=5_500), seconds=5_510))
    assert "waitingSince" not in again["status"]


def test_deadline_that_nobody_has_watched_does_not_pass() -> None:
    made = plan(STARTED, JOB, pod(JOB, **NO_ROOM), seconds=9_999, watched_seconds=59.0)
    assert phase(made) == ("Pending", "Unschedulable")
    made = plan(STARTED, JOB, pod(JOB, **NO_ROOM), seconds=9_999, watched_seconds=60.0)
    assert phase(made) == ("Failed", "Unschedulable")


@pytest.mark.parametrize(
    ("limit", "seconds", "soonest"),
    [
        pytest.param(600, 1, 2.0, id="its Pod may still come"),
        pytest.param(1, 1, 1.0, id="the deadline is sooner"),
        pytest.param(600, 4, 597.0, id="the deadline is all that is left"),
    ],
)
def test_run_comes_back_when_the_first_of_all_that_it_waits_for_may_be_over(
    limit: int, seconds: float, soonest: float
) -> None:
    started, job = begun(run(startDeadlineSeconds=limit))
    assert plan(started, job, seconds=seconds).requeue_after == pytest.approx(soonest)


# --- a Job that can make no Pod --------------------------------------------------------------------------------------

QUOTA = "exceeded quota: compute, requested: cpu=2, limited: cpu=1"


def test_job_without_a_pod_is_asked_why_and_says_so() -> None:
    early, later = (plan(STARTED, JOB, seconds=s) for s in (1, 4))
    assert early.explain == ()
    assert early.requeue_after == pytest.approx(2.0)
    assert later.explain == (Explain(kind="Job", namespace="team", name="r-run", uid="j"),)
    told = plan(STARTED, JOB, seconds=6, causes={"j": QUOTA})
    assert (phase(told), message(told)) == (("Pending", "JobBlocked"), QUOTA)
    late = plan(STARTED, JOB, seconds=601, causes={"j": QUOTA})
    assert phase(late) == ("Failed", "JobBlocked")
    assert QUOTA in message(late)


def test_cause_of_another_job_or_of_one_with_a_pod_is_not_this_ones() -> None:
    assert plan(STARTED, JOB, seconds=6, causes={"other": QUOTA}).status is None
    made = plan(STARTED, JOB, pod(JOB, **NO_ROOM), seconds=6, causes={"j": QUOTA})
    assert phase(made) == ("Pending", "Unschedulable")
    assert made.explain == ()


def test_job_that_could_make_no_pod_until_its_own_deadline_says_why() -> None:
    """Also where the wait for a Pod may be longer than the work."""
    late = over(JOB, "Failed", at=100, reason="DeadlineExceeded")
    told = plan(STARTED, late, seconds=100, causes={"j": QUOTA})
    assert phase(told) == ("Failed", "DeadlineExceeded")
    assert message(told).endswith(QUOTA)


# --- whose word counts -----------------------------------------------------------------------------------------------

LIE = StepReport(reason="ModelReady", message="", digest="sha256:" + "f" * 64, uri="s3://theirs").encode()


def another_controller(found: Obj) -> None:
    found["metadata"]["ownerReferences"][0]["uid"] = "another"


def no_controller(found: Obj) -> None:
    found["metadata"]["ownerReferences"] = []


def does_not_control(found: Obj) -> None:
    found["metadata"]["ownerReferences"][0]["controller"] = False


def another_image(found: Obj) -> None:
    found["spec"]["containers"][0]["image"] = "theirs"


def mounted_code(found: Obj) -> None:
    found["spec"]["containers"][0]["volumeMounts"].append({"name": "theirs", "mountPath": "/app"})


LURES = (another_controller, no_controller, does_not_control, another_image, mounted_code)


@pytest.mark.parametrize("bend", LURES, ids=lambda f: f.__name__)
def test_report_of_a_pod_that_is_not_ours_counts_for_nothing(bend: Callable[[Obj], None]) -> None:
    """It carries our labels and is newer than the one that the Job has made."""
    own = pod(JOB, ("prepare", ended(0)), ("train", ended(0)), ("finalise", ended(0, MADE)))
    lure = pod(JOB, ("finalise", ended(0, LIE)), name="lure", at=50)
    bend(lure)
    made = plan(STARTED, DONE, own, lure, seconds=200)
    assert made.status is not None
    assert made.status["artifact"]["digest"] == DIGEST
    alone = plan(STARTED, DONE, lure, seconds=200)
    assert phase(alone) == ("Failed", "ResultMissing")
    running = plan(STARTED, JOB, pod(JOB, AT_WORK), lure, seconds=200)
    assert phase(running) == ("Preparing", "Preparing")


def test_pod_of_the_job_that_was_altered_is_named() -> None:
    lure = pod(JOB, ("finalise", ended(0, MADE)), name="lure")
    another_image(lure)
    assert "the report of Pod lure was rejected because its spec differs" in message(
        plan(STARTED, DONE, lure, seconds=200)
    )


FORGERIES: dict[str, Callable[[Obj], Any]] = {
    "another image": lambda j: j["spec"]["template"]["spec"]["containers"][0].update(image="theirs"),
    "laxer objectives": lambda j: j["spec"]["template"]["metadata"]["annotations"].update(
        {"steeltown.dev/objectives": "{}"}
    ),
    "of a run before it": lambda j: j["metadata"]["ownerReferences"][0].update(uid="before"),
    "of nobody": lambda j: j["metadata"].update(ownerReferences=[]),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_job_that_is_not_ours_is_no_evidence(forge: Callable[[Obj], Any]) -> None:
    started, job = begun()
    forge(job)
    done = over(job, "Complete", at=100)
    made = plan(started, done, pod(job, ("finalise", ended(0, LIE))), seconds=200)
    assert phase(made) == ("Failed", "JobNotOurs")
    assert "r-run was not created by the operator" in message(made)
    assert "artifact" not in (made.status or {})


HANDS: dict[str, Callable[[Obj], Any]] = {
    "took the seal off": lambda j: j["metadata"]["annotations"].pop("steeltown.dev/seal"),
    "bent the seal": lambda j: j["metadata"]["annotations"].update({"steeltown.dev/seal": "0" * 64}),
    "took all annotations off": lambda j: j["metadata"].pop("annotations"),
}


@pytest.mark.parametrize("hand", HANDS.values(), ids=HANDS)
@pytest.mark.parametrize(("witness", "ended_as"), [(True, "Succeeded"), (False, "Failed")])
def test_hand_on_the_seal_of_a_job_is_found_out_by_the_status(
    hand: Callable[[Obj], Any], witness: bool, ended_as: str
) -> None:
    started, job = begun()
    if not witness:
        started["status"].pop("jobSeal")
    hand(job)
    done = over(job, "Complete", at=100)
    assert phase(plan(started, done, pod(job, ("finalise", ended(0, MADE))), seconds=200))[0] == ended_as


def test_job_of_a_run_deleted_before_is_never_taken_over() -> None:
    """The run was created again under the same name, and garbage collection has not come by yet."""
    _, job = begun()
    done = over(job, "Complete", at=1)
    made = plan(run(uid="again"), done, pod(job, ("finalise", ended(0, MADE))), seconds=2)
    assert made.status is not None
    assert "artifact" not in made.status
    assert [type(a) for a in made.actions] == [Create]
