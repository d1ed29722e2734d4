"""Exact tests on counts, without a statistics library: the operator image stays small, the bounds exact.

Clopper, C. J. & Pearson, E. S. (1934), Biometrika 26(4): the interval for a binomial share from the beta
distribution. Fisher (1935): the hypergeometric tail for two shares. Both are conservative: their error
rates are at most the stated alpha at every sample size, also with zero events.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

_MAX_COUNT: Final = 10**13
_MAX_TERMS: Final = 4096
_NEGLIGIBLE: Final = 45.0  # e**-45 is below a double's last bit, also for all terms together


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

    P(X >= events) for X hypergeometric with the margins fixed. 1.0 where one side has no observation, and for counts
    that no server can have counted, among which doubles no longer tell terms apart.

    Counts come from Pods, so the work has a bound whatever they are: terms that cannot be seen beside the largest are
    left out, and where more than `_MAX_TERMS` remain they are summed in blocks, each by the term in its middle. A block
    is then so much narrower than the distribution that the relative error stays below 1e-5.
    """
    _check(events, n, 0.5)
    _check(reference_events, reference_n, 0.5)
    if n == 0 or reference_n == 0 or n + reference_n > _MAX_COUNT:
        return 1.0
    total_events = events + reference_events
    denominator = _log_choose(n + reference_n, total_events)
    top = min(n, total_events)

    def log_term(x: float) -> float:
        return _log_choose(n, x) + _log_choose(reference_n, total_events - x) - denominator

    mode = (total_events + 1) * (n + 1) // (n + reference_n + 2)
    largest = min(max(events, mode), top)
    peak = log_term(largest)
    first = _farthest(log_term, largest, events, peak - _NEGLIGIBLE)
    last = _farthest(log_term, largest, top, peak - _NEGLIGIBLE)
    block = -(-(last - first + 1) // _MAX_TERMS)
    blocks, rest = divmod(last - first + 1, block)
    middles = (first + block * i + (block - 1) / 2 for i in range(blocks))
    whole = math.fsum(math.exp(log_term(x) - peak) for x in middles)
    left = math.fsum(math.exp(log_term(x) - peak) for x in range(last - rest + 1, last + 1))
    return min(1.0, math.exp(peak) * (block * whole + left))


def needed_without_events(share: float, alpha: float) -> int:
    """Smallest n at which zero events show, at level 1 - alpha, that the share is at most `share`.

    >>> needed_without_events(0.01, 0.05)
    299
    """
    if share >= 1.0:
        return 1
    if share <= 0.0:
        raise ValueError("invalid share 0: no finite sample can show it")
    return math.ceil(math.log(alpha) / math.log1p(-share))


def _check(events: int, n: int, alpha: float) -> None:
    if not 0 <= events <= n:
        raise ValueError(f"invalid counts: {events} events of {n} observations")
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"invalid alpha {alpha}: must be between 0 and 1")


def _farthest(log_term: Callable[[float], float], inside: int, end: int, least: float) -> int:
    """The number farthest from `inside`, towards and up to `end`, whose term is at least `least`; terms only fall."""
    if log_term(end) >= least:
        return end
    outside = end
    while abs(inside - outside) > 1:
        middle = (inside + outside) // 2
        inside, outside = (middle, outside) if log_term(middle) >= least else (inside, middle)
    return inside


def _log_choose(n: int, k: float) -> float:
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
    exponent = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    front = math.exp(min(exponent, 700.0))  # for counts so large that the differences are noise: no overflow
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
