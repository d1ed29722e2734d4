"""The scenarios that are explored: what a user does, and when."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from steeltown.api.base import API_VERSION
from steeltown.api.mlmodel import MLModelSpec, Phase
from steeltown.core.plan import Obj, Target

from .cluster import later
from .nature import Behaviour
from .schedule import MODEL, Explorer, Scenario, Step

When = Callable[[Explorer], bool]

GOOD_A, GOOD_B, GOOD_C = Behaviour("good", "a"), Behaviour("good", "b"), Behaviour("good", "c")


def template(behaviour: Behaviour) -> Obj:
    return {
        "task": {"type": "Classification", "target": "y"},
        "train": {"data": {"uri": "s3://data/x.csv", "digest": behaviour.data_digest}},
        "evaluation": {"data": {"uri": "s3://data/e.csv", "digest": GOOD_A.data_digest}},
    }


def model(
    behaviour: Behaviour,
    *,
    stage: str = "Production",
    replicas: int = 2,
    interface: str = "Compatible",
    **rollout: object,
) -> Obj:
    spec = MLModelSpec.model_validate(
        {
            "stage": stage,
            "training": {"template": template(behaviour)},
            "objectives": {
                "interface": interface,
                "quality": [{"metric": "accuracy", "min": "0.8"}],
                "serving": {"errorRate": "0.02", "slowRate": "0.02", "latencyMilliseconds": 100},
            },
            "serving": {"replicas": replicas},
            "rollout": {"steps": [{"weight": 20}, {"weight": 50}], "bakeSeconds": 4, **rollout},
        }
    )
    return {
        "apiVersion": API_VERSION,
        "kind": "MLModel",
        "metadata": {"name": MODEL},
        "spec": spec.dump(),
        "status": {"observedGeneration": -1},
    }


def create(behaviour: Behaviour, **more: object) -> Step:
    def act(x: Explorer) -> None:
        obj = model(behaviour, **{"replicas": x.scenario.replicas, **more})  # type: ignore[arg-type]
        x.cluster.put({**obj, "metadata": {**obj["metadata"], "namespace": x.cluster.namespace}})

    return Step(when=lambda x: True, act=act)


def retrain(behaviour: Behaviour, when: When = Explorer.settled) -> Step:
    """The data changes: a new template, as a GitOps commit would bring it."""

    def act(x: Explorer) -> None:
        assert x.model is not None
        x.cluster.set_spec(x.model, lambda spec: {**spec, "training": {"template": template(behaviour)}})

    return Step(when=when, act=act)


def restage(stage: str, when: When = Explorer.settled) -> Step:
    def act(x: Explorer) -> None:
        assert x.model is not None
        x.cluster.set_spec(x.model, lambda spec: {**spec, "stage": stage})

    return Step(when=when, act=act)


def edit(when: When = Explorer.settled, **spec: object) -> Step:
    """kubectl edit; a field that is None goes."""

    def act(x: Explorer) -> None:
        assert x.model is not None
        x.cluster.set_spec(x.model, lambda now: {k: v for k, v in {**now, **spec}.items() if v is not None})

    return Step(when=when, act=act)


def delete(when: When) -> Step:
    def act(x: Explorer) -> None:
        x.cluster.remove(Target("MLModel", x.cluster.namespace, MODEL))

    return Step(when=when, act=act)


def in_step(step: int) -> When:
    return lambda x: x.phase(Phase.SHIFTING, step)


def in_phase(phase: Phase) -> When:
    return lambda x: x.phase(phase)


def live_is(run: str) -> When:
    """And nothing is under way."""
    return lambda x: x.live == run and x.rollout is None and x.settled()


RETRY_SECONDS = 10
"""What was refused is tried again after so long."""


def cleared_of_strangers(x: Explorer) -> Explorer:
    """Their objects have just gone. A load check that they voided three times is made again after ten minutes."""
    x.go(RETRY_SECONDS + 2)
    while x.condition("Stalled")[1] in ("ForeignPods", "JobNotOurs", "LoadCheckFailed"):
        x.cluster.now = later(x.cluster.now, 60)
        x.go(1)
    return x


def begun(*steps: Step, name: str = "by hand", replicas: int = 2) -> Explorer:
    """A schedule that a test drives itself."""
    return Explorer(Scenario(name=name, steps=steps, ticks=10_000, replicas=replicas))


def found(x: Explorer, kind: str, name: str = MODEL) -> Obj:
    obj = x.cluster.get(kind, name)
    assert obj is not None, f"there is no {kind} {name}"
    return obj


def run(x: Explorer, name: str) -> Obj:
    return found(x, "TrainingRun", name)


def rolling_out(phase: str, candidate: Behaviour = GOOD_B, *, replicas: int = 2, **rollout: Any) -> Explorer:
    """m-v1 is live, the rollout of m-v2 has come to this one of `PHASES`. rollout: more of the model's spec.rollout."""
    return _rolling_out(phase, candidate, replicas, tuple(rollout.items())).fork()


