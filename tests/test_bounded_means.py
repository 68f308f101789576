"""Intervals of means of bounded values: exact where there is a closed form, coverage from both sides, widths."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats

from fastfreq.vocabulary import bounded_means, statistics

interval = bounded_means.bounded_mean_interval
of_sums = bounded_means.bounded_mean_interval_of_sums


def shares(rng, n, reps, p, correlation, cells=40):
    """(n, reps) shares of `cells` errors of probability p, correlated within an image (beta-binomial)."""
    if correlation == 1:
        return (rng.random((n, reps)) < p).astype(float)
    if correlation == 0:
        return rng.binomial(cells, p, (n, reps)) / cells
    size = 1 / correlation - 1
    return rng.binomial(cells, rng.beta(p * size, (1 - p) * size, (n, reps))) / cells


def covered(ends, truth):
    return ((ends[0] <= truth) & (truth <= ends[1])).mean()


def width(ends):
    return float((np.minimum(ends[1], 1) - np.maximum(ends[0], 0)).mean())


# ---------------------------------------------------------------- against closed forms
@pytest.mark.parametrize("n", [1, 2, 7, 50, 1000, 20_000])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_of_zeros_and_ones_it_is_clopper_and_pearsons(n, confidence):
    for k in {0, 1, n // 3, n}:
        values = np.repeat([1.0, 0.0], [k, n - k])
        truth = scipy.stats.binomtest(k, n).proportion_ci(confidence, method="exact")
        np.testing.assert_allclose(interval(values, confidence=confidence), (truth.low, truth.high), atol=1e-8)


@pytest.mark.parametrize("n", [2, 5, 14])
def test_of_distinct_values_it_is_the_quantile_of_a_spline(n):
    # P(sum_i D_i x_i > t) of a uniform point D of the simplex is a divided difference of (x - t)_+^n, here exact
    values = np.random.default_rng(n).choice(1000, n, replace=False) / 1001
    low, high = interval(values, confidence=0.9)
    for points, end in ((np.append(values, 1.0), high), (1 - np.append(values, 0.0), 1 - low)):
        x, t = [Fraction(float(v)) for v in points], Fraction(float(end))
        above = [(a - t) ** n / math.prod(a - b for b in x if b != a) for a in x if a > t]
        assert float(sum(above)) == pytest.approx(0.05, rel=1e-7)


def test_of_many_values_it_is_students():
    values = np.random.default_rng(0).beta(2, 5, 5000)
    student = statistics.student_interval(values.sum(), (values**2).sum(), 5000)
    np.testing.assert_allclose(interval(values), student, atol=0.03 * width(student))
    differences = 2 * values - 1
    np.testing.assert_allclose(interval(differences, low=-1), 2 * np.array(interval(values)) - 1, atol=1e-9)


def test_order_and_neighbours_do_not_matter():
    rng = np.random.default_rng(1)
    values = rng.random((30, 2, 3))
    ends = interval(values)
    assert ends[0].shape == (2, 3)
    assert np.array_equal(ends, interval(values[rng.permutation(30)]))
    assert np.array_equal(ends[1][1, 2], interval(values[:, 1, 2])[1])
    assert ((ends[0] < values.mean(axis=0)) & (values.mean(axis=0) < ends[1])).all()


# ---------------------------------------------------------------- coverage
@pytest.mark.parametrize("n", [3, 6])
def test_no_distribution_on_three_points_breaks_it(n):
    """Exact coverage of every sample of {0, a, 1}, over a grid of a and of probabilities."""
    counts = np.array([(i, j, n - i - j) for i in range(n + 1) for j in range(n + 1 - i)])
    grid = np.array([(i, j, 24 - i - j) for i in range(25) for j in range(25 - i)]) / 24
    chances = np.exp(
        scipy.special.gammaln(n + 1)
        - scipy.special.gammaln(counts + 1).sum(axis=1)
        + scipy.special.xlogy(counts, grid[:, None]).sum(axis=2)
    )
    for a in (0.02, 0.3, 0.5, 0.9):
        points = np.array([0, a, 1])
        samples = np.stack([np.repeat(points, c) for c in counts], axis=1)
        sums = samples.sum(axis=0), np.square(samples).sum(axis=0), n
        for low, high in (interval(samples, confidence=0.8), of_sums(*sums, confidence=0.8)):
            truth = (grid @ points)[:, None]
            inside = (low <= truth + 1e-9) & (truth <= high + 1e-9)
            assert ((chances * inside).sum(axis=1) >= 0.8).all()


@pytest.mark.parametrize(
    ("n", "p", "correlation", "by_deviation", "at_most"),
    [(50, 0.002, 0.5, 0.4, None), (200, 0.3, 0.5, 1, 1.1), (20, 0.3, 0.5, 1, 1.15)],
)
def test_rings_are_covered_where_the_standard_deviation_fails(n, p, correlation, by_deviation, at_most):
    values = shares(np.random.default_rng(2), n, 400, p, correlation)
    ends = interval(values)
    student = statistics.student_interval(values.sum(axis=0), (values**2).sum(axis=0), n)
    assert covered(ends, p) >= 0.94
    assert covered(student, p) <= by_deviation
    assert width(ends) <= (1.1 * 3.69 / n if at_most is None else at_most * width(student))  # 3.69 / n: no errors


@pytest.mark.slow
@pytest.mark.parametrize("n", [20, 50, 200, 1000])
@pytest.mark.parametrize("p", [0.002, 0.02, 0.3])
@pytest.mark.parametrize("correlation", [0, 0.5, 1])
def test_coverage_over_the_whole_range(n, p, correlation):
    values = shares(np.random.default_rng(3), n, 2000, p, correlation)
    ends = interval(values)
    assert covered(ends, p) >= 0.94
    sums = values.sum(axis=0), (values**2).sum(axis=0), n
    proven = of_sums(*sums)
    assert covered(proven, p) >= 0.95 and width(ends) < width(proven) < 4.5 * width(ends)
    if correlation == 1:
        wilson = width(statistics.wilson(values.sum(axis=0), n))
        assert wilson * 0.98 < width(ends) < wilson * 1.15


# ---------------------------------------------------------------- from sums
def test_sums_give_what_markov_proves():
    n = 100
    none = of_sums(0, 0, n)
    assert none[0] == 0
    # no fortune is above 1 / (1 - m)^n
    assert -math.expm1(-math.log(40) / n) < none[1] < 1.8 * -math.expm1(-math.log(40) / n)
    values = np.random.default_rng(4).beta(3, 2, (400, 5))
    low, high = of_sums(values.sum(axis=0), (values**2).sum(axis=0), 400)
    tight = interval(values)
    assert ((low < tight[0]) & (tight[1] < high)).all() and (high - low < 2 * (tight[1] - tight[0])).all()
    shifted = 6 * values - 2
    ends = of_sums(shifted.sum(axis=0), (shifted**2).sum(axis=0), 400, low=-2, high=4)
    np.testing.assert_allclose(ends, 6 * np.array((low, high)) - 2, atol=1e-6)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_end_of_sums_is_where_the_gamblers_bounded_fortune_is_2_over_alpha(confidence):
    values = np.random.default_rng(5).beta(0.5, 1, 60)
    _, high = of_sums(values.sum(), (values**2).sum(), 60, confidence=confidence)
    z, bets = high - values, np.geomspace(2 / math.sqrt(60), 0.99, 24)[:, None]
    bound = np.exp((bets * z + (bets + np.log(1 - bets)) * z**2).sum(axis=1)).mean()
    assert bound == pytest.approx(2 / (1 - confidence), rel=1e-6)
    assert (1 + bets * z).prod(axis=1).mean() >= bound  # the fortune itself, whose expectation Markov bounds


def test_an_interval_shrinks_with_images_and_grows_with_confidence():
    for ends in (lambda n, c: interval(np.tile([0, 0.25, 1, 0], n), confidence=c),
                 lambda n, c: of_sums(1.25 * n, 1.0625 * n, 4 * n, confidence=c)):  # fmt: skip
        assert all(a > b for a, b in pairwise(width(ends(n, 0.95)) for n in (4, 16, 64, 256)))
        assert all(a < b for a, b in pairwise(width(ends(9, c)) for c in (0.5, 0.9, 0.99)))


def test_nothing_is_nan_and_what_has_no_bounds_is_refused():
    assert np.isnan(interval(np.empty((0, 2)))).all() and np.isnan(of_sums(0, 0, 0)).all()
    assert np.isfinite(of_sums(0.5, 0.25, 1)).all()  # one value says little, but something
    assert np.array_equal(interval([1.0000001, 1]), interval([1, 1]))  # a float32 share
    for values in ([0.5, 1.1], [-0.1], [math.nan]):
        with pytest.raises(ValueError, match="expected values from 0 to 1"):
            interval(values)
    for sums in ((5, 5, 4), (1, 3, 4), (2, 0.5, 4), (-1, 1, 4)):
        with pytest.raises(ValueError, match="expected sums of values from 0 to 1"):
            of_sums(*sums)
    with pytest.raises(ValueError, match="a confidence between 0 and 1"):
        interval([0.5], confidence=95)
