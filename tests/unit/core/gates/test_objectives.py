"""What a run is measured against: its own objectives may add to the model's, and never take anything from them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from steeltown.api.base import Model
from steeltown.api.conditions import RUN_GATES
from steeltown.api.objectives import DataObjective, Objectives, QualityObjective, RunObjectives
from steeltown.contract.plans import DataCheck, Mode
from steeltown.contract.reports import MetricComparison
from steeltown.core.gates.objectives import basis, effective, stricter
from steeltown.core.gates.quality import quality_accepted
from steeltown.core.observed.model import Run
from steeltown_testing.explore.schedule import POLICY

ACCURACY = {"metric": "accuracy", "min": "0.7"}
WATCHED = {**ACCURACY, "mode": "Observe"}


def both(model: dict[str, Any], run: dict[str, Any] | None) -> RunObjectives:
    own = None if run is None else RunObjectives.model_validate(run)
    return effective(Objectives.model_validate(model), own)


def quality(*objectives: dict[str, Any]) -> dict[str, Any]:
    return {"quality": list(objectives)}


def rows(**bounds: Any) -> dict[str, Any]:
    return {"data": {"rows": bounds}}


def column(**bounds: Any) -> dict[str, Any]:
    return {"data": {"columns": [{"name": "x", **bounds}]}}


CASES: dict[str, tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any]]] = {
    "a run without objectives": (quality(ACCURACY), None, quality(ACCURACY)),
    "a run that names none": (quality(ACCURACY), {}, quality(ACCURACY)),
    "a higher minimum counts": (
        quality(ACCURACY),
        quality({**ACCURACY, "min": "0.9"}),
        quality({**ACCURACY, "min": "0.9"}),
    ),
    "a lower minimum does not": (quality(ACCURACY), quality({**ACCURACY, "min": "0.1"}), quality(ACCURACY)),
    "as numbers, not as text": (quality(ACCURACY), quality({**ACCURACY, "min": "0.70"}), quality(ACCURACY)),
    "a bound that the model lacks is added": (
        quality(ACCURACY),
        quality({"metric": "accuracy", "nonInferiorityMargin": "0.01"}),
        quality({**ACCURACY, "nonInferiorityMargin": "0.01"}),
    ),
    "a wider margin does not count": (
        quality({"metric": "auc", "nonInferiorityMargin": "0.01"}),
        quality({"metric": "auc", "nonInferiorityMargin": "0.5"}),
        quality({"metric": "auc", "nonInferiorityMargin": "0.01"}),
    ),
    "a higher maximum does not count": (
        quality({"metric": "rmse", "max": "2"}),
        quality({"metric": "rmse", "max": "10"}),
        quality({"metric": "rmse", "max": "2"}),
    ),
    "observing takes no enforcement away": (quality(ACCURACY), quality(WATCHED), quality(ACCURACY)),
    "a further metric is enforced beside": (
        quality(ACCURACY),
        quality({"metric": "auc", "min": "0.8"}),
        quality(ACCURACY, {"metric": "auc", "min": "0.8"}),
    ),
    "of a model that only observes the run's own": (quality(WATCHED), quality(ACCURACY), quality(ACCURACY)),
    "of a model without any the run's own": ({}, quality(ACCURACY), quality(ACCURACY)),
    "more rows": (rows(min=100, max=200), rows(min=150, max=300), rows(min=150, max=200)),
    "fewer rows": (rows(min=100), rows(min=1, mode="Observe"), rows(min=100)),
    "a ratio": (rows(minRatioToLive="0.5"), rows(minRatioToLive="0.25"), rows(minRatioToLive="0.5")),
    "data that only the run asks for": ({}, rows(min=1), rows(min=1)),
    "an enforced bound beside an observed one": (rows(min=5, mode="Observe"), rows(min=1), rows(min=5)),
    "fewer nulls": (column(maxNullFraction="0.5"), column(maxNullFraction="0.1"), column(maxNullFraction="0.1")),
    "more nulls": (column(maxNullFraction="0.1"), column(maxNullFraction="0.5"), column(maxNullFraction="0.1")),
    "another type": (column(type="Number"), column(type="String"), column(type="Number")),
    "a type where the model has none": (column(), column(type="String"), column(type="String")),
    "a further column": (
        column(),
        {"data": {"columns": [{"name": "z"}]}},
        {"data": {"columns": [{"name": "x"}, {"name": "z"}]}},
    ),
}


@pytest.mark.parametrize(("model", "run", "expected"), CASES.values(), ids=CASES)
def test_stricter_bound_counts(model: dict[str, Any], run: dict[str, Any] | None, expected: dict[str, Any]) -> None:
    assert both(model, run) == RunObjectives.model_validate(expected)


# --- for every pair of objectives ------------------------------------------------------------------------------------

# Few values, so that the bounds of both often lie on either side of what is measured.
share = st.sampled_from([None, "0", "0.4", "0.8"])
count = st.sampled_from([None, 2, 4, 6])
value = st.sampled_from([0.0, 0.2, 0.6, 1.0])
mode = st.sampled_from(["Enforce", "Enforce", "Observe"])


def given_fields(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(fields).map(lambda raw: {k: v for k, v in raw.items() if v is not None})


def named(key: str, names: list[str], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    one = given_fields(**{key: st.sampled_from(names)}, mode=mode, **fields)
    return st.lists(one, min_size=1, max_size=len(names), unique_by=lambda raw: raw[key])


objectives = given_fields(
    quality=named("metric", ["accuracy", "auc"], min=share, max=share, nonInferiorityMargin=share),
    data=given_fields(
        rows=given_fields(min=count, max=count, minRatioToLive=share, mode=mode),
        columns=named("name", ["x", "z"], type=st.sampled_from([None, "Number", "String"]), maxNullFraction=share),
    ),
)
nothing: st.SearchStrategy[dict[str, Any]] = st.just({})


@st.composite
def metrics(draw: st.DrawFn) -> tuple[MetricComparison, ...]:
    found = []
    for name in ("accuracy", "auc"):
        lower, width = draw(value) - 0.6, draw(value)
        compared = draw(st.booleans())
        ends = {"live": 0.5, "difference": lower + width / 2, "lower": lower, "upper": lower + width}
        found.append(MetricComparison(name=name, candidate=draw(value), n=9, **(ends if compared else {})))
    return tuple(found)


@given(objectives | nothing, objectives | nothing, metrics(), st.booleans())
def test_no_run_makes_a_version_accepted_that_the_model_does_not_accept(
    model: dict[str, Any], run: dict[str, Any], measured: tuple[MetricComparison, ...], had_live: bool
) -> None:
    if basis(RunObjectives.model_validate(model)) == "Run":
        return  # accepted by the run's own word, and never eligible
    strict = quality_accepted(both(model, run).quality, measured, had_live=had_live)
    alone = quality_accepted(
        [QualityObjective.model_validate(o) for o in model.get("quality", ())], measured, had_live=had_live
    )
    assert strict.status != "True" or alone.status == "True"


@pytest.mark.parametrize(
    ("model", "whose"),
    [({}, "Run"), (quality(WATCHED), "Run"), (quality(WATCHED, ACCURACY | {"metric": "auc"}), "Model")],
)
def test_basis_is_the_models_only_if_it_enforces_something(model: dict[str, Any], whose: str) -> None:
    assert basis(RunObjectives.model_validate(model)) == whose


@pytest.mark.parametrize(("whose", "status"), [("Model", "True"), (None, "True"), ("Run", "Unknown")])
def test_version_that_only_its_run_vouches_for_is_never_eligible(whose: str | None, status: str) -> None:
    """None: of version 0.1, which did not tell."""
    gates = [{"type": g.value, "status": "True", "reason": "R", "message": "m"} for g in RUN_GATES]
    obj = {"metadata": {"name": "r"}, "status": {"conditions": gates, "qualityBasis": whose}}
    assert Run(obj, POLICY).eligible.status == status


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    columns = draw(st.fixed_dictionaries({"x": st.just("Number")}, optional={"z": st.just("Number")}))
    return {"rows": draw(st.integers(1, 7)), "types": columns, "nulls": {c: draw(value) for c in columns}}


def refused(checks: tuple[DataCheck, ...], table: dict[str, Any]) -> bool:
    """An enforced check fails, as the checker would find."""
    return any(c.mode is Mode.ENFORCE and _fails(c, table) for c in checks)


def _fails(check: DataCheck, table: dict[str, Any]) -> bool:
    asked = check.parameters
    if check.name == "rows":
        return not asked.get("min", 0) <= table["rows"] <= asked.get("max", 99)
    for each in asked["columns"]:
        name = each["name"]
        if name not in table["types"]:
            return True
        if table["types"][name] != each.get("type", table["types"][name]):
            return True
        if table["nulls"][name] > each.get("maxNullFraction", 1.0):
            return True
    return False


@given(objectives | nothing, objectives | nothing, tables(), st.sampled_from([None, 5]))
def test_no_run_trains_on_data_that_the_model_refuses(
    model: dict[str, Any], run: dict[str, Any], table: dict[str, Any], live_rows: int | None
) -> None:
    found = both(model, run).data
    alone = DataObjective.model_validate(model["data"]).checks(live_rows) if "data" in model else ()
    assert refused(found.checks(live_rows) if found else (), table) or not refused(alone, table)


@given(objectives | nothing, objectives | nothing, tables())
def test_run_may_be_stricter_about_its_data(model: dict[str, Any], run: dict[str, Any], table: dict[str, Any]) -> None:
    """But for the type of a column: of two that differ the model's counts, since both cannot be."""
    for each in run.get("data", {}).get("columns", ()):
        each.pop("type", None)
    found = both(model, run).data
    own = DataObjective.model_validate(run["data"]).checks(None) if "data" in run else ()
    assert refused(found.checks(None) if found else (), table) or not refused(own, table)


# --- objectives of tomorrow ------------------------------------------------------------------------------------------


class Drift(Model):
    """An objective that nobody has told `gates.objectives` about."""

    max_distance: str | None = None
    min_rows: int | None = None
    reference: str = "live"
    mode: Mode = Mode.ENFORCE


def test_objective_that_is_added_is_tightened_by_the_names_of_its_fields() -> None:
    model = Drift(max_distance="0.2", reference="training", mode=Mode.OBSERVE)
    run = Drift(max_distance="0.10", min_rows=10, reference="any")
    assert stricter(model, run) == Drift(max_distance="0.10", min_rows=10, reference="training")
    assert stricter(run, model) == Drift(max_distance="0.10", min_rows=10, reference="any")
