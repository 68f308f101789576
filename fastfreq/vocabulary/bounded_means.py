"""Intervals of the mean of values with bounds, such as each image's share of errors in a ring of frequencies.

What is averaged within an image (cells of a ring, severities) is correlated, so an image is one observation: a value
in [low, high] of any distribution. Intervals from the standard deviation fail here: few errors in few images have
none at all.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .statistics import normal_quantile

FloatArray = NDArray[np.float64]

_ROUNDING = 1e-6  # by which float32 shares may leave their bounds, relative to the width
_V = 0.2 * np.arange(51)  # along the contour: double exponential, what is left out is below 1e-9
_BETS = 24


def bounded_mean_interval(
    values: ArrayLike, *, low: float = 0.0, high: float = 1.0, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Interval of the mean of independent values in [low, high] of any distribution, down the first axis.

    The upper end is the (1 + confidence) / 2 quantile of D_0 high + sum_i D_i x_i, the lower end that of 1 - confidence
    over 2 of D_0 low + sum_i D_i x_i, where (D_0 ... D_n) is uniform on the simplex (Dirichlet, all parameters 1). For
    values that are only `low` or `high` this is the exact interval of Clopper and Pearson; for many values, Student's.
    It is a function of the set of values: order, batches and shards do not matter.

    Coverage: proven for two-valued data; that it holds for all is Gaffke's conjecture, which no search has broken. What
    is proven for all is `bounded_mean_interval_of_sums`, about twice as wide, more in few images.

    Args:
        values: (n, ...), one value per image.
        low: smallest value possible.
        high: largest value possible.
        confidence: of the two-sided interval.

    Returns:
        (low, high), both of the shape of ``values[0]``; NaN for no values.

    Raises:
        ValueError: values outside the bounds or NaN, or a confidence outside (0, 1).

    Source: Gaffke 2005, "Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative
        variable"; Learned-Miller, Thomas 2019, "A new confidence interval for the mean of a bounded random variable".
    """
    normal_quantile(confidence)  # refuses what is no confidence
    given = np.asarray(values, dtype=np.float64)
    if given.ndim == 0 or not low < high:
        raise ValueError(f"expected values (n, ...) and low < high, got shape {given.shape}, low {low}, high {high}")
    share = (given - low) / (high - low)
    if not ((share >= -_ROUNDING) & (share <= 1 + _ROUNDING)).all():
        raise ValueError(f"expected values from {low:g} to {high:g}, got {given.min():g} to {given.max():g}")
    columns = share.clip(0, 1).reshape(len(given), math.prod(given.shape[1:])).T
    tail = (1 - confidence) / 2
    ends = np.full((2, len(columns)), math.nan)
    for k, column in enumerate(columns if len(given) else ()):
        points, counts = np.unique(column, return_counts=True)
        ends[:, k] = 1 - _upper_end(1 - points, counts, tail), _upper_end(points, counts, tail)
    ends = low + (high - low) * ends
    return ends[0].reshape(given.shape[1:]), ends[1].reshape(given.shape[1:])


def bounded_mean_interval_of_sums(
    total: ArrayLike,
    squares: ArrayLike,
    count: ArrayLike,
    *,
    low: float = 0.0,
    high: float = 1.0,
    confidence: float = 0.95,
) -> tuple[FloatArray, FloatArray]:
    """Interval of the mean of independent values in [low, high] from their sum and sum of squares, elementwise.

    With x scaled to [0, 1], a gambler who bets on every x being below m with stake b ends with a fortune of
    prod_i (1 + b z_i), z_i = m - x_i, whose expectation is 1 if m is the mean. As z >= -1, log(1 + b z) is at least
    b z + (b + log(1 - b)) z^2, which bounds the fortune from below by sums. The upper end is where the mean fortune
    of 24 gamblers, b geometric from 2 / sqrt(n) to 0.99, exceeds 2 / (1 - confidence); the lower end by mirroring.
    By Markov's inequality coverage is at least `confidence` for every distribution and every n.

    Returns:
        (low, high); NaN where there are no values.

    Raises:
        ValueError: sums that no values within the bounds have, or a confidence outside (0, 1).

    Source: Fan, Grama, Liu 2015, "Exponential inequalities for martingales with applications", lemma 4.1;
        Waudby-Smith, Ramdas 2023, "Estimating means of bounded random variables by betting".
    """
    normal_quantile(confidence)
    s, q, n = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (total, squares, count)))
    width = high - low
    q = (q - 2 * low * s + n * low * low) / width**2
    s = (s - n * low) / width
    slack = _ROUNDING * np.maximum(n, 1) * max(1.0, (max(abs(low), abs(high)) / width) ** 2)
    if ((s < -slack) | (s > n + slack) | (q > s + slack) | (q * n < s * s - slack * n)).any():
        raise ValueError(f"expected sums of values from {low:g} to {high:g}, got sums of others")
    level = math.log(2 / (1 - confidence))
    upper = _betting_end(s, q, n, level)
    lower = 1 - _betting_end(n - s, n - 2 * s + q, n, level)
    known = n > 0
    return np.where(known, low + width * lower, np.nan), np.where(known, low + width * upper, np.nan)


