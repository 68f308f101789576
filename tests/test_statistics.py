from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from fastfreq.vocabulary import statistics


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (3, 17), (160, 1000)])
def test_wilson_equals_scipy(k, n):
    truth = scipy.stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(statistics.wilson(k, n), (truth.low, truth.high), atol=1e-12)


def test_wilson_of_nothing_is_nan():
    low, high = statistics.wilson([0, 1], [0, 2])
    assert np.isnan(low[0]) and np.isnan(high[0]) and not np.isnan(low[1])


def test_mean_interval_equals_scipy():
    values = np.random.default_rng(0).normal(3, 2, 200)
    truth = scipy.stats.norm.interval(0.95, values.mean(), values.std(ddof=1) / np.sqrt(200))
    np.testing.assert_allclose(statistics.mean_interval(values.sum(), (values**2).sum(), 200), truth, rtol=1e-9)


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


def test_paired_interval_covers_the_true_difference():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(500):
        b, c, _ = rng.multinomial(200, [0.10, 0.16, 0.74])
        low, high = statistics.paired_difference_interval(b, c, 200)
        covered += low <= 0.06 <= high
    assert covered >= 465  # 95 % of 500 is 475; 465 is two standard errors below


def test_a_confidence_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1, such as 0.95, got 95"):
        statistics.wilson(1, 2, confidence=95)
