"""Which planner decides for which kind of root."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from .model import plan_model
from .plan import MLMODEL, TRAINING_RUN, Plan, Snapshot
from .policy import Policy
from .training import plan_run

Planner = Callable[[Snapshot, datetime, Policy], Plan]

PLANNERS: Mapping[str, Planner] = {MLMODEL: plan_model, TRAINING_RUN: plan_run}
