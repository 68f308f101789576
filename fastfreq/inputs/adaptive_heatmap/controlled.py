"""A map whose cells are evaluated each on images of its own: what an image shows in some cells tells of all others."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from fastfreq.vocabulary import control_variates, finite_samples, streams
from fastfreq.vocabulary.control_variates import Moments
from fastfreq.vocabulary.factor_models import Factors
from fastfreq.vocabulary.statistics import normal_quantile

from .plans import FloatArray, IntArray, Interval, Known, Wanted, by_count, plain

_OBSERVED = 16  # cells that a pilot image is evaluated in, where the map has many
_SHARES = (0.02, 0.25)  # of the cells in the pilot, at least and at most
_FACTORS = 10
_FOLDS = 5
_STEPS = (12, 4)  # of a fit that starts, and of one that goes on
_FITTED = 3000  # images that a fit sees at most
_STALE = 1.02  # times the passes that a fit has seen: what makes it worth another
_FEWEST = 20  # images below which nothing is fitted
_ENOUGH = 0.8  # of a pool, that a cell may be expected to need
_GROWTH = 1.25  # between numbers of images that are considered
_IMAGINED = 300  # images by which it is foretold what other shares of cells would tell
_SHRINK = 100.0  # images that the map's own ratio of residual to binomial variance counts for in each cell
_LOOKING = 0.85  # of the error allowed: what stopping at a chosen moment leaves
_FIRST = 0.75  # of the images that a cell is expected to need, in the first step
_STEP = 0.8  # of those that it lacks, in later ones
_LARGEST = 6e4  # margin
_FAR = 4  # cells further away are no neighbours: weights of 4e-6
_BLOCK = 64  # images whose random numbers are drawn together


class Controlled:
    """Cells evaluated on different images, each image in different cells: none tells twice what its neighbours told.

    All cells share a pool of images. Each is evaluated on those of them whose random number, one for every image and
    cell, is among its smallest. A factor model of margins, fitted to what was seen, foretells the outcome of every cell
    on every image of the pool from the image as it is and from the **other** cells that it was evaluated in. The
    estimate is the mean of what is foretold, plus that of what outcomes differ from it (`control_variates`). Pilot:
    about `pilot` images in every cell; from it the size of the pool. Then every cell gets images until its interval is
    narrow enough.

    A forward pass on an image that was evaluated next to it tells little: cells evaluated each on images of their own,
    a share f of the pool, cost f V + (1 - f) R for a variance V of outcomes and R of what f of the cells leave open;
    where all cells see the same images and a coarse grid more, R + f V + 2 sqrt(f V R).

    What holds: which images a cell was evaluated on tells nothing about what is foretold of it, which leaves it out,
    and an image is foretold by a model fitted without it, to other fifths of the pool. So the estimate is unbiased,
    whatever the model is worth. Its interval is that of large samples, also when images are added until it is narrow
    (Anscombe 1952; Chow, Robbins 1965): **not** exact, which `plans.Exact` is. Intervals of bounded means that are
    proven for every sample cost 2 log(2 / 0.05) / 1.96^2 = 1.9 times the images. Four things make it cover samples of
    a hundred images too:

    - the skewness of residuals and scores (`control_variates.sum_interval`);
    - errors, and the lack of them, that no image has shown yet (`Moments.with_unseen`);
    - a variance never below the cell's own, nor below what the others' let expect;
    - 0.85 of the error that is allowed, as cells stop where they happen to vary little.

    On measured and on made outcomes: benchmarks/reproductions/precision_goal.py.

    Args:
        half_width: to be reached in every cell.
        confidence: of each cell.
        population: N; None where images are themselves a sample.
        frequencies: (cells, 2): which are neighbours.
        seed: key of which images a cell gets.
        pilot: images of every cell in the pilot.
        step: a cell gets at least so many more.

    Source: Cassel, Saerndal, Wretman 1976 for the estimate; the design, as of two-phase samples, is ours.
    """

    def __init__(
        self,
        half_width: float,
        confidence: float,
        population: int | None,
        frequencies: IntArray,
        *,
        seed: int = 0,
        pilot: int = 64,
        step: int = 4,
    ) -> None:
        self.half_width, self.pilot = half_width, pilot
        self._confidence, self._z = confidence, normal_quantile(1 - _LOOKING * (1 - confidence))
        self._population, self._seed, self._step = population, seed, step
        self._alike = Neighbours.of(frequencies)
        self._places = np.zeros((len(frequencies), 0))
        self._fits: list[Factors] = []
        self._fitted = 0  # passes that they have seen
        self._scale: float | None = None
        self._pool = 0  # images that are wanted by the design; 0 before it
        self._read: tuple[tuple[int, int], _Found] | None = None

    # ---------------------------------------------------------------- what is wanted
    def next_wanted(self, known: Known) -> Wanted | None:
        """As in `plans.Plan`."""
        if not known.images:
            share = float(np.clip(_OBSERVED / len(known.tried), *_SHARES))
            pool = min(math.ceil(self.pilot / share), known.available)
            return self._drawn(known, np.full(len(known.tried), min(self.pilot, pool)), pool)
        found = self._found(known)
        if not self._pool:
            self._pool, counts = self._design(known, found)
            wanted = self._drawn(known, np.ceil(_FIRST * counts).astype(np.int64), self._pool)
            if wanted.more_than(known):
                return wanted
        excess = (found.high - found.low) / (2 * self.half_width)
        open_ = (excess > 1) & (known.counts < known.available)
        if not open_.any():
            return None
        pool = known.images
        if (known.counts[open_] >= pool).any():
            pool = min(known.available, math.ceil(_GROWTH * pool))
        lacks = np.ceil(_STEP * (self._needs(known, found) - known.counts)).astype(np.int64)
        least = np.maximum(self._step, known.counts // 50)
        more = np.clip(lacks, least, np.maximum(known.counts // 2, least))
        return self._drawn(known, known.counts + np.where(open_, more, 0), pool)

    def _drawn(self, known: Known, counts: IntArray, pool: int) -> Wanted:
        """Every cell on the `counts` images of the pool with the smallest numbers, or more where it already has more.

        As the pool grows, a cell keeps its share of it.
        """
        places = self._numbers(pool)
        kth = np.sort(places, axis=1)[np.arange(len(places)), np.clip(counts, 1, pool) - 1]
        before = known.tried[:, :pool]
        reached = np.where(before, places, 0.0).max(axis=1)
        tried = np.zeros_like(known.tried)
        tried[:, :pool] = places <= np.maximum(kth, reached)[:, None]
        return Wanted(tried, pool)

    def _numbers(self, pool: int) -> FloatArray:
        """(cells, pool) a random number of every image in every cell."""
        cells, drawn = self._places.shape
        if drawn < pool:
            blocks = [
                streams.generator("sampling", self._seed, item=1 + i).random((cells, _BLOCK))
                for i in range(drawn // _BLOCK, -(-pool // _BLOCK))
            ]
            self._places = np.concatenate([self._places, *blocks], axis=1)
        return self._places[:, :pool]

    def _needs(self, known: Known, found: _Found) -> FloatArray:
        """(cells,) images that each will have, by the width that it has now and what of it more passes can narrow."""
        finite = 0.0 if self._population is None else 1 / self._population
        half = (found.high - found.low) / 2
        pool = self._z**2 * found.scores.variance * max(1 / known.images - finite, 0.0)
        still = (self.half_width**2 - pool).clip(0.05 * self.half_width**2)
        shrinks = (still / (half**2 - pool).clip(1e-12)).clip(0, 1)
        return 1 / ((1 / known.counts - finite).clip(0) * shrinks + finite + 1e-15)

    def _design(self, known: Known, found: _Found) -> tuple[int, FloatArray]:
        """The pool, and the images that each cell is expected to need, by what the pilot found."""
        if found.fit is None:
            return known.images, known.counts.astype(np.float64)
        cells, finite = len(known.tried), 0.0 if self._population is None else 1 / self._population
        error, outcomes = (self.half_width / self._z) ** 2, found.rest.variance + found.scores.variance
        now = float(known.counts.mean()) / known.images
        shares = np.geomspace(now, 1, 7)
        left = self._imagined(found.fit, shares)
        best: tuple[float, int, FloatArray] | None = None
        pool = float(known.images)
        while best is None or pool <= known.available:
            size = round(pool)
            low, high = np.full(cells, now * size), np.full(cells, float(size))
            for _ in range(14):
                n = (low + high) / 2
                rest = found.rest.variance * np.interp(n / size, shares, left / left[0])
                variance = rest * (1 / n - 1 / size) + outcomes * max(1 / size - finite, 0.0)
                variance += found.unseen * (known.counts / n) * np.maximum(1 / n - finite, 0.0)
                low, high = np.where(variance > error, n, low), np.where(variance > error, high, n)
            cost = float(high.mean()) + size / cells
            if (high > _ENOUGH * size).any() and size < known.available:
                cost = math.inf  # it would have to grow again
            if best is None or cost < best[0]:
                best = cost, size, high
            pool = known.available if size < known.available < _GROWTH * pool else _GROWTH * pool
        return best[1], best[2]

    def _imagined(self, fit: Factors, shares: FloatArray) -> FloatArray:
        """(shares,) variance that is left when a share of the cells is seen, by images that the model makes up."""
        drawn = streams.generator("sampling", self._seed, item=0)
        cells = len(fit.mean) - 2
        z = drawn.standard_normal((fit.weights.shape[1], _IMAGINED))
        noise = drawn.standard_normal((len(fit.mean), _IMAGINED)) * np.sqrt(fit.noise)[:, None]
        values, places = fit.mean[:, None] + fit.weights @ z + noise, drawn.random((len(fit.mean), _IMAGINED))
        places[cells:] = 0
        left = []
        for share in shares:
            seen = (places <= share).astype(np.float64)
            chance = control_variates.chance_below_zero(*fit.foretold(values * seen, seen))[:cells]
            left.append((chance * (1 - chance)).mean())
        return np.maximum.accumulate(np.array(left)[::-1])[::-1]  # more never tells less

    # ---------------------------------------------------------------- what is read
    def read(self, known: Known) -> Interval:
        """As in `plans.Plan`."""
        found = self._found(known)
        return found.estimate, found.low, found.high

    def _found(self, known: Known) -> _Found:
        """What outcomes say of every cell; asked again, the same."""
        state = known.images, int(known.counts.sum())
        if self._read is None or self._read[0] != state:
            self._read = state, self._estimated(known)
        return self._read[1]

    def _estimated(self, known: Known) -> _Found:
        pool = known.images
        tried, wrong = known.tried[:, :pool], known.wrong[:, :pool]
        if pool < _FEWEST or known.counts.min() < 2:
            low, high = np.zeros(len(tried)), np.ones(len(tried))
            if known.counts.max() > 0:
                _, low, high = by_count(
                    known,
                    lambda x, n: finite_samples.hypergeometric_interval(
                        x, n, self._population, confidence=self._confidence
                    ),
                )
            none = Moments.of(np.zeros((len(tried), max(pool, 1))))
            return _Found(plain(known), low, high, none, none, np.zeros(len(tried)), None)
        scores = self._scores(known)
        residual = wrong - scores
        rest, told = Moments.of(residual, tried), Moments.of(scores)
        unseen = rest.with_unseen(scores, self._z)
        more = unseen.variance - rest.variance, unseen.third - rest.third
        rest = Moments(self._variances(known, rest.variance), rest.third, rest.n)
        widened = Moments(rest.variance + more[0], rest.third + more[1], rest.n)
        below, above = control_variates.sum_interval([told, widened], self._population, self._z)
        estimate = scores.mean(axis=1) + np.where(tried, residual, 0.0).sum(axis=1) / rest.n
        if self._population is not None:  # nothing is left to be foretold
            estimate = np.where(known.counts >= self._population, plain(known), estimate)
        estimate = estimate.clip(0, 1)
        low, high = (estimate - below).clip(0, 1), (estimate + above).clip(0, 1)
        return _Found(estimate, low, high, rest, told, more[0], self._fits[0])

    def _scores(self, known: Known) -> FloatArray:
        """(cells, pool) the chance of each outcome by the other cells of its image and the image as it is."""
        pool, cells = known.images, len(known.tried)
        clean = known.clean[:pool].clip(-_LARGEST, _LARGEST)  # a model of one class has no other logit
        if self._scale is None:
            self._scale = float(clean.std()) or 1.0
        seen = np.vstack([known.tried[:, :pool], np.ones((2, pool), bool)]).astype(np.float64)
        margins = control_variates.squashed(known.margins[:, :pool].astype(np.float64), self._scale)
        as_it_is = control_variates.squashed(clean, self._scale)
        values = np.vstack([np.where(known.tried[:, :pool], margins, 0.0), as_it_is, np.abs(as_it_is)])
        fold, scores, passes, starts = np.arange(pool) % _FOLDS, np.empty((cells, pool)), seen.sum(), not self._fits
        stale = passes > _STALE * self._fitted
        self._fitted = passes if stale else self._fitted
        directions = streams.generator("sampling", self._seed, item=0).standard_normal((cells + 2, _FACTORS))
        for i in range(_FOLDS):
            others, own = np.flatnonzero(fold != i)[:_FITTED], fold == i
            if starts:
                self._fits.append(Factors.started(values[:, others], seen[:, others], directions))
            if stale:
                self._fits[i] = self._fits[i].improved(
                    values[:, others], seen[:, others], self._alike, steps=_STEPS[0] if starts else _STEPS[1]
                )
            told = self._fits[i].foretold(values[:, own], seen[:, own])
            scores[:, own] = control_variates.chance_below_zero(*told)[:cells]
        return scores

    def _variances(self, known: Known, own: FloatArray) -> FloatArray:
        """Variances of the residuals, none below what the map's ratio of residual to binomial variance lets expect.

        A cell that stops where its own variance happens to look small would stop too early.
        """
        share = (known.errors + 2) / (known.counts + 4)
        binomial = share * (1 - share)
        ratio = (known.counts * own).sum() / (known.counts * binomial).sum()
        weight = known.counts / (known.counts + _SHRINK)
        return np.maximum(own, weight * own + (1 - weight) * ratio * binomial)


@dataclasses.dataclass(frozen=True)
class _Found:
    """What outcomes say: estimates and intervals, moments of residuals and of scores, what the unseen adds, one fit."""

    estimate: FloatArray
    low: FloatArray
    high: FloatArray
    rest: Moments
    scores: Moments
    unseen: FloatArray
    fit: Factors | None


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """Averages over the cells around each, weighted by a normal density of distance; k and -k are one.

    Attributes:
        places: (cells, m) of them; any where there is none.
        weights: (cells, m), 0 where there is none.
    """

    places: IntArray
    weights: FloatArray

    @classmethod
    def of(cls, frequencies: NDArray[np.int64]) -> Neighbours:
        """Of frequencies (cells, 2)."""
        steps = np.arange(-_FAR, _FAR + 1)
        offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
        side = int(np.abs(frequencies).max()) + _FAR
        where = np.full((2 * side + 1, 2 * side + 1), -1)
        for sign in (-1, 1):
            at = side + sign * frequencies
            where[at[:, 0], at[:, 1]] = np.arange(len(frequencies))
        around = side + frequencies[:, None] + offsets[None]
        places = where[around[..., 0], around[..., 1]]
        weights = np.exp(-np.square(offsets).sum(axis=1) / 2) * (places >= 0)
        weights = np.where(places == np.arange(len(places))[:, None], 0.0, weights)
        return cls(places, weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12))

    def __call__(self, values: FloatArray) -> FloatArray:
        """Of (cells + 2, r); 0 for the last two, of the image as it is."""
        found = np.zeros_like(values)
        for places, weights in zip(self.places.T, self.weights.T, strict=True):
            found[: len(places)] += weights[:, None] * values[places]
        return found
