"""Old runs go under the real reconciler, whatever write it dies at, and nothing that serves is touched."""

from __future__ import annotations

from steeltown.core.history import AGAIN_SECONDS, KEPT_SECONDS
from steeltown_testing.explore.cluster import later
from steeltown_testing.explore.nature import QUOTA, Trouble, of_component
from steeltown_testing.explore.scenarios import GOOD_A, GOOD_B, GOOD_C, create, edit, live_is, retrain
from steeltown_testing.explore.schedule import Explorer, Scenario, Step


def time_passes(x: Explorer) -> None:
    x.cluster.now = later(x.cluster.now, 2 * KEPT_SECONDS)


LIMITED = Scenario(
    name="history",
    steps=(
        create(GOOD_A),
        retrain(GOOD_B),
        retrain(GOOD_C, live_is("m-v2")),
        Step(when=live_is("m-v3"), act=time_passes),
        edit(live_is("m-v3"), historyLimit=0),
    ),
    ticks=130,
)


def runs(x: Explorer) -> list[str]:
    return sorted(r["metadata"]["name"] for r in x.cluster.of_kind("TrainingRun"))


def told(x: Explorer) -> str:
    return (x.status.retention.message or "") if x.status.retention else ""


def collecting(x: Explorer) -> list[str]:
    return [j["metadata"]["name"] for j in x.cluster.of_kind("Job") if "-collect-" in j["metadata"]["name"]]


def test_a_crash_at_every_single_write_changes_nothing_in_the_end() -> None:
    forks: list[tuple[int, str, Explorer]] = []
    plain = Explorer(LIMITED, forks=forks).run()
    assert (runs(plain), collecting(plain), plain.status.retention) == (["m-v2", "m-v3"], [], None)
    written = next(i for i, line in enumerate(plain.cluster.log) if "Create Job" in line and "-collect-" in line)
    assert len(plain.cluster.log) > written + 2
    for write, moment, world in forks:
        same = world.rejoins(plain) or (world.final(), runs(world), collecting(world)) == (
            plain.final(),
            runs(plain),
            collecting(plain),
        )
        assert same, (write, moment, world.cluster.log)


def test_run_stays_in_the_cluster_until_it_is_out_of_the_store() -> None:
    x = Explorer(LIMITED)
    x.until(live_is("m-v3"), within=130)
    x.nature.trouble(Trouble.NO_PODS, of_component("collect"))
    x.until(lambda x: bool(collecting(x)))
    x.go(10)
    assert runs(x) == ["m-v1", "m-v2", "m-v3"]
    assert QUOTA in told(x)
    assert told(x).startswith("waiting for Job m-collect-")
    x.idle(int(AGAIN_SECONDS) * 2, stride=60)
    assert runs(x) == ["m-v1", "m-v2", "m-v3"]
    assert QUOTA in told(x)
    assert x.status.retention is not None
    assert x.status.retention.next == ["m-v1"]
    x.nature.heal()
    x.idle(int(AGAIN_SECONDS) * 3, stride=60)
    assert (runs(x), collecting(x)) == (["m-v2", "m-v3"], [])
    assert not x.status.retention
