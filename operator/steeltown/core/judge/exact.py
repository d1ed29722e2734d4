"""Exact tests on counts, without a statistics library: the operator image stays small, the bounds exact.

Clopper, C. J. & Pearson, E. S. (1934), Biometrika 26(4): the interval for a binomial share from the beta
distribution. Fisher (1935): the hypergeometric tail for two shares. Both are conservative: their error
rates are at most the stated alpha at every sample size, also with zero events.
"""

from __future__ import annotations

import math


def clopper_pearson_upper(events: int, n: int, alpha: float) -> float:
    """One-sided upper confidence bound (level 1 - alpha) of a share, from `events` of `n`. 1.0 for n == 0.

    The share p with P(X <= events | p) = alpha, that is the (1 - alpha) quantile of Beta(events + 1, n - events).
    """
    _check(events, n, alpha)
    if n == 0 or events == n:
        return 1.0
    if events == 0:
        return 1.0 - math.exp(math.log(alpha) / n)
    return _beta_quantile(1.0 - alpha, events + 1.0, float(n - events))


def clopper_pearson_lower(events: int, n: int, alpha: float) -> float:
    """One-sided lower confidence bound (level 1 - alpha) of a share, from `events` of `n`. 0.0 for n == 0."""
    _check(events, n, alpha)
    if n == 0 or events == 0:
        return 0.0
    if events == n:
        return math.exp(math.log(alpha) / n)
    return _beta_quantile(alpha, float(events), n - events + 1.0)


def fisher_greater(events: int, n: int, reference_events: int, reference_n: int) -> float:
    """One-sided p-value that the share behind `events` of `n` is not above that of the reference.

    P(X >= events) for X hypergeometric with the margins fixed. 1.0 where one side has no observation.
    """
    _check(events, n, 0.5)
    _check(reference_events, reference_n, 0.5)
    if n == 0 or reference_n == 0:
        return 1.0
    total_events = events + reference_events
    denominator = _log_choose(n + reference_n, total_events)
    top = min(n, total_events)
    logs = [
        _log_choose(n, x) + _log_choose(reference_n, total_events - x) - denominator for x in range(events, top + 1)
    ]
    peak = max(logs)
    return min(1.0, math.exp(peak) * math.fsum(math.exp(value - peak) for value in logs))


def needed_without_events(share: float, alpha: float) -> int:
    """Smallest n at which zero events show, at level 1 - alpha, that the share is at most `share`.

    >>> needed_without_events(0.01, 0.05)
    299
    """
    if share >= 1.0:
        return 1
    if share <= 0.0:
        raise ValueError("no finite sample shows that a share is zero")
    return math.ceil(math.log(alpha) / math.log1p(-share))


def _check(events: int, n: int, alpha: float) -> None:
    if not 0 <= events <= n:
        raise ValueError(f"{events} events of {n} observations cannot be")
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha {alpha} must lie between 0 and 1")


def _log_choose(n: int, k: int) -> float:
    if k < 0 or k > n:
        return -math.inf
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _beta_quantile(q: float, a: float, b: float) -> float:
    """Bisection on the regularised incomplete beta function; 60 halvings are below double precision."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _beta_cdf(middle, a, b) < q:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _beta_cdf(x: float, a: float, b: float) -> float:
    """I_x(a, b) by Lentz's continued fraction (Numerical Recipes 6.4; DLMF 8.17.22)."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - _beta_cdf(1.0 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    fraction = d
    for m in range(1, 1000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 + numerator * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + numerator / c
            c = c if abs(c) > tiny else tiny
            fraction *= c * d
        if abs(c * d - 1.0) < 1e-14:
            break
    return front * fraction / a
