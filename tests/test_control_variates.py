"""Intervals of means, factor models and the plan made of them, against dense algebra and simulations."""

from __future__ import annotations

import numpy as np
import pytest

from fastfreq.inputs.adaptive_heatmap.controlled import Controlled, Neighbours
from fastfreq.inputs.adaptive_heatmap.plans import Anytime, Exact, Known
from fastfreq.vocabulary import fourier
from fastfreq.vocabulary.control_variates import Moments, chance_below_zero, sum_interval
from fastfreq.vocabulary.factor_models import Factors


def incomplete(p=12, n=300, r=2, seed=0):
    """Values of a factor model, half of which are seen, and what was seen."""
    rng = np.random.default_rng(seed)
    weights, noise = rng.standard_normal((p, r)), 0.2 + rng.random(p)
    values = weights @ rng.standard_normal((r, n)) + np.sqrt(noise)[:, None] * rng.standard_normal((p, n))
    seen = (rng.random((p, n)) < 0.5).astype(float)
    return Factors(np.zeros(p), weights, noise), values * seen, seen


def test_what_is_foretold_is_the_conditional_of_the_others():
    model, values, seen = incomplete()
    mean, variance = model.foretold(values, seen)
    covariance = model.weights @ model.weights.T + np.diag(model.noise)
    for i in range(5):
        for k in range(len(values)):
            others = np.flatnonzero(seen[:, i])
            others = others[others != k]
            solved = np.linalg.solve(covariance[np.ix_(others, others)], covariance[others, k])
            np.testing.assert_allclose(mean[k, i], solved @ values[others, i], atol=1e-10)
            np.testing.assert_allclose(variance[k, i], covariance[k, k] - solved @ covariance[others, k], atol=1e-10)


def test_a_fit_approaches_the_truth():
    truth, values, seen = incomplete(n=8000)
    (values, new), (seen, new_seen) = (np.split(part, 2, axis=1) for part in (values, seen))
    directions = np.random.default_rng(1).standard_normal(truth.weights.shape)
    fit = Factors.started(values, seen, directions).improved(values, seen, np.zeros_like, steps=60)
    errors = [np.square(model.foretold(new, new_seen)[0] - new)[new_seen > 0].mean() for model in (truth, fit)]
    assert errors[0] < errors[1] < 1.03 * errors[0]
    with pytest.raises(ValueError, match="expected values and what is seen"):
        Factors.started(values, seen[:, :-1], directions)


def test_weights_that_are_drawn_to_those_of_neighbours_need_fewer_images():
    rng = np.random.default_rng(2)
    values = rng.standard_normal(600) + 0.5 * rng.standard_normal((12, 600))
    seen = (rng.random((12, 600)) < 0.2).astype(float)
    (few, new), (few_seen, new_seen) = (np.split(part, [60], axis=1) for part in (values * seen, seen))
    errors = []
    for average in (np.zeros_like, lambda weights: np.broadcast_to(weights.mean(axis=0), weights.shape)):
        fit = Factors.started(few, few_seen, rng.standard_normal((12, 4))).improved(few, few_seen, average, steps=15)
        errors.append(np.square(fit.foretold(new, new_seen)[0] - new)[new_seen > 0].mean())
    assert errors[1] < 0.9 * errors[0]


def test_chances():
    from scipy.stats import norm

    x = np.linspace(-3, 3, 31)
    np.testing.assert_allclose(chance_below_zero(x, np.full(31, 2.0)), norm.cdf(-x / np.sqrt(2)), atol=0.02)


@pytest.mark.parametrize("population", [None, 400])
def test_the_interval_of_a_mean_covers_skewed_values(population):
    rng = np.random.default_rng(2)
    values = rng.random(400) ** 4
    hits = 0
    for _ in range(1500):
        some = rng.choice(values, 120, replace=population is None)
        below, above = sum_interval([Moments.of(some[None])], population, 1.96)
        hits += some.mean() - below[0] <= values.mean() <= some.mean() + above[0]
    assert hits / 1500 == pytest.approx(0.95, abs=0.02)
    np.testing.assert_array_equal(sum_interval([Moments.of(values[None])], 400, 1.96), 0.0)


