"""Jobs and how they ended: the one place that knows whether a Job is over, and which Pods and reports are its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

from ...api.conditions import parse_time
from ...contract.reports import LoadReport, StepReport
from ..plan import Obj
from . import pods as podview
from .trust import controller_uid, runs

REPORT_GRACE: Final = timedelta(seconds=30)
"""How long the watch of Pods may be behind that of Jobs before a report counts as missing."""


@dataclass(frozen=True, kw_only=True)
class JobView:
    """A Job of ours and its Pods. Pods are its own by their controller's uid and by what they run (I12).

    altered: Pods that name it as their controller and run something else: made or changed by another hand.
    """

    job: Obj
    pods: tuple[Obj, ...]
    altered: tuple[Obj, ...] = ()

    @classmethod
    def of(cls, job: Obj, pods: Iterable[Obj]) -> JobView:
        uid, template = job["metadata"]["uid"], job["spec"]["template"]["spec"]
        named = [p for p in pods if controller_uid(p) == uid]
        own = [runs(p, template) for p in named]
        return cls(
            job=job,
            pods=tuple(p for p, ours in zip(named, own, strict=True) if ours),
            altered=tuple(p for p, ours in zip(named, own, strict=True) if not ours),
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
        """
        stamp = (self.over_condition or {}).get("lastTransitionTime")
        if not stamp or (self.pod is not None and podview.first_failure(self.pod)):
            return False
        return now - parse_time(str(stamp)) < REPORT_GRACE or watched_seconds < REPORT_GRACE.total_seconds()

    def step_report(self, container: str, *, ok_only: bool = False) -> StepReport | None:
        ended = self.ended(container)
        if ended is None or (ok_only and ended.exit_code != 0):
            return None
        return StepReport.decode(ended.message)

    def load_report(self) -> LoadReport | None:
        ended = self.ended("loadcheck")
        return LoadReport.decode(ended.message) if ended else None
