"""The few pipelines that the trainer chooses from, each one convertible to ONNX without a difference.

Gradient boosting reads numbers as they are: its thresholds are values of the data, so scaling in float64
here and in float32 there would send whole groups of rows down another branch. Categories are fixed from the
data in advance (frequent ones, at most MAX_CATEGORIES), rare and unseen ones are all zeros; a missing
category is the category "", since that it is missing often says something.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from steeltown.contract.plans import TaskType

from .dataset import Dataset
from .parameters import EstimatorName

MAX_CATEGORIES: Final = 64
RARE_SHARE: Final = 0.001
FOREST: Final = {"n_estimators": 100, "min_samples_leaf": 5, "max_leaf_nodes": 1024, "n_jobs": -1}


def build(name: EstimatorName, dataset: Dataset, task: TaskType, seed: int) -> Pipeline:
    """An unfitted pipeline over `Dataset.frame`."""
    numbers = [f"f{i}" for i, f in enumerate(dataset.features) if not f.is_text]
    texts = [i for i, f in enumerate(dataset.features) if f.is_text]
    impute = SimpleImputer(strategy="median", keep_empty_features=True)
    steps: list[tuple[str, Any, list[str]]] = []
    if numbers:
        steps.append(
            ("numbers", make_pipeline(impute, StandardScaler()) if name is EstimatorName.LINEAR else impute, numbers)
        )
    if texts:
        encode = OneHotEncoder(
            categories=[frequent(dataset.columns[i]) for i in texts],
            handle_unknown="ignore",
            sparse_output=False,
            dtype=np.float32,
        )
        steps.append(("texts", encode, [f"f{i}" for i in texts]))
    return Pipeline([("columns", ColumnTransformer(steps)), ("estimator", _estimator(name, task, seed))])


def frequent(values: Any) -> Any:
    """The categories worth a column of their own, sorted; never none."""
    counts = Counter(values.tolist())
    least = max(2, RARE_SHARE * len(values))
    ranked = sorted(counts, key=lambda c: (-counts[c], c))
    kept = [c for c in ranked[:MAX_CATEGORIES] if counts[c] >= least] or ranked[:1]
    return np.array(sorted(kept), dtype=object)


def _estimator(name: EstimatorName, task: TaskType, seed: int) -> Any:
    classify = task is TaskType.CLASSIFICATION
    if name is EstimatorName.LINEAR:
        return LogisticRegression(max_iter=1000) if classify else Ridge()
    if name is EstimatorName.RANDOM_FOREST:
        kind = RandomForestClassifier if classify else RandomForestRegressor
        return kind(**FOREST, random_state=seed)
    boosting = HistGradientBoostingClassifier if classify else HistGradientBoostingRegressor
    return boosting(max_iter=100, random_state=seed)