def test_the_interval_of_a_sum_is_that_of_independent_means():
    rng = np.random.default_rng(3)
    a, b = rng.random((4, 150)) ** 2, rng.random((4, 90))
    below, above = sum_interval([Moments.of(a), Moments.of(b)], None, 1.96)
    np.testing.assert_allclose(below + above, 3.92 * np.sqrt(a.var(1, ddof=1) / 150 + b.var(1, ddof=1) / 90), rtol=1e-9)


def test_what_no_image_has_shown_widens_intervals_where_residuals_are_none():
    known = Moments.of(np.zeros((2, 100)))
    told = known.with_unseen(np.array([[0.0, 1.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5]]), 2.0)
    # an error more has a residual of 1 where it is thought right, one fewer of -1: 0.1 z^2 of each in 100 images
    np.testing.assert_allclose(told.variance, [0.4 * 2 / 100, 0.4 * 0.5 / 100])
    np.testing.assert_allclose(told.third, 0.0, atol=1e-12)
    one_sided = known.with_unseen(np.zeros((2, 4)), 2.0)  # all thought right
    assert (one_sided.third > 0).all()
    below, above = sum_interval([one_sided], None, 2.0)
    assert (above > 2 * below).all()


def outcomes(cells=30, n=600, seed=0):
    """Cells that are alike: one latent margin per image, and a little of each cell's own."""
    rng = np.random.default_rng(seed)
    margins = rng.standard_normal(n) + 0.4 * rng.standard_normal((cells, n)) + np.linspace(-1, 1, cells)[:, None]
    return margins < 0, margins.astype(np.float16), rng.standard_normal(n)


def followed(plan, wrong, margins, clean, order):
    known = Known.nothing(wrong[:, order], margins[:, order], clean[order])
    while (wanted := plan.next_wanted(known)) is not None:
        assert wanted.more_than(known) and not (known.tried & ~wanted.tried).any()
        assert wanted.images >= known.images and not wanted.tried[:, wanted.images :].any()
        known = known.after(wanted)
    return known, plan.read(known)


@pytest.mark.parametrize("method", [Exact, Anytime])
def test_exact_plans_reach_their_width_and_cover(method):
    wrong, margins, clean = outcomes()
    rng, covered = np.random.default_rng(3), []
    for _ in range(30):
        known, (_, low, high) = followed(method(0.05, 0.95, 600), wrong, margins, clean, rng.permutation(600))
        assert (high - low).max() <= 0.1 + 1e-12
        covered.append(((low <= wrong.mean(axis=1) + 1e-12) & (high >= wrong.mean(axis=1) - 1e-12)).mean())
    assert np.mean(covered) >= 0.93 and known.counts.min() < 600  # 30 maps; every population: test_sequential_draws.py


LINE = np.stack([np.zeros(30, np.int64), np.arange(30)], axis=1)


def test_controls_save_passes_and_cover():
    wrong, margins, clean = outcomes()
    covered, passes, rng = [], [], np.random.default_rng(4)
    for seed in range(10):
        ranks = rng.permutation(600)
        known, (_, low, high) = followed(Controlled(0.04, 0.95, 600, LINE, seed=seed), wrong, margins, clean, ranks)
        assert (high - low).max() <= 0.08 + 1e-12
        covered.append(((low <= wrong.mean(axis=1) + 1e-12) & (high >= wrong.mean(axis=1) - 1e-12)).mean())
        passes.append(known.counts.mean())
    known, _ = followed(Exact(0.04, 0.95, 600), wrong, margins, clean, ranks)
    assert np.mean(passes) < 0.65 * known.counts.mean()
    assert np.mean(covered) > 0.92  # 10 maps; .95 over 2,000: benchmarks/reproductions/precision_goal.py


