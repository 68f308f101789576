"""Exact intervals of finite populations against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fastfreq.vocabulary.finite_samples import anytime_interval, fixed_draws, hypergeometric_interval
from fastfreq.vocabulary.sequential_draws import sequential


@pytest.mark.parametrize(("drawn", "population"), [(1, 1), (9, 9), (17, 60), (523, 1000), (30, 5003)])
@pytest.mark.parametrize("confidence", [0.95, 0.999])
def test_the_interval_is_the_inversion_of_the_exact_test(drawn, population, confidence):
    x = np.unique([0, 1, drawn // 3, drawn])
    low, high = hypergeometric_interval(x, drawn, population, confidence=confidence)
    tail = (1 - confidence) / 2
    for k, bottom, top in zip(x, low, high, strict=True):
        every = np.arange(k, population - drawn + k + 1)
        assert top == pytest.approx(every[stats.hypergeom.cdf(k, population, every, drawn) > tail].max() / population)
        assert bottom == pytest.approx(
            every[stats.hypergeom.sf(k - 1, population, every, drawn) > tail].min() / population
        )


def test_without_a_population_it_is_that_of_clopper_and_pearson():
    x = np.arange(301)
    low, high = hypergeometric_interval(x, 300, None)
    np.testing.assert_allclose(high[:-1], stats.beta.ppf(0.975, x + 1, 300 - x)[:-1], atol=1e-12)
    np.testing.assert_allclose(low[1:], stats.beta.ppf(0.025, x, 301 - x)[1:], atol=1e-12)
    assert low[0] == 0 and high[-1] == 1


def test_the_anytime_interval_is_what_the_uniform_prior_leaves():
    for x, n, population in [(0, 20, 101), (7, 20, 101), (20, 20, 101), (5, 5, 5)]:
        low, high = anytime_interval(x, n, population)
        k = np.arange(population + 1)
        inside = k[stats.hypergeom.pmf(x, population, k, n) > 0.05 / (n + 1)]
        assert (low * population, high * population) == pytest.approx((inside.min(), inside.max()))
    low, high = anytime_interval(np.array([0, 40]), 100, None)
    p = np.linspace(0, 1, 100_001)
    for x, bottom, top in zip((0, 40), low, high, strict=True):
        inside = p[stats.binom.pmf(x, 100, p) > 0.05 / 101]
        assert (bottom, top) == pytest.approx((inside.min(), inside.max()), abs=2e-5)


def test_fixed_numbers_of_draws():
    assert fixed_draws(0.03, None) == 1098
    n = fixed_draws(0.03, 1000)
    widths = {m: np.ptp(hypergeometric_interval(np.arange(m + 1), m, 1000), axis=0).max() for m in (n - 16, n)}
    assert widths[n] <= 0.06 + 1e-12 < widths[n - 16] and 520 < n < 540
    assert fixed_draws(0.03, 1000, anytime=True) / n == pytest.approx(1.49, abs=0.01)  # the price of any moment
    assert fixed_draws(0.03, None, anytime=True) / 1098 == pytest.approx(3.48, abs=0.01)


def test_refusals():
    with pytest.raises(ValueError, match="from 0 to 5 draws, got 6"):
        hypergeometric_interval(0, 6, 5)
    with pytest.raises(ValueError, match="successes from 0 to 3, got 4 to 4"):
        hypergeometric_interval(4, 3, 5)
    with pytest.raises(ValueError, match="half-width between 0 and 0.5"):
        fixed_draws(0.5, None)
    with pytest.raises(ValueError, match="at least 0.001"):
        fixed_draws(1e-9, None)
    with pytest.raises(ValueError, match=r"that 5,000 draws reach, got 0.01, which takes 9,7\d\d"):
        sequential(0.01, None)
    with pytest.raises(ValueError, match="confidence between 0 and 1"):
        anytime_interval(0, 3, 5, confidence=1)
