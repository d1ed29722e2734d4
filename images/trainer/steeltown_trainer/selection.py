"""Choosing an estimator, and an honest first word on quality: cross-validation on a bounded number of rows.

`Auto` compares a linear model with gradient boosting and takes the linear one unless boosting is better by
more than one standard error of the difference seen in the folds (Breiman et al., 1984; Hastie, Tibshirani,
Friedman, The Elements of Statistical Learning, section 7.10). The scores are the trainer's own and gate
nothing: `finalise` measures on rows that were never here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, StratifiedKFold
from steeltown.contract.plans import TaskType

from . import pipelines
from .dataset import Dataset
from .parameters import EstimatorName

FOLDS: Final = 3
MAX_ROWS: Final = 20_000
# In the order of simplicity.
CANDIDATES: Final = (EstimatorName.LINEAR, EstimatorName.GRADIENT_BOOSTING)
SMALLEST_PROBABILITY: Final = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """metrics: by name, one value per fold. loss: the one that decides, smaller is better."""

    metrics: dict[str, list[float]]
    loss: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    chosen: EstimatorName
    rows: int
    scores: dict[EstimatorName, Scores]

    def metrics(self) -> dict[str, dict[str, float | int]]:
        """Cross-validated means of the chosen estimator, in the form of result.json."""
        means = {k: float(np.mean(v)) for k, v in self.scores[self.chosen].metrics.items()}
        return {k: {"value": v, "n": self.rows} for k, v in means.items()}

    def to_json(self) -> dict[str, Any]:
        return {
            "folds": FOLDS,
            "rows": self.rows,
            "chosen": self.chosen.value,
            "rule": "the simplest whose loss is within one standard error of the best",
            "scores": {
                name.value: {k: [round(x, 6) for x in v] for k, v in s.metrics.items()}
                for name, s in self.scores.items()
            },
        }


def select(
    dataset: Dataset, task: TaskType, wanted: EstimatorName, seed: int, advance: Callable[[], None]
) -> Selection:
    """`advance` is called after each fold of each candidate."""
    random = np.random.default_rng(seed)
    rows = np.arange(len(dataset))
    if len(rows) > MAX_ROWS:
        rows = np.sort(random.choice(len(rows), MAX_ROWS, replace=False))
    scores = {n: _score(dataset, task, n, rows, seed, advance) for n in candidates(wanted)}
    return Selection(chosen=_choose(scores), rows=len(rows), scores=scores)


def candidates(wanted: EstimatorName) -> tuple[EstimatorName, ...]:
    return CANDIDATES if wanted is EstimatorName.AUTO else (wanted,)


def _choose(scores: dict[EstimatorName, Scores]) -> EstimatorName:
    best = min(scores, key=lambda n: float(np.mean(scores[n].loss)))
    for name in scores:  # simplest first
        excess = np.asarray(scores[name].loss) - np.asarray(scores[best].loss)
        if excess.mean() <= excess.std(ddof=1) / np.sqrt(len(excess)):
            return name
    return best


def _score(
    dataset: Dataset,
    task: TaskType,
    name: EstimatorName,
    rows: npt.NDArray[np.int64],
    seed: int,
    advance: Callable[[], None],
) -> Scores:
    target = dataset.target[rows]
    folds: Any = KFold(FOLDS, shuffle=True, random_state=seed)
    if task is TaskType.CLASSIFICATION and min(np.unique(target, return_counts=True)[1]) >= FOLDS:
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    found: list[dict[str, float]] = []
    for train, test in folds.split(rows, target):
        found.append(_fold(dataset, task, name, rows[train], rows[test], seed))
        advance()
    metrics = {k: [f[k] for f in found] for k in found[0] if all(k in f for f in found)}
    return Scores(metrics=metrics, loss=metrics["logloss" if task is TaskType.CLASSIFICATION else "rmse"])


def _fold(
    dataset: Dataset,
    task: TaskType,
    name: EstimatorName,
    train: npt.NDArray[np.int64],
    test: npt.NDArray[np.int64],
    seed: int,
) -> dict[str, float]:
    target = dataset.target
    if task is TaskType.CLASSIFICATION and len(set(target[train].tolist())) < 2:
        return {"accuracy": float(np.mean(target[test] == target[train][0])), "logloss": -np.log(SMALLEST_PROBABILITY)}
    pipeline = pipelines.build(name, dataset, task, seed).fit(dataset.frame(train), target[train])
    frame, truth = dataset.frame(test), target[test]
    if task is TaskType.REGRESSION:
        errors = pipeline.predict(frame) - truth
        return {"rmse": float(np.sqrt(np.mean(errors**2))), "mae": float(np.mean(np.abs(errors)))}
    probabilities, classes = pipeline.predict_proba(frame), pipeline.classes_
    column_of = {c: i for i, c in enumerate(classes.tolist())}
    at = np.array([column_of.get(t, -1) for t in truth.tolist()])
    true_class = np.where(at >= 0, probabilities[np.arange(len(at)), at], 0.0)
    scores = {
        "accuracy": float(np.mean(classes[probabilities.argmax(axis=1)] == truth)),
        "logloss": float(-np.mean(np.log(np.clip(true_class, SMALLEST_PROBABILITY, 1)))),
    }
    if len(classes) == 2 and len(set(truth.tolist())) == 2:
        scores["auc"] = float(roc_auc_score(truth == classes[1], probabilities[:, 1]))
    return scores
