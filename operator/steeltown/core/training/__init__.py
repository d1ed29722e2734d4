"""The TrainingRun planner: one Job, created once, watched to its end; the end is final.

Data flow: spec -> Job (prepare, train, finalise) -> reports in termination messages -> gates -> conditions. A run
never trains twice (I7): the Job's name is the run's, it is made with POST so that an existing one is left alone, and
once the status says it was made, a missing Job means somebody deleted it. Only a Job that carries our seal about this
very run is listened to (I12).

    start    makes the Job, or says what it waits for
    watch    follows the Job to its end
    finish   concludes, and writes the end so that it can be neither lost nor forged
"""

from __future__ import annotations

from datetime import datetime

from pydantic import ValidationError

from ...api.trainingrun import TrainingRunSpec, TrainingRunStatus
from .. import record
from ..observed.model import is_time
from ..observed.run import ObservedRun
from ..plan import Obj, Plan, Snapshot
from ..policy import Policy
from .finish import after_the_end, invalid
from .start import start
from .watch import watch

__all__ = ["plan_run"]


def plan_run(snapshot: Snapshot, now: datetime, policy: Policy) -> Plan:
    """Plan for one TrainingRun. Total: an unreadable spec becomes a condition."""
    root = snapshot.root
    if "deletionTimestamp" in root["metadata"]:
        return Plan()
    status = read_status(root)
    if status.completion_time:
        return after_the_end(snapshot, status, now, policy)
    if final := record.run_result(root, policy):
        return Plan(status=final.dump())
    try:
        spec = TrainingRunSpec.model_validate(root["spec"])
    except ValidationError as error:
        return invalid(root, status, now, error)
    run = ObservedRun.of(snapshot, spec, status, now, policy)
    return watch(run, policy) if run.job else start(run, snapshot.refusals, policy)


def read_status(root: Obj) -> TrainingRunStatus:
    """The status as it stands; one that cannot be read is none, and a time that is none was not noted."""
    try:
        status = TrainingRunStatus.model_validate(root.get("status") or {})
    except ValidationError:
        return TrainingRunStatus.model_validate({})
    noted = {"waiting_since": status.waiting_since, "completion_time": status.completion_time}
    lost = [name for name, text in noted.items() if text is not None and not is_time(text)]
    return status.model_copy(update=dict.fromkeys(lost)) if lost else status
