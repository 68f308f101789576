"""Plans that look at what they have drawn and stop early, with intervals that are exact for what they do.

A plan ends in one of some hundred points (draws, successes). How likely each is, is a finite sum for every share that a
data set can have. So the test of each share is that of these points, and a point's interval are the shares that it does
not reject: looking costs nothing but what the points themselves tell less.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .finite_samples import (
    FloatArray,
    IntArray,
    fixed_draws,
    hypergeometric_interval,
    log_hypergeometric,
    log_probability,
)

_EAGER = 1.2  # times the error allowed: where it is tried to stop; points that turn out too wide go on
_CROWDED = 1.5  # looks are at the powers of equal steps: more of them where few draws may be enough
_SHARES = 4000  # steps of the shares of infinitely many images
_BLOCK = 256  # shares looked at together
_MOST = 5000  # draws
_NEVER = 1e-14  # probability of all points that are left out


@dataclasses.dataclass(frozen=True, eq=False)
class Sequential:
    """When to look, where to stop, and what the interval is there.

    Attributes:
        looks: numbers of draws, ascending; all stop at the last.
        confidence: promised.
        coverage: for every share at least this is the probability that the interval at the stop holds it.
        half_width: what every interval at a stop has at most.
        population: N; None for infinitely many.
        tables: for each look: (whether to stop, low, high), each (draws + 1,), by the number of successes.
    """

    looks: tuple[int, ...]
    confidence: float
    coverage: float
    half_width: float
    population: int | None
    tables: Mapping[int, tuple[NDArray[np.bool_], FloatArray, FloatArray]]

    def interval(self, successes: ArrayLike, drawn: int) -> tuple[FloatArray, FloatArray]:
        """(low, high) at a stop; elsewhere that of draws whose number was fixed."""
        low, high = hypergeometric_interval(successes, drawn, self.population, confidence=self.confidence)
        if drawn not in self.tables:
            return low, high
        x = np.asarray(successes, dtype=np.int64)
        stop, bottom, top = (column[x] for column in self.tables[drawn])
        return np.where(stop, bottom, low), np.where(stop, top, high)

    def stops(self, successes: ArrayLike, drawn: int) -> NDArray[np.bool_]:
        """Whether this look is the last."""
        x = np.asarray(successes, dtype=np.int64)
        return self.tables[drawn][0][x] if drawn in self.tables else np.full(x.shape, drawn >= self.looks[-1])


@functools.lru_cache(maxsize=32)
def sequential(half_width: float, population: int | None, *, confidence: float = 0.95, looks: int = 20) -> Sequential:
    """A plan that draws until its exact interval is narrow enough.

    Where it may stop is tried first where Clopper's and Pearson's interval, at 1.2 times the error allowed, is at most
    2 `half_width` wide; points whose own interval is wider go on to the next look, until there are none. Given the
    successes at a look all orders of draws are equally likely, so that the probability of every point is a finite sum.
    The interval of a point are the shares of which Blaker's test of the points, in the order of their shares, does not
    reject it. Every share from 0 to N is tested: coverage is at least `confidence`, by exhaustion. Without a population
    4,001 shares are, and intervals go a step further to each side, which proves nothing between them.

    Args:
        half_width: to be reached.
        population: N; None for infinitely many.
        confidence: of the procedure.
        looks: how many at most, but for those that a last one may need.

    Raises:
        ValueError: a half-width outside (0, 0.5), or one that takes more than 5,000 draws, whose plans take minutes to
            compute; a confidence outside (0, 1).

    Source: Armitage, McPherson, Rowe 1969 for the recursion over looks; Blaker 2000, "Confidence curves and improved
        exact confidence intervals for discrete distributions"; the choice of where to stop is ours.
    """
    last = fixed_draws(half_width, population, confidence=confidence)
    if last > _MOST:
        raise ValueError(
            f"expected a half-width that {_MOST:,} draws reach, got {half_width}, which takes {last:,}: the time to "
            f"compute an exact plan grows with their square; ask for less, or for another method"
        )
    eager = 1 - min(_EAGER * (1 - confidence), 0.5)
    stops: dict[int, NDArray[np.bool_]] = {}
    for n in sorted({math.ceil(last * ((i + 1) / looks) ** _CROWDED) for i in range(looks)}):
        low, high = hypergeometric_interval(np.arange(n + 1), n, population, confidence=eager)
        stop = (high - low <= 2 * half_width + 1e-12) | (n == last)
        if stop.any():
            stops[n] = stop
    while True:
        points = _points(stops)
        low, high, coverage = _inverted(*points, population, 1 - confidence)
        wide = high - low > 2 * half_width + 1e-9
        if not wide.any():
            return Sequential(
                tuple(stops), confidence, coverage, half_width, population, _tables(stops, points, low, high)
            )
        n, x, _ = points
        if (n[wide] == last).all():  # nothing else helps: a later look is the last
            last = last + 1 + last // 100 if population is None else min(population, last + 1 + last // 100)
            stops[last] = np.ones(last + 1, dtype=bool)
        for at in np.unique(n[wide & (n < last)]):
            stops[int(at)][x[wide & (n == at)]] = False


def _points(stops: Mapping[int, NDArray[np.bool_]]) -> tuple[IntArray, IntArray, FloatArray]:
    """(draws, successes, P(no stop before | successes)) of all points of stopping, by the share seen."""
    survives, before = np.ones(1), 0
    found = []
    for n, stop in stops.items():
        survives = _survival(survives, before, n)
        x = np.flatnonzero(stop & (survives > 0))
        found.append((np.full(len(x), n), x, survives[x]))
        survives, before = np.where(stop, 0.0, survives), n
    n, x, chance = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((n, x / n))
    return n[order], x[order], chance[order]


def _survival(survives: FloatArray, before: int, n: int) -> FloatArray:
    """P(no stop before | x successes in n): `before` of the n draws came first, in an order of equal likelihood."""
    x, earlier = np.arange(n + 1)[:, None], np.arange(before + 1)[None, :]
    chance = np.exp(log_hypergeometric(earlier, x, before, n))
    return np.minimum(chance @ survives, 1.0)


def _inverted(
    n: IntArray, x: IntArray, survives: FloatArray, population: int | None, error: float
) -> tuple[FloatArray, FloatArray, float]:
    """(low, high) of all points, and the least coverage."""
    steps = population or _SHARES
    low, high = np.full(len(n), steps), np.full(len(n), -1)
    least, reach = 1.0, np.sqrt(math.log(2 / _NEVER) / (2 * n))
    for first in range(0, steps + 1, _BLOCK):
        grid = np.arange(first, min(first + _BLOCK, steps + 1))
        near = np.flatnonzero((x / n >= grid[0] / steps - reach) & (x / n <= grid[-1] / steps + reach))
        chance = np.empty((len(near), len(grid)))
        for drawn in np.unique(n[near]):
            at = n[near] == drawn
            k = grid[None] if population is not None else grid[None] / steps
            chance[at] = np.exp(log_probability(x[near][at][:, None], k, int(drawn), population))
        chance *= survives[near][:, None]
        accepted = _acceptable(chance) > error
        least = min(least, float((chance * accepted).sum(axis=0).min()))
        some = accepted.any(axis=1)
        low[near[some]] = np.minimum(low[near[some]], grid[accepted[some].argmax(axis=1)])
        high[near[some]] = np.maximum(high[near[some]], grid[len(grid) - 1 - accepted[some][:, ::-1].argmax(axis=1)])
    never = high < 0
    low, high = np.where(never, x / n, low / steps), np.where(never, x / n, high / steps)
    more = 1 / steps if population is None else 0.0
    return (low - more).clip(0, 1), (high + more).clip(0, 1), least


def _acceptable(chance: FloatArray) -> FloatArray:
    """Blaker's p-values: probability of points that are as far out on their side, (points, shares)."""
    below = chance.cumsum(axis=0)
    out = np.minimum(below, below[-1:] - below + chance)
    order = np.argsort(out, axis=0, kind="stable")
    found = np.empty_like(chance)
    np.put_along_axis(found, order, np.take_along_axis(chance, order, axis=0).cumsum(axis=0), axis=0)
    return found


def _tables(
    stops: Mapping[int, NDArray[np.bool_]],
    points: tuple[IntArray, IntArray, FloatArray],
    low: FloatArray,
    high: FloatArray,
) -> dict[int, tuple[NDArray[np.bool_], FloatArray, FloatArray]]:
    n, x, _ = points
    found = {}
    for drawn, stop in stops.items():
        ends = np.zeros(drawn + 1), np.ones(drawn + 1)
        at = n == drawn
        ends[0][x[at]], ends[1][x[at]] = low[at], high[at]
        found[drawn] = stop, *ends
    return found
