from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from fastfreq.vocabulary import statistics


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (3, 17), (160, 1000)])
def test_wilson_equals_scipy(k, n):
    truth = scipy.stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(statistics.wilson(k, n), (truth.low, truth.high), atol=1e-12)


def test_wilson_ends_exactly_at_0_and_1():
    for n in [*range(1, 300), 10**6 + 1]:
        for confidence in (0.5, 0.9, 0.95, 0.99):
            assert statistics.wilson(0, n, confidence=confidence)[0] == 0
            assert statistics.wilson(n, n, confidence=confidence)[1] == 1


def test_wilson_of_nothing_is_nan():
    low, high = statistics.wilson([0, 1], [0, 2])
    assert np.isnan(low[0]) and np.isnan(high[0]) and not np.isnan(low[1])


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.9999])
def test_student_quantiles_equal_scipy(confidence):
    freedom = np.array([[1, 2, 3], [49, 9_999, 1e9]])
    truth = scipy.stats.t.ppf((1 + confidence) / 2, freedom)
    np.testing.assert_allclose(statistics.student_quantile(confidence, freedom), truth, rtol=1e-8)
    assert np.isnan(statistics.student_quantile(confidence, 0))


@pytest.mark.parametrize("n", [2, 9, 200])
def test_student_interval_equals_scipy(n):
    values = np.random.default_rng(0).normal(3, 2, n)
    truth = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    ends = statistics.student_interval(values.sum(), (values**2).sum(), n)
    np.testing.assert_allclose(np.array(ends), np.array([truth.low, truth.high]), rtol=1e-9)
    assert np.isnan(statistics.student_interval([3.0], [9.0], [1])).all()


def test_mcnemar_equals_the_exact_binomial_test():
    b, c = np.array([[0, 5, 12], [300, 3, 7]]), np.array([[0, 1, 12], [251, 17, 0]])
    truth = [
        1.0 if x + y == 0 else scipy.stats.binomtest(int(x), int(x + y), 0.5).pvalue
        for x, y in zip(b.flat, c.flat, strict=True)
    ]
    np.testing.assert_allclose(statistics.mcnemar(b, c).reshape(-1), truth, rtol=1e-9)


def test_benjamini_hochberg_equals_scipy():
    p = np.random.default_rng(1).uniform(size=50) ** 2
    np.testing.assert_allclose(statistics.benjamini_hochberg(p), scipy.stats.false_discovery_control(p))
    assert np.isnan(statistics.benjamini_hochberg([0.01, np.nan])[1])


def test_rank_correlation_equals_scipy_with_ties():
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 6, 80), rng.integers(0, 6, 80)
    assert statistics.rank_correlation(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    assert np.isnan(statistics.rank_correlation([1, 1], [1, 2]))


@pytest.mark.parametrize(("b", "c", "n"), [(0, 0, 20), (3, 11, 200), (0, 7, 15)])
def test_paired_interval_is_that_of_a_table_with_half_a_count_more_in_each_cell(b, c, n):
    table = np.array([n - b - c + 1, b + 0.5, c + 0.5])  # both cells that agree, only first, only second
    p = table / table.sum()
    contrast = np.array([0, -1, 1])
    deviation = np.sqrt(contrast @ (np.diag(p) - np.outer(p, p)) @ contrast / table.sum())
    truth = contrast @ p + scipy.stats.norm.ppf([0.025, 0.975]) * deviation
    np.testing.assert_allclose(statistics.paired_difference_interval(b, c, n), truth, rtol=1e-12)


@pytest.mark.parametrize(("n", "first", "second"), [(20, 0.03, 0.03), (20, 0.05, 0.2), (200, 0.10, 0.16)])
def test_paired_interval_covers_the_true_difference(n, first, second):
    b, c = (a.reshape(-1) for a in np.indices((n + 1, n + 1)))
    b, c = b[b + c <= n], c[b + c <= n]
    chances = scipy.stats.multinomial.pmf(np.stack([b, c, n - b - c], axis=1), n, [first, second, 1 - first - second])
    low, high = statistics.paired_difference_interval(b, c, n)
    truth = second - first
    assert 0.94 <= chances[(low <= truth) & (truth <= high)].sum() <= 0.9999
    for missed in (high < truth, low > truth):  # either side
        assert chances[missed].sum() <= 0.04


def test_a_confidence_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1, such as 0.95, got 95"):
        statistics.wilson(1, 2, confidence=95)
