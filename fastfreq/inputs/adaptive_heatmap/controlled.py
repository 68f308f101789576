"""A map with control variates: a few frequencies on many images tell part of all others."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from fastfreq.vocabulary import control_variates, finite_samples
from fastfreq.vocabulary.statistics import normal_quantile

from .plans import FloatArray, IntArray, Interval, Known, by_count, plain

_CHOICES = (0, 1, 2, 3, 4, 5, 6, 8, 10, 14, 20)  # numbers of controls that are considered
_SHARES = (0.25, 0.4, 0.55, 0.7, 0.85, 1.0)  # of the images there are, on which they are run
_PENALTY = 10.0  # of the ridge; predictors are between -1 and 1
_SHRINK = 100.0  # images that the map's own ratio of residual to binomial variance counts for in each cell
_FIRST = 0.9  # of the images that a cell is expected to need, in the first step


class Controlled:
    """Several stages with control variates: what a few frequencies and the clean image tell of all others is used.

    Pilot: the first `pilot` images in every cell. From them alone: how many controls there are, on how many images,
    and the weights of all scores (`control_variates`). Which frequencies are controls is a matter of geometry, not of
    outcomes. Then every cell gets images until its interval is narrow enough. Pilot images enter with the scores of
    fits without themselves, so that no outcome predicts itself.

    What holds: with weights that are fixed the estimate is unbiased, whatever they are worth. Its interval adds those
    of the levels by squares, and is right in the limit of many images, also when images are added until it is narrow
    (Anscombe 1952; Chow, Robbins 1965). It is **not** exact for few images, which `plans.Exact` is: intervals of
    bounded means that are proven for every sample cost 2 log(2 / 0.05) / 1.96^2 = 1.9 times the images, more than
    controls save. So 95 % means: of the cells of the three networks measured 95 % are covered,
    single cells may be covered in 93 % of the orders of images. Where nearly all is right, or wrong, and the clean
    image tells nearly all of it, a cell stops after few errors and 90 % was measured of such made outcomes at shares
    of .05 and .1. On measured and on made outcomes: benchmarks/reproductions/precision_goal.py.

    Args:
        half_width: to be reached in every cell.
        confidence: of each cell.
        population: N; None where images are themselves a sample.
        controls: cells in the order in which they become controls, as of `spread`.
        pilot: images of the pilot.
        step: counts are multiples of it.

    Source: Giles 2008, "Multilevel Monte Carlo path simulation"; Zou, Donner 2008 for the addition of intervals.
    """

    def __init__(
        self,
        half_width: float,
        confidence: float,
        population: int | None,
        controls: list[int],
        *,
        pilot: int = 64,
        step: int = 4,
    ) -> None:
        self.half_width, self.pilot = half_width, pilot
        self._confidence, self._z = confidence, normal_quantile(confidence)
        self._population, self._controls, self._step = population, controls, step
        self._fit: _Fit | None = None

    @property
    def controls(self) -> tuple[list[int], int]:
        """The cells that are controls, and the images on which they are run; none before the pilot."""
        return ([], 0) if self._fit is None else (self._fit.controls, self._fit.images)

    def next_counts(self, known: Known) -> IntArray | None:
        """As in `plans.Plan`."""
        pilot = min(self.pilot, known.available)
        if known.counts.min() < pilot:
            return np.maximum(known.counts, pilot)
        fit = self._fitted(known)
        wanted = known.counts.copy()
        if fit.waits_for(known):
            wanted[fit.controls] = np.maximum(wanted[fit.controls], fit.images)
            wanted = np.maximum(wanted, np.ceil(_FIRST * fit.expected).astype(np.int64))
        else:
            _, low, high = self.read(known)
            excess = (high - low) / (2 * self.half_width)
            left = 1.0 if self._population is None else 1 - known.counts / self._population
            more = np.maximum(self._step, known.counts * np.clip(excess**2 - 1, 0.0, 0.5) * left)
            wanted = np.where(excess > 1, wanted + np.ceil(more).astype(np.int64), wanted)
        wanted = np.maximum(np.minimum(-(-wanted // self._step) * self._step, known.available), known.counts)
        if fit.controls:  # a cell that needs more images than the pilot foresaw takes the controls along
            fit.images = max(fit.images, int(np.delete(wanted, fit.controls).max()))
            wanted[fit.controls] = np.maximum(wanted[fit.controls], fit.images)
        return None if (wanted == known.counts).all() else wanted

    def read(self, known: Known) -> Interval:
        """As in `plans.Plan`; without the controls' images yet, plain intervals."""
        if known.counts.min() < min(self.pilot, known.available) or self._fitted(known).waits_for(known):
            return by_count(
                known,
                lambda x, n: finite_samples.hypergeometric_interval(
                    x, n, self._population, confidence=self._confidence
                ),
            )
        fit = self._fitted(known)
        scores, shifts = fit.scores(known)
        rests = [self._rest(known, fit, scores, shifts, k) for k in range(len(known.counts))]
        variances = self._variances(known, fit, rests)
        found = np.empty((3, len(rests)))
        for k, rest in enumerate(rests):
            terms: list[tuple[FloatArray, float | None]] = [(scores[0][k], None)]
            if fit.level(k):
                terms.append((scores[1][k] - scores[0][k, : fit.images], None))
            found[:, k] = self._added([*terms, (rest, float(variances[k]))])
        estimate, below, above = found
        if self._population is not None:  # nothing is left to be predicted
            whole = known.counts >= self._population
            estimate = np.where(whole, plain(known), estimate)
            below, above = np.where(whole, 0.0, below), np.where(whole, 0.0, above)
        estimate = estimate.clip(0, 1)
        return estimate, (estimate - below).clip(0, 1), (estimate + above).clip(0, 1)

    def _added(self, terms: list[tuple[FloatArray, float | None]]) -> tuple[float, float, float]:
        total, below, above = 0.0, 0.0, 0.0
        for values, variance in terms:
            mean, under, over = control_variates.mean_interval(values, self._population, self._z, variance=variance)
            total, below, above = total + mean, below + under**2, above + over**2
        return total, math.sqrt(below), math.sqrt(above)

    def _rest(self, known: Known, fit: _Fit, scores: list[FloatArray], shifts: list[FloatArray], k: int) -> FloatArray:
        """(counts[k],) outcomes less their scores."""
        n, level = int(known.counts[k]), fit.level(k)
        rest = known.wrong[k, :n] - scores[level][k, :n]
        # a pilot image helped to fit its own score: it gets that of the fit without it, and what that fit's mean is off
        rest[: fit.pilot] = fit.levels[level].residual[k] + shifts[level][k]
        return rest

    def _variances(self, known: Known, fit: _Fit, rests: list[FloatArray]) -> FloatArray:
        """Variances of the residuals, each drawn to what the map's ratio of residual to binomial variance says.

        A cell that stops where its own variance happens to look small would stop too early.
        """
        own = np.array([rest.var(ddof=1) for rest in rests])
        share = plain(known)
        binomial = np.maximum(share * (1 - share), 1e-12)
        levels, pooled = np.array([fit.level(k) for k in range(len(rests))]), np.empty(len(rests))
        for level in np.unique(levels):
            at = levels == level
            ratio = (known.counts[at] * own[at]).sum() / (known.counts[at] * binomial[at]).sum()
            pooled[at] = ratio * binomial[at]
        weight = known.counts / (known.counts + _SHRINK)
        return weight * own + (1 - weight) * pooled

    # ---------------------------------------------------------------- what the pilot says
    def _fitted(self, known: Known) -> _Fit:
        if self._fit is None:
            pilot = min(self.pilot, known.available)
            plans: list[_Fit] = []
            for count in _CHOICES:
                for share in _SHARES if 0 < count <= len(self._controls) // 2 else _SHARES[-1:]:
                    if count <= len(self._controls) // 2:
                        images = max(pilot, round(share * known.available))
                        plans.append(_Fit.of(known, pilot, self._controls[:count], images))
                        plans[-1].plan(self.half_width / self._z, self._population)
            self._fit = min(plans, key=lambda fit: fit.cost)
        return self._fit


