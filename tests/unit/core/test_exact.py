"""The exact tests against known values and against their own definition."""

from __future__ import annotations

import math
import time

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


@pytest.mark.parametrize(
    ("x", "n", "y", "m"),
    [
        (100_900, 10**6, 10**6, 10**7),
        (101_000, 10**6, 100_000, 10**6),
        (99_000, 10**6, 100_000, 10**6),
        (5_300, 10**5, 5_000, 10**5),
        (70_000, 10**5, 50_000, 10**5),
        (300_000, 600_000, 2, 3),
    ],
)
def test_fisher_of_large_counts_is_still_the_tail(x: int, n: int, y: int, m: int) -> None:
    def log_choose(a: int, k: int) -> float:
        return math.lgamma(a + 1) - math.lgamma(k + 1) - math.lgamma(a - k + 1)

    all_log, top = log_choose(n + m, x + y), min(n, x + y)
    every = (log_choose(n, k) + log_choose(m, x + y - k) - all_log for k in range(x, min(top, x + 100_000) + 1))
    expected = math.fsum(math.exp(term) for term in every)
    assert fisher_greater(x, n, y, m) == pytest.approx(expected, rel=2e-5, abs=1e-300)


@pytest.mark.parametrize(
    ("x", "n", "y", "m"),
    [
        (10, 2**53, 2**52, 2**53),
        (2**52, 2**53, 0, 2**53),
        (10, 10**12, 10**11, 10**12),
        (10**11 + 10**6, 10**12, 10**11, 10**12),
        (0, 2**70, 2**70, 2**70),
        (2**53, 2**53, 1, 1),
    ],
)
def test_counts_of_a_pod_that_lies_take_no_longer_than_others(x: int, n: int, y: int, m: int) -> None:
    started = time.process_time()
    assert 0.0 <= fisher_greater(x, n, y, m) <= 1.0
    lower, upper = clopper_pearson_lower(x, n, 0.005), clopper_pearson_upper(x, n, 0.005)
    assert 0.0 <= lower <= 1.0 and 0.0 <= upper <= 1.0
    assert lower <= upper or n > 10**13  # more than any reader lets through
    assert time.process_time() - started < 0.5


def test_the_lady_tasting_tea() -> None:
    """Fisher 1935: all four of four right has probability 1/70."""
    assert fisher_greater(4, 4, 0, 4) == pytest.approx(1 / 70)


def test_no_observation_shows_nothing() -> None:
    assert clopper_pearson_upper(0, 0, 0.05) == 1.0
    assert clopper_pearson_lower(0, 0, 0.05) == 0.0
    assert fisher_greater(0, 0, 5, 10) == 1.0


@pytest.mark.parametrize(("events", "n"), [(-1, 5), (6, 5)])
def test_counts_that_cannot_be_are_refused(events: int, n: int) -> None:
    with pytest.raises(ValueError, match="invalid counts: "):
        clopper_pearson_upper(events, n, 0.05)
