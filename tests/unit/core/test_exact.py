"""The exact tests against known values and against their own definition."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from steeltown.core.judge.exact import (
    clopper_pearson_lower,
    clopper_pearson_upper,
    fisher_greater,
    needed_without_events,
)


def binomial_cdf(events: int, n: int, p: float) -> float:
    return math.fsum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(events + 1))


@pytest.mark.parametrize(
    ("share", "alpha", "n"), [(0.01, 0.05, 299), (0.001, 0.05, 2995), (0.05, 0.05, 59), (0.01, 0.025, 368)]
)
def test_zero_events_need_the_published_sample_size(share: float, alpha: float, n: int) -> None:
    assert needed_without_events(share, alpha) == n
    assert clopper_pearson_upper(0, n, alpha) <= share < clopper_pearson_upper(0, n - 1, alpha)


def test_clopper_pearson_of_a_textbook_example() -> None:
    """10 of 100, 95 % two-sided: [0.0490, 0.1762]."""
    assert clopper_pearson_lower(10, 100, 0.025) == pytest.approx(0.0490, abs=5e-5)
    assert clopper_pearson_upper(10, 100, 0.025) == pytest.approx(0.1762, abs=5e-5)


@given(n=st.integers(1, 200), data=st.data(), alpha=st.sampled_from([0.05, 0.01, 0.001]))
def test_bounds_are_where_the_binomial_tail_is_alpha(n: int, data: st.DataObject, alpha: float) -> None:
    events = data.draw(st.integers(0, n))
    upper, lower = clopper_pearson_upper(events, n, alpha), clopper_pearson_lower(events, n, alpha)
    assert 0.0 <= lower <= events / n <= upper <= 1.0
    if events < n:
        assert binomial_cdf(events, n, upper) == pytest.approx(alpha, rel=1e-6)
    if events > 0:
        assert 1 - binomial_cdf(events - 1, n, lower) == pytest.approx(alpha, rel=1e-6)


@given(st.integers(0, 30), st.integers(1, 30), st.integers(0, 30), st.integers(1, 30))
def test_fisher_is_the_hypergeometric_tail(x: int, n: int, y: int, m: int) -> None:
    x, y = min(x, n), min(y, m)
    t = x + y
    weights = {k: math.comb(n, k) * math.comb(m, t - k) for k in range(max(0, t - m), min(n, t) + 1)}
    expected = sum(w for k, w in weights.items() if k >= x) / sum(weights.values())
    assert fisher_greater(x, n, y, m) == pytest.approx(expected, rel=1e-9)


def test_the_lady_tasting_tea() -> None:
    """Fisher 1935: all four of four right has probability 1/70."""
    assert fisher_greater(4, 4, 0, 4) == pytest.approx(1 / 70)


def test_no_observation_shows_nothing() -> None:
    assert clopper_pearson_upper(0, 0, 0.05) == 1.0
    assert clopper_pearson_lower(0, 0, 0.05) == 0.0
    assert fisher_greater(0, 0, 5, 10) == 1.0


@pytest.mark.parametrize(("events", "n"), [(-1, 5), (6, 5)])
def test_counts_that_cannot_be_are_refused(events: int, n: int) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        clopper_pearson_upper(events, n, 0.05)