@dataclasses.dataclass
class _Fit:
    """Controls, the images they are run on, and the scores of each level.

    Attributes:
        pilot: images of the pilot.
        controls: cells.
        images: on which they are run.
        available: images there are.
        scale: of margins.
        levels: scores from the clean image, and from the controls too, if there are any.
        expected: images that each cell will need.
        cost: passes of the whole map by that.
    """

    pilot: int
    controls: list[int]
    images: int
    available: int
    scale: float
    levels: list[control_variates.Scores] = dataclasses.field(default_factory=list)
    expected: FloatArray = dataclasses.field(default_factory=lambda: np.zeros(0))
    cost: float = math.inf

    @classmethod
    def of(cls, known: Known, pilot: int, controls: list[int], images: int) -> _Fit:
        """Fitted on the pilot."""
        fit = cls(pilot, controls, images, known.available, float(known.clean[:pilot].std()) or 1.0)
        outcomes = known.wrong[:, :pilot].astype(np.float64)
        for level in range(2 if controls else 1):
            x = fit.predictors(known, level, pilot)
            fit.levels.append(control_variates.Scores.fitted(x, outcomes, penalty=_PENALTY))
        return fit

    def level(self, cell: int) -> int:
        """The level whose scores predict a cell: controls are predicted by the clean image alone."""
        return 0 if cell in self.controls else len(self.levels) - 1

    def waits_for(self, known: Known) -> bool:
        """Whether controls lack images."""
        return bool((known.counts[self.controls] < self.images).any())

    def predictors(self, known: Known, level: int, n: int) -> FloatArray:
        """(n, p) of the first n images: clean outcome and margin; the controls' too."""
        margin = control_variates.squashed(known.clean[:n].astype(np.float64), self.scale)
        columns: list[NDArray[np.generic]] = [margin < 0, margin, np.abs(margin)]
        if level:
            own = known.margins[self.controls, :n].astype(np.float64)
            columns += [*known.wrong[self.controls, :n], *control_variates.squashed(own, self.scale)]
        return np.column_stack(columns).astype(np.float64)

    def plan(self, error: float, population: int | None) -> None:
        """Set the images that each cell will need for a standard error, from the pilot's residuals."""
        variance = [np.square(scores.residual).mean(axis=1) for scores in self.levels]
        finite = 0.0 if population is None else 1 / population
        goal = np.full(len(variance[0]), error**2)
        if self.controls:
            goal -= np.maximum(variance[0] - variance[1], 0) * (1 / self.images - finite)
        needed = np.where(goal > 0, variance[-1] / np.maximum(goal + variance[-1] * finite, 1e-12), self.available)
        own = variance[0] / (error**2 + variance[0] * finite)
        needed[self.controls] = np.maximum(own[self.controls], self.images)
        self.expected = needed.clip(self.pilot, self.available)
        self.cost = float(self.expected.sum())

    def scores(self, known: Known) -> tuple[list[FloatArray], list[FloatArray]]:
        """Of each level: scores (cells, images), and how far the means of fits without a pilot image are off.

        The latter are (cells, pilot).
        """
        sizes = (int(known.counts.max()), self.images)
        found, off = [], []
        for level, scores in enumerate(self.levels):
            x = self.predictors(known, level, sizes[level])
            found.append(scores(x))
            off.append(scores.mean_without(x) - found[-1].mean(axis=1, keepdims=True))
        return found, off


def spread(frequencies: IntArray, count: int, *, most: int = 1500) -> list[int]:
    """Frequencies (f, 2) that lie close to all others, one after the other; k and -k are one.

    Each next is the one that lowers the sum of distances to the nearest chosen most. Of more than `most`, every so
    manieth is looked at.
    """
    step = -(-len(frequencies) // most)
    points = frequencies[::step].astype(np.float64)
    pairs = np.stack([np.linalg.norm(points[:, None] - sign * points[None], axis=-1) for sign in (1, -1)]).min(axis=0)
    nearest, chosen = np.full(len(points), pairs.max()), []
    for _ in range(min(count, len(points))):
        best = int(np.minimum(nearest[None], pairs).sum(axis=1).argmin())
        chosen.append(best * step)
        nearest = np.minimum(nearest, pairs[best])
    return chosen