# ---------------------------------------------------------------- Gaffke
def _upper_end(points: FloatArray, counts: NDArray[np.int64], tail: float) -> float:
    """The t with P(D_0 + sum_i D_i x_i > t) = tail, for distinct points x in [0, 1] and how often each was seen.

    A Dirichlet vector is one of exponentials E over its sum, so the event is sum_i (x_i - t) E_i + (1 - t) E_0 > 0.
    Newton's steps on the logarithm of its probability, kept within a bracket that they narrow.
    """
    x, c = np.append(points, 1.0), np.append(counts, 1).astype(np.float64)
    if (x == 1).all():
        return 1.0
    n = c.sum()
    mean = c @ x / n
    spread = math.sqrt(c @ np.square(x - mean) / n / (n + 1))
    low, high = float(x.min()), 1.0
    t = min(max(mean + 2 * spread, (low + mean) / 2), (high + mean) / 2)
    for _ in range(100):
        p, slope = _tail(x - t, c)
        low, high = (t, high) if p > tail else (low, t)
        step = math.log(max(p, 1e-300) / tail) * p / slope if slope > 0 and p > 0 else math.inf
        if abs(step) < 1e-11 or high - low < 1e-13:
            break
        t = t + step if low < t + step < high else (low + high) / 2
    return t


def _tail(a: FloatArray, c: FloatArray) -> tuple[float, float]:
    """(P(Q > 0), its descent when all of `a` sink) of Q = sum_j a_j G_j, G_j ~ Gamma(c_j), some a_j > 0 > others.

    P(Q > 0) = 1 / (2 pi i) times the integral of exp(K(s)) / s from s_0 - i inf to s_0 + i inf, with the cumulant
    generating function K(s) = -sum_j c_j log(1 - s a_j), for any 0 < s_0 < 1 / max a. s_0 is where the integrand is
    least on the real axis, and the contour bends the way its steepest descent does: it neither cancels nor
    oscillates, and the trapezoidal rule over v, with steps that grow like sinh(v), converges exponentially.
    """
    scale = float(a.max())
    a = a / scale
    s = _saddle(a, c)
    ratio = a / (1 - s * a)
    second = c @ ratio**2 + s**-2
    third = 2 * (c @ ratio**3) - 2 * s**-3
    width = second**-0.5
    bend = min(max(width * third / (3 * second), -0.8), 0.8)
    offset = width * (1j * np.sinh(_V) + bend * (np.cosh(_V) - 1))
    pace = width * (np.cosh(_V) - 1j * bend * np.sinh(_V))  # ds / (i dv)
    turned = np.log1p(-offset[:, None] * ratio)  # log(1 - s a) along the contour, less that at s_0
    base = math.exp(-float(c @ np.log1p(-s * a)))
    weights = np.exp(-(turned @ c)) * pace
    weights[0] /= 2
    step = (_V[1] - _V[0]) / math.pi
    along = s + offset
    p = base * step * float((weights / along).real.sum())
    inner = (c / ((1 - s * a) * np.exp(turned))).sum(axis=1)
    slope = base * step * float((weights * inner).real.sum()) / scale
    return p, slope


def _saddle(a: FloatArray, c: FloatArray) -> float:
    """Where K(s) - log(s) is least in 0 < s < 1 (max a is 1): self-concordant, so damped Newton's steps converge."""
    first, second = c @ a, c @ a**2
    s = min((math.sqrt(first * first + 4 * second) - first) / (2 * second), 0.9)
    for _ in range(200):
        ratio = a / (1 - s * a)
        gradient, curvature = c @ ratio - 1 / s, c @ ratio**2 + s**-2
        decrement = abs(gradient) / math.sqrt(curvature)
        s -= gradient / curvature / (1 + decrement if decrement > 0.25 else 1)
        if decrement < 1e-6:
            break
    return float(s)


# ---------------------------------------------------------------- betting
def _betting_end(s: FloatArray, q: FloatArray, n: FloatArray, level: float) -> FloatArray:
    """The smallest m from the mean up at which the gamblers' mean log fortune reaches `level`; 1 if it never does.

    A fortune grows with m, its bound need not: every m beyond the first at which the bound reaches the level is ruled
    out.
    """
    count = np.maximum(n, 1)
    start = np.minimum(2 / np.sqrt(count), 0.5)
    bets = start[..., None] * (0.99 / start[..., None]) ** np.linspace(0, 1, _BETS)
    penalty = bets + np.log1p(-bets)
    low, high = np.clip(s / count, 0, 1), np.ones_like(s)
    for _ in range(50):
        m = (low + high) / 2
        gain, square = n * m - s, np.maximum(n * m * m - 2 * m * s + q, 0)
        wealth = bets * gain[..., None] + penalty * square[..., None]
        top = wealth.max(axis=-1)
        rich = top + np.log(np.exp(wealth - top[..., None]).mean(axis=-1)) >= level
        low, high = np.where(rich, low, m), np.where(rich, m, high)
    return high
