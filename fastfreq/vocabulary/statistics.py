"""Intervals and tests on every figure: binomial, mean, paired. NumPy only, checked against SciPy in the tests.

Means of values with bounds, such as an image's share of errors in a ring, are in `bounded_means`.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def normal_quantile(confidence: float) -> float:
    """Two-sided quantile z: P(|N(0, 1)| < z) = confidence; 1.96 at 0.95.

    Raises:
        ValueError: a confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, such as 0.95, got {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def wilson(successes: ArrayLike, count: ArrayLike, *, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Wilson score interval (low, high) of a proportion, elementwise; NaN where count is 0.

    centre = (p + z^2 / 2n) / (1 + z^2 / n), half width = z sqrt(p (1 - p) / n + z^2 / 4n^2) / (1 + z^2 / n).
    Never leaves [0, 1] and keeps its coverage at p near 0 and 1, where maps spend most of their cells.

    Source: Wilson 1927; Brown, Cai, DasGupta 2001.
    """
    z = normal_quantile(confidence)
    s, n = np.asarray(successes, dtype=np.float64), np.asarray(count, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = s / n
        centre = p + z * z / (2 * n)
        half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        scale = 1 + z * z / n
        low, high = np.maximum((centre - half) / scale, 0.0), np.minimum((centre + half) / scale, 1.0)
    return np.where(s == 0, low * 0, low), np.where(s == n, high * 0 + 1, high)  # rounding leaves 6e-18 there


def student_quantile(confidence: float, freedom: ArrayLike) -> FloatArray:
    """Two-sided quantile t: P(|T| < t) = confidence for Student's T with `freedom` degrees of freedom, elementwise.

    With t = sqrt(f) tan(a), P(|T| < t) is the integral of cos(x)^(f - 1) over |x| < a, over that of |x| < pi / 2. NaN
    below one degree.

    Raises:
        ValueError: a confidence outside (0, 1).
    """
    z = normal_quantile(confidence)
    freedom = np.asarray(freedom, dtype=np.float64)
    unique, inverse = np.unique(freedom, return_inverse=True)
    found = np.array([_student(confidence, f, z) if f >= 1 else math.nan for f in unique])
    return found[inverse].reshape(freedom.shape)


def _student(confidence: float, f: float, z: float) -> float:
    if f > 1e4:  # where a ratio of gamma functions loses digits, the next term of the series is below 1e-10
        return z + z * (z**2 + 1) / (4 * f) + z * (5 * z**4 + 16 * z**2 + 3) / (96 * f**2)
    nodes, weights = np.polynomial.legendre.leggauss(96)
    whole = math.sqrt(math.pi) / 2 * math.exp(math.lgamma(f / 2) - math.lgamma((f + 1) / 2))
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        a = (low + high) / 2
        below = a / 2 * float(weights @ np.cos(a / 2 * (nodes + 1)) ** (f - 1))
        low, high = (a, high) if below < confidence * whole else (low, a)
    return math.sqrt(f) * math.tan((low + high) / 2)


def student_interval(
    total: ArrayLike, squares: ArrayLike, count: ArrayLike, *, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Student's interval (low, high) of a mean from sum, sum of squares and count, elementwise; NaN below two values.

    mean +- t_(n - 1) s / sqrt(n): for means of values without bounds, such as losses. Exact for normal values, else an
    approximation that skewed values in small numbers break: where values have bounds use `bounded_mean_interval`.

    Source: Student 1908.
    """
    s, q, n = (np.asarray(a, dtype=np.float64) for a in (total, squares, count))
    t = student_quantile(confidence, n - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = s / n
        variance = np.maximum(q - s * mean, 0.0) / (n - 1)
        half = np.where(n > 1, t * np.sqrt(variance / n), np.nan)
    return mean - half, mean + half


def mcnemar(only_first: ArrayLike, only_second: ArrayLike) -> FloatArray:
    """Exact two-sided McNemar p-value, elementwise.

    Args:
        only_first: images that only the first model gets wrong.
        only_second: images that only the second model gets wrong.

    Under the null each of the m = first + second discordant images is a fair coin:
    p = min(1, 2 sum_{i <= min(first, second)} C(m, i) / 2^m); 1 where nothing disagrees.

    Source: McNemar 1947, exact form as in Fagerland, Lydersen, Laake 2013, equation 3.
    """
    a, b = np.broadcast_arrays(np.asarray(only_first, dtype=np.int64), np.asarray(only_second, dtype=np.int64))
    pairs, inverse = np.unique(np.stack([a + b, np.minimum(a, b)], axis=-1).reshape(-1, 2), axis=0, return_inverse=True)
    if not len(pairs):
        return np.ones(a.shape)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, pairs[:, 0].max() + 1)))])
    p = np.empty(len(pairs))
    for k, (m, least) in enumerate(pairs):
        i = np.arange(least + 1)
        log_terms = log_factorial[m] - log_factorial[i] - log_factorial[m - i] - m * math.log(2)
        p[k] = min(1.0, 2 * np.exp(log_terms).sum())
    return p[inverse].reshape(a.shape)


def benjamini_hochberg(p_values: ArrayLike) -> FloatArray:
    """q-values: the smallest false discovery rate at which each test would be called; NaN stays NaN.

    Source: Benjamini, Hochberg 1995.
    """
    p = np.asarray(p_values, dtype=np.float64)
    flat = p.reshape(-1)
    tested = np.flatnonzero(~np.isnan(flat))
    order = tested[np.argsort(flat[tested])]
    m = len(order)
    ranked = flat[order] * m / np.arange(1, m + 1)
    q = np.full(flat.shape, np.nan)
    q[order] = np.minimum(np.minimum.accumulate(ranked[::-1])[::-1], 1.0)
    return q.reshape(p.shape)


def paired_difference_interval(
    only_first: ArrayLike, only_second: ArrayLike, count: ArrayLike, *, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Interval (low, high) of error(second) - error(first) on the same images, elementwise.

    Half a discordant image is added to each side before the Wald interval, which keeps its coverage in
    small samples.

    Source: Agresti, Min 2005, "Simple improved confidence intervals for comparing matched proportions".
    """
    z = normal_quantile(confidence)
    b = np.asarray(only_first, dtype=np.float64) + 0.5
    c = np.asarray(only_second, dtype=np.float64) + 0.5
    n = np.asarray(count, dtype=np.float64) + 2
    difference = (c - b) / n
    half = z * np.sqrt(np.maximum(b + c - (b - c) ** 2 / n, 0.0)) / n
    return np.maximum(difference - half, -1.0), np.minimum(difference + half, 1.0)


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation of two arrays of one shape, ties at their average rank; NaN pairs dropped.

    NaN if either side is constant.
    """
    x, y = np.asarray(a, dtype=np.float64).reshape(-1), np.asarray(b, dtype=np.float64).reshape(-1)
    if x.shape != y.shape:
        raise ValueError(f"expected two arrays of one size, got {x.size} and {y.size} values")
    both = ~(np.isnan(x) | np.isnan(y))
    ranks = []
    for values in (x[both], y[both]):
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2)[inverse])
    rx, ry = (r - r.mean() if r.size else r for r in ranks)
    norm = math.sqrt(float(rx @ rx) * float(ry @ ry))
    return float(rx @ ry) / norm if norm > 0 else math.nan
