"""Jobs and how they ended: the one place that knows whether a Job is over, and which Pods and reports are its own.

Also the one that knows why a Job has no Pod. That (a quota, a policy) stands in its Events alone, so whoever waits for
a Job asks to have it explained (`explain`), and tells what then is known (`obstacle`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Final

from ...api.conditions import Reason, parse_time
from ...contract.reports import LoadReport, StepReport
from ..plan import Explain, Obj
from . import pods as podview
from .trust import controller_uid, runs

REPORT_GRACE: Final = timedelta(seconds=30)
"""How long the watch of Pods may be behind that of Jobs before a report counts as missing."""
POD_COMES_SECONDS: Final = 3.0
"""How long the Job controller may take to make a Pod before it is asked why there is none."""


@dataclass(frozen=True, kw_only=True)
class JobView:
    """A Job of ours and its Pods. Pods are its own by their controller's uid and by what they run (I12).

    altered: Pods that name it as their controller and run something else: made or changed by another hand.
    cause: the newest Warning about it, "" while none is known.
    """

    job: Obj
    pods: tuple[Obj, ...]
    altered: tuple[Obj, ...] = ()
    cause: str = ""

    @classmethod
    def of(cls, job: Obj, pods: Iterable[Obj], causes: Mapping[str, str] = MappingProxyType({})) -> JobView:
        """causes: see `Snapshot`."""
        uid, template = job["metadata"]["uid"], job["spec"]["template"]["spec"]
        named = [p for p in pods if controller_uid(p) == uid]
        own = [runs(p, template) for p in named]
        return cls(
            job=job,
            pods=tuple(p for p, ours in zip(named, own, strict=True) if ours),
            altered=tuple(p for p, ours in zip(named, own, strict=True) if not ours),
            cause=causes.get(uid, ""),
        )

    @cached_property
    def _ended(self) -> dict[str, Obj]:
        conditions = (self.job.get("status") or {}).get("conditions") or ()
        return {c["type"]: c for c in conditions if c["status"] == "True"}

    @property
    def template_annotations(self) -> Mapping[str, str]:
        return self.job["spec"]["template"].get("metadata", {}).get("annotations") or {}

    @property
    def complete(self) -> bool:
        return "Complete" in self._ended

    @property
    def failed(self) -> Obj | None:
        """The condition that says why."""
        return self._ended.get("Failed")

    @property
    def over(self) -> bool:
        return self.over_condition is not None

    @property
    def over_condition(self) -> Obj | None:
        """The condition that says that it is over."""
        return self._ended.get("Complete") or self._ended.get("Failed")

    @cached_property
    def pod(self) -> Obj | None:
        """The newest."""
        return podview.newest(list(self.pods))

    def ended(self, container: str) -> podview.Termination | None:
        return podview.termination(self.pod, container) if self.pod else None

    def awaits_pod(self, now: datetime, watched_seconds: float = float("inf")) -> bool:
        """It is over, but the end of its Pod may not have arrived yet: the watches of the two are not in step.

        watched_seconds: for how long this process has watched. What was over long before may still be on its way to it.
        Of one that could make none until its deadline none is on its way.
        """
        if self.pod is None and self.kept_from_starting:
            return False
        stamp = (self.over_condition or {}).get("lastTransitionTime")
        if not stamp or (self.pod is not None and podview.first_failure(self.pod)):
            return False
        return now - parse_time(str(stamp)) < REPORT_GRACE or watched_seconds < REPORT_GRACE.total_seconds()

    # --- while nothing starts ----------------------------------------------------------------------------------------

    @property
    def obstacle(self) -> podview.Obstacle | None:
        """What keeps its newest Pod from starting or, as long as it has none, itself from making one."""
        if self.pod is not None:
            return podview.obstacle(self.pod)
        return podview.Obstacle(reason=Reason.JOB_BLOCKED, message=self.cause) if self.cause else None

    @property
    def kept_from_starting(self) -> podview.Obstacle | None:
        """What did so until its deadline had passed."""
        return self.obstacle if self._out_of_time else None

    def explain(self, now: datetime) -> tuple[Explain, ...]:
        """What to look into. Most Jobs have a Pod at once; of one that has none a little later the Events tell why."""
        if not self._unexplained or self.explain_in_seconds(now) is not None:
            return ()
        meta = self.job["metadata"]
        return (Explain(kind="Job", namespace=meta["namespace"], name=meta["name"], uid=meta["uid"]),)

    def explain_in_seconds(self, now: datetime) -> float | None:
        """Until it will be asked why it has no Pod, None where that is done or needs not be."""
        stamp = self.job["metadata"].get("creationTimestamp")
        if not stamp or not self._unexplained:
            return None
        left = POD_COMES_SECONDS - (now - parse_time(stamp)).total_seconds()
        return max(0.5, min(left, POD_COMES_SECONDS)) if left > 0 else None

    @property
    def _unexplained(self) -> bool:
        """Also once its deadline has passed, so that what was found stays known."""
        return self.pod is None and (not self.over or self._out_of_time)

    @property
    def _out_of_time(self) -> bool:
        return (self.failed or {}).get("reason") == "DeadlineExceeded"

    # --- reports -----------------------------------------------------------------------------------------------------

    def step_report(self, container: str, *, ok_only: bool = False) -> StepReport | None:
        ended = self.ended(container)
        if ended is None or (ok_only and ended.exit_code != 0):
            return None
        return StepReport.decode(ended.message)

    def load_report(self) -> LoadReport | None:
        ended = self.ended("loadcheck")
        return LoadReport.decode(ended.message) if ended else None
