"""Are the evaluation rows others than those that the model was trained on?

Measured on its own training data, the model that learnt it by heart is the best one. `prepare` asks for this check
whenever there are both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from ..tablecheck import Facts, Finding, Measure, Table, TableCheck

EVALUATION_IS_TRAINING_DATA: Final = "EvaluationIsTrainingData"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """training_digest: of the bytes of the training data, "" when there is none."""

    training_digest: str = ""


def gather(table: Table, parameters: Parameters) -> Mapping[Measure, pl.Expr]:
    return {}  # the digest covers every byte


def judge(facts: Facts, parameters: Parameters) -> Finding:
    if not parameters.training_digest or facts.digest != parameters.training_digest:
        return Finding(message=f"{facts.what} differs from the training data")
    message = (
        f"{facts.what} is identical to the training data ({facts.digest}): "
        "set evaluation.data to rows that are not used for training"
    )
    return Finding(message=message, reason=EVALUATION_IS_TRAINING_DATA)


CHECK: Final = TableCheck(
    name="separate",
    title="EvaluationSeparate",
    reasons=(EVALUATION_IS_TRAINING_DATA,),
    parameters=Parameters,
    gather=gather,
    judge=judge,
    rank=0,
)
