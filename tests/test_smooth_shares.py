from __future__ import annotations

import itertools

import numpy as np
import pytest

from fastfreq.vocabulary import fourier, statistics
from fastfreq.vocabulary.even_functions import EvenFunctions
from fastfreq.vocabulary.smooth_shares import Readings, smooth_shares

SHAPES = [((9, 9), None), ((8, 13), None), ((32, 32), (17, 17)), ((24, 33), (5, 8))]


def frequencies_of(shape, size=None):
    return fourier.unique_frequencies(shape, size)[0]


def without_fixed(functions, **assumed):
    """Covariance (f, f) of the smooth part alone, without level and bumps."""
    variances = functions.variances(**assumed)[: len(functions.squares)]
    variances[0] -= 25
    phi = functions.values[:, : len(variances)]
    return (phi * variances) @ phi.T


@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_weights_of_waves_are_a_gaussian_process_that_is_even_and_periodic(shape, size):
    frequencies = frequencies_of(shape, size)
    functions = EvenFunctions.over(frequencies, shape)
    scale = np.array(min(shape)) / np.array(shape)
    period = np.minimum(shape, np.ceil(1.5 * (2 * np.abs(frequencies).max(axis=0) + 1)))
    length, dense = 2.0 * scale.max(), 0.0
    for sign, around in itertools.product((1, -1), itertools.product(range(-3, 4), repeat=2)):
        apart = (frequencies[:, None] - sign * frequencies[None] + np.array(around) * period) * scale
        dense = dense + np.exp(-(apart**2).sum(axis=-1) / (2 * length**2))
    covariance = without_fixed(functions, length=length, size=0.7, mirrored=0.0)
    assert abs(np.diag(covariance).mean() - 0.49) < 1e-12
    cut = shape == (8, 13)  # of the shorter period's waves, what lies past the shortest is cut off
    np.testing.assert_allclose(covariance, dense * 0.49 / np.diag(dense).mean(), atol=2e-3 if cut else 1e-4)


def test_full_mirror_symmetry_makes_left_and_right_the_same():
    shape, size = (21, 16), (9, 7)
    frequencies = frequencies_of(shape, size)
    functions = EvenFunctions.over(frequencies, shape)
    one, half = (without_fixed(functions, length=2.0, size=1.0, mirrored=m) for m in (1.0, 0.5))
    mirrored = fourier.canonical(frequencies * [1, -1], shape)
    place = np.array([np.flatnonzero((frequencies == k).all(axis=1))[0] for k in mirrored])
    np.testing.assert_allclose(one, one[place], atol=1e-12)
    assert np.abs(half - half[place]).max() > 0.1


@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_readings_are_a_dense_gaussian_process(shape, size):
    rng = np.random.default_rng(0)
    frequencies = frequencies_of(shape, size)
    functions = EvenFunctions.over(frequencies, shape)
    variances, nugget = functions.variances(length=2.5, size=0.6, mirrored=0.9), 0.3
    f = len(frequencies)
    values, precisions = rng.normal(size=f), rng.uniform(0.5, 4, f)
    readings = Readings(values, precisions, functions.values)
    prior = (functions.values * variances) @ functions.values.T + nugget**2 * np.eye(f)
    seen = prior + np.diag(1 / precisions)
    gain = np.linalg.solve(seen, prior).T
    found = readings.posterior(variances, nugget)
    np.testing.assert_allclose(found.mean, gain @ values, atol=1e-8)
    np.testing.assert_allclose(found.variance, np.diag(prior - gain @ prior), atol=1e-8)
    others = functions.variances(length=6.0, size=0.2, mirrored=0.0), 0.05
    dense = []
    for v, tau in ((variances, nugget), others):
        seen = (functions.values * v) @ functions.values.T + np.diag(1 / precisions + tau**2)
        dense.append(-0.5 * (np.linalg.slogdet(seen)[1] + values @ np.linalg.solve(seen, values)))
    difference = readings.log_likelihood(variances, nugget) - readings.log_likelihood(*others)
    assert abs(difference - (dense[0] - dense[1])) < 1e-7


def drawn_from(truth, each, items, rng):
    """Counts of `each` items at each frequency, of `items` of which the share `truth` says yes."""
    return rng.hypergeometric(np.round(truth * items).astype(int), items - np.round(truth * items).astype(int), each)


def rings(frequencies, shape):
    """A map that networks have: a dip at zero, a ridge, less beyond."""
    r = fourier.radius(frequencies, shape)
    return 0.2 + 0.6 * np.exp(-((r - 4) ** 2) / 18) - 0.15 * np.exp(-(r**2))


@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_all_drawn_leaves_nothing_open(shape, size):
    frequencies = frequencies_of(shape, size)
    items = np.array([30, 0, 11])
    rng = np.random.default_rng(1)
    yes = np.stack([rng.integers(0, n + 1, len(frequencies)) for n in items], axis=1)
    smooth = smooth_shares(yes, np.tile(items, (len(yes), 1)), items, frequencies=frequencies, shape=shape)
    for found in (smooth.estimates, *smooth.interval()):
        np.testing.assert_allclose(found, yes.sum(axis=1) / 41, atol=1e-12)
    assert smooth.deviations.max() < 1e-9