@cache
def _rolling_out(phase: str, candidate: Behaviour, replicas: int, rollout: tuple[tuple[str, object], ...]) -> Explorer:
    x = begun(create(GOOD_A, **dict(rollout)), retrain(candidate), replicas=replicas).until(live_is("m-v1"))
    return x.until(lambda x: x.rollout is not None and x.rollout["run"] == "m-v2" and PHASES[phase](x))


PHASES: dict[str, When] = {
    "loading": in_phase(Phase.LOADING),
    "load checking": in_phase(Phase.LOAD_CHECKING),
    "first step": in_step(0),
    "second step": in_step(1),
    "promoting": in_phase(Phase.PROMOTING),
    "baking": in_phase(Phase.BAKING),
}


def _bad(kind: str) -> Scenario:
    return Scenario(
        name=f"bad rollout: {kind}",
        steps=(create(GOOD_A), retrain(Behaviour(kind, "b"))),
        expected_live="m-v1",
        ticks=70,
    )


SCENARIOS = (
    Scenario(name="first rollout", steps=(create(GOOD_A),), expected_live="m-v1", ticks=25),
    Scenario(name="good rollout", steps=(create(GOOD_A), retrain(GOOD_B)), expected_live="m-v2"),
    Scenario(
        name="canary that grows with its share",
        steps=(create(GOOD_A), retrain(GOOD_B)),
        expected_live="m-v2",
        replicas=4,
        ticks=70,
    ),
    *map(_bad, ("baddata", "worse", "unloadable", "slow", "unmeasurable", "failing", "latefailing", "renamed")),
    Scenario(
        name="another interface, accepted",
        steps=(create(GOOD_A, interface="Any"), retrain(Behaviour("renamed", "b"))),
        expected_live="m-v2",
    ),
    Scenario(
        name="A to B to A mid-canary",
        steps=(create(GOOD_A), retrain(GOOD_B), retrain(GOOD_A, in_step(0))),
        expected_live="m-v3",
        ticks=110,
    ),
    Scenario(
        name="A to B to C mid-canary",
        steps=(create(GOOD_A), retrain(GOOD_B), retrain(GOOD_C, in_step(1))),
        expected_live="m-v3",
        ticks=110,
    ),
    Scenario(
        name="promotion withdrawn mid-canary",
        steps=(create(GOOD_A), retrain(GOOD_B), restage("Experimental", in_step(0))),
        expected_live="m-v1",
        ticks=60,
    ),
    Scenario(
        name="experiment, update, promotion",
        steps=(create(GOOD_A, stage="Experimental"), retrain(GOOD_B), restage("Production")),
        expected_live="m-v2",
        ticks=60,
    ),
    Scenario(name="deletion mid-canary", steps=(create(GOOD_A), retrain(GOOD_B), delete(in_step(0))), ticks=50),
    Scenario(
        name="deletion while loading",
        steps=(create(GOOD_A), retrain(GOOD_B), delete(in_phase(Phase.LOADING))),
        ticks=50,
    ),
)
