"""The in-memory cluster itself: what schedules rely on beyond what the real API server is asked to confirm."""

from __future__ import annotations

import pytest
from steeltown.core.plan import Obj
from steeltown_testing.explore.cluster import _quantity
from steeltown_testing.explore.nature import Trouble, everything, of_run, trained_by
from steeltown_testing.explore.scenarios import GOOD_A, GOOD_B, begun, create, edit, live_is, retrain
from steeltown_testing.explore.schedule import MODEL, Explorer


def chain(x: Explorer, obj: Obj) -> list[str]:
    """Kinds of its controllers, up to the root."""
    by_uid = {o["metadata"]["uid"]: o for o in x.cluster.objects.values()}
    kinds = []
    while references := obj["metadata"].get("ownerReferences"):
        (reference,) = [r for r in references if r.get("controller")]
        obj = by_uid[reference["uid"]]
        kinds.append(obj["kind"])
    return kinds


def pods(x: Explorer) -> dict[str, str]:
    return {p["metadata"]["name"]: p["metadata"]["uid"] for p in x.nature.selected(MODEL)}


def in_service() -> Explorer:
    return begun(create(GOOD_A)).until(live_is("m-v1"))


@pytest.mark.parametrize(
    ("written", "answered"),
    [
        ("1000m", "1"),
        ("0.25", "250m"),
        ("0.0005", "500u"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.1Gi", "107374182400m"),
        ("0.5Ki", "512"),
        ("1000k", "1M"),
        ("0", "0"),
    ],
)
def test_quantities_are_answered_as_kubernetes_writes_them(written: str, answered: str) -> None:
    assert _quantity(written) == answered


def test_pods_hang_from_replica_sets_and_jobs() -> None:
    x = in_service()
    found = {tuple(chain(x, pod)) for pod in x.cluster.of_kind("Pod")}
    assert ("ReplicaSet", "Deployment", "MLModel") in found
    assert ("Job", "TrainingRun", "MLModel") in found
    assert ("Job", "MLModel") in found


def test_another_template_replaces_pods_one_by_one_under_other_names() -> None:
    x = in_service()
    before = pods(x)
    edit(serving={"replicas": 2, "resources": {"requests": {"cpu": "300m"}}}).act(x)
    x.settle()
    after = pods(x)
    assert len(after) == len(before) == 2
    assert not set(after) & set(before)
    assert sorted(r["spec"]["replicas"] for r in x.cluster.of_kind("ReplicaSet")) == [0, 2]


def test_evicted_pod_is_replaced_by_one_that_waits_as_long_as_it_is_told() -> None:
    x = in_service()
    before = pods(x)
    x.nature.evict(of_run("m-v1"), pending=3)
    assert len(pods(x)) == 2
    assert not set(pods(x)) & set(before)
    x.go(3)
    assert x.nature.endpoints(MODEL) == []
    x.go(1)
    assert len(x.nature.endpoints(MODEL)) == 2


def test_pod_without_its_label_is_released_and_taken_up_again_with_it() -> None:
    x = in_service()
    pod = x.nature.selected(MODEL)[0]
    x.grace(5)
    bare = x.cluster.set_metadata(pod, labels={})
    x.nature.tick()
    released = x.cluster.get("Pod", bare["metadata"]["name"])
    assert released is not None
    assert released["metadata"]["ownerReferences"] == []
    x.cluster.set_metadata(released, labels=pod["metadata"]["labels"])
    x.nature.tick()
    assert len(x.nature.selected(MODEL)) == 2


def test_evicted_pod_of_a_run_does_not_count_as_an_attempt_and_of_a_load_check_ends_it() -> None:
    x = begun(create(GOOD_A))
    x.nature.trouble(Trouble.BUSY, everything)
    x.go(4)
    x.nature.evict(trained_by("m-v1"))
    x.go(2)
    (job,) = x.cluster.of_kind("Job")
    assert "conditions" not in job["status"]
    x.nature.heal()
    x.until(lambda x: len(x.cluster.of_kind("Job")) == 2)
    x.nature.trouble(Trouble.BUSY, everything)
    x.go(1)
    check = next(j for j in x.cluster.of_kind("Job") if "load" in j["metadata"]["name"])
    x.nature.evict(lambda pod: pod["metadata"]["labels"].get("job-name") == check["metadata"]["name"])
    x.nature.tick()
    ended = x.cluster.get("Job", check["metadata"]["name"])
    assert ended is not None
    assert ended["status"]["conditions"][0]["reason"] == "BackoffLimitExceeded"


def test_watch_that_lags_shows_each_kind_as_it_was() -> None:
    x = in_service().go(5)
    x.cluster.lag = {"Service": 3}
    service = x.cluster.get("Service", MODEL)
    assert service is not None
    x.cluster.set_metadata(service, annotations={"note": "new"})
    seen = []
    for _ in range(5):
        shown = next(o for t, o in x.cluster.as_watched().items() if t.kind == "Service" and t.name == MODEL)
        seen.append(shown["metadata"]["annotations"].get("note"))
        x.cluster.end_tick()
    assert seen == [None, None, None, "new", "new"]


def test_job_and_its_pods_are_collected_after_a_day() -> None:
    x = in_service()
    assert x.cluster.of_kind("Job")
    x.absence(90_000)
    left = [job for job in x.cluster.of_kind("Job") if "ttlSecondsAfterFinished" in job["spec"]]
    assert left == [], "those without a time to live are the operator's to remove"
    pods = {pod["spec"]["containers"][0]["name"] for pod in x.cluster.of_kind("Pod")}
    assert "loadcheck" not in pods


def test_jump_of_the_clock_is_none_of_the_time_that_passes() -> None:
    x = in_service()
    before = x.cluster.monotonic
    x.cluster.jump(-3600)
    x.go(2)
    assert (x.cluster.monotonic - before).total_seconds() == 2


def test_fork_goes_its_own_way() -> None:
    x = begun(create(GOOD_A), retrain(GOOD_B)).until(live_is("m-v1"))
    x.nature.trouble(Trouble.UNSCHEDULABLE, of_run("m-v2"))
    other = x.fork()
    other.nature.heal()
    other.until(live_is("m-v2"))
    x.go(20)
    assert x.live == "m-v1"