@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_a_constant_map_is_found_constant(shape, size):
    frequencies, rng = frequencies_of(shape, size), np.random.default_rng(2)
    truth, each = np.full(len(frequencies), 0.3), 20
    yes = drawn_from(truth, each, 1000, rng)[:, None]
    smooth = smooth_shares(yes, np.full_like(yes, each), np.array([1000]), frequencies=frequencies, shape=shape)
    low, high = smooth.interval()
    alone = np.subtract(*statistics.wilson(yes[:, 0], each)[::-1])
    assert np.abs(smooth.estimates - 0.3).mean() < 0.4 * np.abs(yes / each - 0.3).mean()
    assert (high - low).mean() < 0.7 * alone.mean()
    assert ((low <= 0.3) & (high >= 0.3)).mean() > 0.9


@pytest.mark.parametrize("said", [0, 1])
@pytest.mark.parametrize("each", [1, 30])
def test_all_alike_gives_no_certainty_that_counts_do_not(said, each):
    frequencies = frequencies_of((11, 14), (7, 5))
    yes = np.full((len(frequencies), 1), said * each)
    smooth = smooth_shares(yes, np.full_like(yes, each), np.array([500]), frequencies=frequencies, shape=(11, 14))
    low, high = smooth.interval()
    assert ((low <= said) & (said <= high)).all() and np.abs(smooth.estimates - said).max() < 0.1
    assert (low == said).all() if said == 0 else (high == 1).all()
    assert (high - low > 1 / (len(yes) * each)).all()


def test_what_nobody_drew_is_a_wide_guess_from_its_neighbours():
    shape, rng = (32, 32), np.random.default_rng(3)
    frequencies = frequencies_of(shape, (17, 17))
    truth = rings(frequencies, shape)
    each = np.where(rng.random(len(truth)) < 0.3, 0, 40)
    yes = np.where(each > 0, drawn_from(truth, 40, 2000, rng), 0)
    smooth = smooth_shares(yes[:, None], each[:, None], np.array([2000]), frequencies=frequencies, shape=shape)
    assert smooth.deviations[each == 0].mean() > 1.1 * smooth.deviations[each > 0].mean()
    assert np.abs(smooth.estimates - truth)[each == 0].mean() < 0.06
    nothing = np.zeros((len(truth), 1), np.int64)
    unknown = smooth_shares(nothing, nothing, np.array([2000]), frequencies=frequencies, shape=shape)
    low, high = unknown.interval()
    assert low.max() < 0.05 and high.min() > 0.95


def test_kinds_that_say_yes_by_themselves_leave_nothing_to_the_draw():
    shape, rng = (16, 21), np.random.default_rng(4)
    frequencies, items = frequencies_of(shape, (7, 9)), np.array([700, 300])
    drawn = rng.multivariate_hypergeometric(items, 20, size=len(frequencies))
    yes = drawn * [0, 1]
    known = smooth_shares(yes, drawn, items, frequencies=frequencies, shape=shape)
    blind = smooth_shares(
        yes.sum(axis=1, keepdims=True), drawn.sum(axis=1, keepdims=True), np.array([1000]),
        frequencies=frequencies, shape=shape,
    )  # fmt: skip
    assert np.abs(known.estimates - 0.3).max() < 0.01 < 2 * np.abs(blind.estimates - 0.3).max()
    assert known.deviations.mean() < 0.2 * blind.deviations.mean()


def test_columns_that_odds_are_linear_in_help():
    shape, rng = (32, 32), np.random.default_rng(5)
    frequencies = frequencies_of(shape, (17, 17))
    column = rng.normal(size=(len(frequencies), 1))  # rough: no smooth function has it
    truth = 1 / (1 + np.exp(-column[:, 0]))
    yes = drawn_from(truth, 20, 5000, rng)[:, None]
    counts = yes, np.full_like(yes, 20), np.array([5000])
    plain = smooth_shares(*counts, frequencies=frequencies, shape=shape)
    helped = smooth_shares(*counts, frequencies=frequencies, shape=shape, columns=column)
    assert np.abs(helped.estimates - truth).mean() < 0.4 * np.abs(plain.estimates - truth).mean()


@pytest.mark.slow
@pytest.mark.parametrize("each", [5, 30])
@pytest.mark.parametrize("made", ["rings", "rough rings", "constant", "few"])
def test_intervals_hold_what_all_items_show_in_about_95_of_100_cells(made, each):
    shape = (32, 32)
    frequencies = frequencies_of(shape, (13, 13))
    rng, held = np.random.default_rng(6), []
    for _ in range(100):
        truth = rings(frequencies, shape)
        if made == "rough rings":  # of its own: a tenth of what the map varies
            truth = (truth + 0.03 * rng.normal(size=len(truth))).clip(0, 1)
        truth = np.full(len(truth), 0.3) if made == "constant" else truth * 0.06 if made == "few" else truth
        shown = rng.binomial(1000, truth) / 1000
        yes = drawn_from(shown, each, 1000, rng)[:, None]
        smooth = smooth_shares(yes, np.full_like(yes, each), np.array([1000]), frequencies=frequencies, shape=shape)
        low, high = smooth.interval()
        held.append(((low - 1e-9 <= shown) & (shown <= high + 1e-9)).mean())
    # with five draws each the counts can hardly tell a rough map from a smooth one: .90 to .92, as the docstring says
    assert np.mean(held) > (0.88 if made == "rough rings" and each == 5 else 0.93)