def test_estimates_are_unbiased():
    wrong, margins, clean = outcomes(n=400)
    rng, found = np.random.default_rng(8), []
    for seed in range(25):
        plan = Controlled(0.1, 0.95, 400, LINE, seed=seed)
        found.append(followed(plan, wrong, margins, clean, rng.permutation(400))[1][0] - wrong.mean(axis=1))
    spread = np.std(found, axis=0).mean() / 25**0.5
    assert np.abs(np.mean(found, axis=0)).max() < 4 * spread


def test_a_cell_that_is_unlike_the_others_gets_what_it_needs():
    rng = np.random.default_rng(6)
    clean, latent = rng.standard_normal(1000), rng.standard_normal(1000) + 1.3
    margins = latent + 0.02 * rng.standard_normal((30, 1000))
    margins[-1] = rng.standard_normal(1000)
    plan = Controlled(0.03, 0.95, 1000, LINE)
    known, (estimate, low, high) = followed(plan, margins < 0, margins.astype(np.float16), clean, np.arange(1000))
    assert (high - low).max() <= 0.06 + 1e-12 and known.counts[-1] > 400 > 2 * known.counts[:-1].mean()
    assert abs(estimate[-1] - (margins[-1] < 0).mean()) < 0.045


def test_a_map_that_nothing_predicts_costs_what_a_plain_one_does():
    rng = np.random.default_rng(5)
    wrong = rng.random((30, 400)) < 0.5
    known, (estimate, low, high) = followed(
        Controlled(0.06, 0.95, 400, LINE), wrong, np.where(wrong, -1, 1), rng.standard_normal(400), np.arange(400)
    )
    fixed, _ = followed(Exact(0.06, 0.95, 400), wrong, np.where(wrong, -1, 1), np.zeros(400), np.arange(400))
    assert known.counts.mean() < 1.15 * fixed.counts.mean()
    assert (low <= estimate).all() and (estimate <= high).all()


@pytest.mark.parametrize("images", [1, 7, 25, 70])
@pytest.mark.parametrize("replaced", [False, True])
def test_few_images(images, replaced):
    wrong, margins, clean = outcomes(n=images)
    plan = Controlled(0.03, 0.95, None if replaced else images, LINE)
    known, (estimate, low, high) = followed(plan, wrong, margins, clean, np.arange(images))
    assert (low <= estimate + 1e-12).all() and (estimate <= high + 1e-12).all()
    if replaced or images < 70:
        assert known.tried.all() and replaced == bool((high > low + 1e-12).any())
        np.testing.assert_allclose(estimate, wrong.mean(axis=1), atol=1e-12)
    else:
        assert (high - low).max() <= 0.06 + 1e-12


def test_a_pool_is_as_large_as_it_is_worth():
    wrong, margins, clean = outcomes(n=30_000)
    known, (_, low, high) = followed(Controlled(0.05, 0.95, 30_000, LINE), wrong, margins, clean, np.arange(30_000))
    assert known.images < 6000 and known.counts.mean() < 300 and (high - low).max() <= 0.1


def test_neighbours_are_those_at_a_small_distance():
    grid, _ = fourier.unique_frequencies((9, 9), (9, 9))
    alike = Neighbours.of(grid)(np.eye(len(grid) + 2))
    assert not alike[-2:].any() and not alike[:, -2:].any()
    for k, (y, x) in enumerate(grid.tolist()):
        expected = np.zeros(len(grid))
        for j, (v, u) in enumerate(grid.tolist()):
            for point in {(v, u), (-v, -u)} if j != k else ():
                away = point[0] - y, point[1] - x
                expected[j] += np.exp(-(away[0] ** 2 + away[1] ** 2) / 2) * (max(map(abs, away)) < 5)
        np.testing.assert_allclose(alike[k, :-2], expected / expected.sum(), atol=1e-12)
