"""Who asks for new TrainingRuns: one table of triggers. The first that asks gets its run, one at a time.

A trigger is a pure function of the model as observed and the time: it names the run it wants, or says when to ask
again. To add one (a schedule, new data): a function and its row here, and its field in `api.mlmodel.Training`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from ..api.base import API_VERSION
from ..api.trainingrun import TrainingRunTemplate
from .children import pods
from .naming import run_name, short_hash
from .observed.model import ObservedModel, Run
from .ownership import MODEL_LABEL
from .plan import Create, Obj

TEMPLATE_ANNOTATION: Final = "steeltown.dev/template"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a trigger answers. annotations: by which it will know its run again. requeue_after: seconds until asked."""

    annotations: dict[str, str] | None = None
    requeue_after: float | None = None


Trigger = Callable[[ObservedModel, datetime], Wish | None]


def new_run(world: ObservedModel, now: datetime) -> tuple[tuple[Create, ...], float | None]:
    """(the run to create, seconds until somebody may ask for one). Nothing while the brake is on."""
    training = world.spec.training
    if training is None or training.template is None or world.spec.frozen:
        return (), None
    wishes = [w for t in TRIGGERS if (w := t(world, now))]
    waits = [w.requeue_after for w in wishes if w.requeue_after is not None]
    asked = next((w.annotations for w in wishes if w.annotations is not None), None)
    made = () if asked is None else (Create(_from_template(world, _next_name(world), asked)),)
    return made, min(waits, default=None)


def _template_changed(world: ObservedModel, now: datetime) -> Wish | None:
    """A run is made when the template is not the one that the newest run of it was made from."""
    training = world.spec.training
    if training is None or training.template is None:
        return None
    wanted = fingerprint(training.template)
    newest = max((r for r in world.runs.values() if of_template(world, r)), key=lambda r: r.order, default=None)
    if newest is not None and _made_from(newest) == wanted:
        return None
    return Wish(annotations={TEMPLATE_ANNOTATION: wanted})


TRIGGERS: Final[tuple[Trigger, ...]] = (_template_changed,)


def fingerprint(template: TrainingRunTemplate) -> str:
    return short_hash(template.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True))


def of_template(world: ObservedModel, run: Run) -> bool:
    """Made from the template: it carries our annotation, or, where a hand took that away, our owner reference."""
    return TEMPLATE_ANNOTATION in run.annotations or run.controller == world.root["metadata"]["uid"]


def _made_from(run: Run) -> str:
    """Fingerprint of the template that the run was made from; from its spec itself where the annotation is gone."""
    if noted := run.annotations.get(TEMPLATE_ANNOTATION):
        return str(noted)
    try:
        return fingerprint(TrainingRunTemplate.model_validate(run.obj["spec"]))
    except ValidationError:
        return ""


def _next_name(world: ObservedModel) -> str:
    pattern = re.compile(re.escape(world.name) + r"-v(\d{1,9})$")
    taken = {*world.run_names, *_remembered(world)}
    number = max((int(m[1]) for name in taken if (m := pattern.match(name))), default=0) + 1
    while run_name(world.name, number) in taken:  # above the numbers that are read
        number += 1
    return run_name(world.name, number)


def _remembered(world: ObservedModel) -> list[str]:
    """Runs that may be gone: their names are not given again, since records, Jobs and people speak of them."""
    status = world.status
    spoken_of = (world.live, world.previous, status.versions.candidate, status.rollout, status.verdict)
    return [*(each.run for each in spoken_of if each), *(h.run for h in status.history)]


def _from_template(world: ObservedModel, name: str, annotations: dict[str, str]) -> Obj:
    assert world.spec.training is not None
    template = world.root["spec"]["training"]["template"]
    return {
        "apiVersion": API_VERSION,
        "kind": "TrainingRun",
        "metadata": pods.metadata(world.root, name, "run", {MODEL_LABEL: world.name}, annotations=annotations),
        "spec": {"modelRef": {"name": world.name}, **template},
    }
