"""What sequential plans promise, against every population, by drawing; their points against the order written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from fastfreq.vocabulary import sequential_draws
from fastfreq.vocabulary.finite_samples import fixed_draws
from fastfreq.vocabulary.sequential_draws import sequential


def followed(plan, k, runs, rng):
    """(stop, successes at it, low, high) of each of many random orders of a population with k successes."""
    orders = rng.permuted(np.tile(np.arange(plan.population) < k, (runs, 1)), axis=1).cumsum(axis=1)
    stop, seen = np.zeros(runs, int), np.zeros(runs, int)
    low, high = np.zeros(runs), np.zeros(runs)
    for n in plan.looks:
        every = np.arange(n + 1)
        ends, (bottom, top) = plan.stops(every, n), plan.interval(every, n)
        now = (stop == 0) & ends[orders[:, n - 1]]
        seen[now] = orders[now, n - 1]
        stop[now], low[now], high[now] = n, bottom[seen[now]], top[seen[now]]
    assert stop.all()
    return stop, low, high


@pytest.mark.parametrize(("half_width", "population"), [(0.1, 150), (0.13, 91), (0.3, 12)])
def test_a_sequential_plan_covers_every_population(half_width, population):
    """By drawing, not by the plan's own sums."""
    plan = sequential(half_width, population)
    assert plan.coverage >= 0.95 and plan.looks[-1] <= population
    rng = np.random.default_rng(0)
    for k in range(population + 1):
        stop, low, high = followed(plan, k, 300, rng)
        assert (high - low).max() <= 2 * half_width + 1e-9
        covered = ((low <= k / population + 1e-12) & (k / population <= high + 1e-12)).mean()
        assert covered > 0.95 - 5 * (0.95 * 0.05 / 300) ** 0.5
        if k in (0, population):
            assert stop.mean() < plan.looks[-1]


def test_every_order_of_a_small_population_written_out():
    """Points of stopping and their intervals by all orders of draws, and Blaker's test by its definition."""
    size, plan = 11, sequential(0.27, 11)
    chances: dict[int, dict[tuple[int, int], float]] = {}
    for k in range(size + 1):
        ends = chances.setdefault(k, {})
        orders = list(itertools.combinations(range(size), k))
        for wrong in orders:
            for n in plan.looks:
                x = sum(place < n for place in wrong)
                if plan.stops(x, n):
                    ends[n, x] = ends.get((n, x), 0.0) + 1 / len(orders)
                    break
    points = sorted({point for ends in chances.values() for point in ends}, key=lambda p: (p[1] / p[0], p[0]))
    assert len(points) > 4 and len({n for n, _ in points}) > 1
    covered = np.zeros(size + 1)
    for point in points:
        inside = []
        for k, ends in chances.items():
            p = np.array([ends.get(other, 0.0) for other in points])
            out = np.minimum(p.cumsum(), p[::-1].cumsum()[::-1])
            if p[out <= out[points.index(point)] + 1e-12].sum() > 0.05:
                inside.append(k)
        low, high = plan.interval(point[1], point[0])
        assert (low * size, high * size) == pytest.approx((min(inside), max(inside)))
        for k in range(min(inside), max(inside) + 1):
            covered[k] += chances[k].get(point, 0.0)
    assert covered.min() >= 0.95 and plan.coverage >= 0.95


@pytest.mark.parametrize("population", [None, 1000])
def test_looking_costs_next_to_nothing(population):
    """Of the images that a fixed number needs, times 4 p (1 - p): within 1.05 from .1 on, within 1.16 from .05 on."""
    plan, fixed = sequential(0.03, population), fixed_draws(0.03, population)
    rng, shares = np.random.default_rng(3), {0.5: 1.01, 0.3: 1.08, 0.1: 1.1, 0.05: 1.17}
    for share, most in shares.items():
        if population is None:
            orders = rng.random((2000, plan.looks[-1])) < share
        else:
            orders = rng.permuted(np.tile(np.arange(population) < share * population, (2000, 1)), axis=1)
        seen, stop = orders.cumsum(axis=1), np.zeros(2000, int)
        for n in plan.looks:
            x = seen[:, n - 1]
            stop[(stop == 0) & plan.stops(x, n)] = n
        finite = 0.0 if population is None else 1 / population
        oracle = 1 / ((1 / fixed - finite) / (4 * share * (1 - share)) + finite)
        assert stop.mean() <= most * oracle


def test_a_single_look_is_blakers_interval():
    """Against SciPy's binomial, with the shares of a step further to each side."""
    plan = sequential_draws.sequential(0.2, None, looks=1)
    (n,) = plan.looks
    p = np.linspace(0, 1, 4001)
    x = np.arange(n + 1)
    chance = stats.binom.pmf(x[:, None], n, p[None])
    below, above = chance.cumsum(axis=0), chance[::-1].cumsum(axis=0)[::-1]
    out = np.minimum(below, above)
    for seen in (0, 1, n // 3, n):
        inside = p[(chance * (out <= out[seen] * (1 + 1e-9))).sum(axis=0) > 0.05]
        low, high = plan.interval(seen, n)
        assert (low, high) == pytest.approx((inside.min(), inside.max()), abs=1.1 / 4000)
