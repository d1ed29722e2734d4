"""Reading the plan: a plan that cannot be read is the operator's fault and is never retried."""

from __future__ import annotations

from typing import TypeVar

from steeltown.contract.files import Env, ExitCode
from steeltown.contract.plans import CollectPlan, FetchPlan, FinalisePlan, LoadCheckPlan, PreparePlan

from .reasons import Reason, StepFailed

Plan = TypeVar("Plan", PreparePlan, FinalisePlan, FetchPlan, LoadCheckPlan, CollectPlan)


def read(kind: type[Plan], text: str) -> Plan:
    if not text.strip():
        raise StepFailed(Reason.INVALID_PLAN, f"environment variable {Env.PLAN} is empty", ExitCode.USAGE)
    try:
        return kind.from_json(text)
    except ValueError as error:
        raise StepFailed(Reason.INVALID_PLAN, f"{Env.PLAN}: {error}", ExitCode.USAGE) from error
