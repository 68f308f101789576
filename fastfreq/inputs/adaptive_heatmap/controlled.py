"""A map with control variates: a few frequencies on many images tell part of all others."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from fastfreq.vocabulary import control_variates, finite_samples
from fastfreq.vocabulary.control_variates import Moments, Scores
from fastfreq.vocabulary.statistics import normal_quantile

from .plans import FloatArray, IntArray, Interval, Known, by_count, plain

_CHOICES = (0, 1, 2, 3, 4, 5, 6, 8, 10, 14, 20)  # numbers of controls that are considered
_SHARES = (0.25, 0.4, 0.55, 0.7, 0.85, 1.0)  # of the images there are, on which they are run
_PENALTY = 3.0  # of the ridge; predictors are between -1 and 1
_SHRINK = 100.0  # images that the map's own ratio of residual to binomial variance counts for in each cell
_LOOKING = 0.85  # of the error allowed: what stopping at a chosen moment leaves
_OWN = 0.25  # weight of a cell's own pilot in what it is expected to need; the map's has the rest
_FIRST = 0.7  # of the images that a cell is expected to need, in the first step
_STEP = 0.7  # of those that it lacks, in later ones


class Controlled:
    """Several stages with control variates: what a few frequencies and the clean image tell of all others is used.

    Pilot: the first `pilot` images in every cell. From them alone: how many controls there are, and on how many images.
    Which frequencies are controls is a matter of geometry, not of outcomes. Then every cell gets images until its
    interval is narrow enough. The scores of a cell are fitted to all of its images; each of these enters with the score
    of a fit without it, so that no outcome foretells itself (`control_variates`). All of it is a function of what is
    known: nothing is remembered but what would be computed again.

    What holds: with scores that are fixed the estimate is unbiased, whatever they are worth; leaving one out keeps it
    so but for terms that were within the noise of 250 maps. Its interval is that of large samples, also when images are
    added until it is narrow (Anscombe 1952; Chow, Robbins 1965): **not** exact, which `plans.Exact` is. Intervals of
    bounded means that are proven for every sample cost 2 log(2 / 0.05) / 1.96^2 = 1.9 times the images, more than
    controls save. Four things make it cover samples of a hundred images too:

    - the skewness of residuals and scores (`control_variates.sum_interval`);
    - errors, and the lack of them, that no image has shown yet (`Moments.with_unseen`);
    - a variance never below the cell's own, nor below what the others' let expect;
    - 0.85 of the error that is allowed, as cells stop where they happen to vary little.

    On measured and on made outcomes: benchmarks/reproductions/precision_goal.py.

    Args:
        half_width: to be reached in every cell.
        confidence: of each cell.
        population: N; None where images are themselves a sample.
        controls: cells in the order in which they become controls, as of `spread`.
        pilot: images of the pilot.
        step: counts are multiples of it.

    Source: Giles 2008, "Multilevel Monte Carlo path simulation".
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
        self._confidence, self._z = confidence, normal_quantile(1 - _LOOKING * (1 - confidence))
        self._population, self._order, self._step = population, controls, step
        self._design: _Design | None = None
        self._kept: dict[int, tuple[tuple[int, int], _Cell]] = {}  # by cell: (images of it, of its scores), its figures

    @property
    def controls(self) -> tuple[list[int], int]:
        """The cells that are controls, and the images on which they are to be run; none before the pilot."""
        return ([], 0) if self._design is None else (self._design.controls, self._design.images)

    def next_counts(self, known: Known) -> IntArray | None:
        """As in `plans.Plan`."""
        pilot = min(self.pilot, known.available)
        if known.counts.min() < pilot:
            return np.maximum(known.counts, pilot)
        design = self._designed(known)
        wanted, controls = known.counts.copy(), design.controls
        if self._waits(known, design):
            wanted = np.maximum(wanted, np.ceil(_FIRST * design.expected).astype(np.int64))
        else:
            _, low, high = self.read(known)
            excess = (high - low) / (2 * self.half_width)
            left = 1.0 if self._population is None else 1 - known.counts / self._population
            more = np.maximum(self._step, _STEP * known.counts * np.clip(excess**2 - 1, 0.0, 0.5) * left)
            wanted = np.where(excess > 1, wanted + np.ceil(more).astype(np.int64), wanted)
        wanted = np.maximum(np.minimum(-(-wanted // self._step) * self._step, known.available), known.counts)
        if controls:  # a cell that needs more images than the pilot foresaw takes the controls along
            wanted[controls] = max(design.images, int(wanted.max()))
        return None if (wanted == known.counts).all() else wanted

    def read(self, known: Known) -> Interval:
        """As in `plans.Plan`; without the controls' images yet, plain intervals."""
        if known.counts.min() < min(self.pilot, known.available) or self._waits(known, self._designed(known)):
            return by_count(
                known,
                lambda x, n: finite_samples.hypergeometric_interval(
                    x, n, self._population, confidence=self._confidence
                ),
            )
        cells = self._cells(known, self._designed(known))
        estimate = np.array([cell.estimate for cell in cells])
        rest, scores = _joined([cell.rest for cell in cells]), _joined([cell.scores for cell in cells])
        unseen = np.array([cell.unseen for cell in cells]).T
        rest = Moments(self._variances(known, rest.variance) + unseen[0], rest.third + unseen[1], rest.n)
        below, above = control_variates.sum_interval([scores, rest], self._population, self._z)
        if self._population is not None:  # nothing is left to be predicted
            whole = known.counts >= self._population
            estimate = np.where(whole, plain(known), estimate)
        estimate = estimate.clip(0, 1)
        return estimate, (estimate - below).clip(0, 1), (estimate + above).clip(0, 1)

    def _waits(self, known: Known, design: _Design) -> bool:
        """Whether controls lack images."""
        return bool((known.counts[design.controls] < design.images).any())

    # ---------------------------------------------------------------- what outcomes say of each cell
    def _cells(self, known: Known, design: _Design) -> list[_Cell]:
        """Every cell's figures; those whose images are the same as before are kept."""
        images = int(known.counts.max())
        stale = [k for k, n in enumerate(known.counts) if self._kept.get(k, ((0, 0),))[0] != (n, images)]
        levels = np.array([0 if k in design.controls or not design.controls else 1 for k in range(len(known.counts))])
        for level in (0, 1):
            x = None
            for n in np.unique(known.counts[stale]):
                group = [k for k in stale if levels[k] == level and known.counts[k] == n]
                if group:
                    x = design.predictors(known, level, images) if x is None else x
                    margins = squashed(known, group, int(n), design.scale)
                    for k, cell in zip(group, _figures(x, margins, known.wrong[group, :n], self._z), strict=True):
                        self._kept[k] = (int(n), images), cell
        return [self._kept[k][1] for k in range(len(known.counts))]

    def _variances(self, known: Known, own: FloatArray) -> FloatArray:
        """Variances of the residuals, none below what the map's ratio of residual to binomial variance lets expect.

        A cell that stops where its own variance happens to look small would stop too early.
        """
        share = (known.errors + 2) / (known.counts + 4)
        binomial = share * (1 - share)
        others = np.ones(len(own), dtype=bool)  # controls are foretold by less
        others[self.controls[0]] = len(self.controls[0]) == len(own)
        ratio = (known.counts * own)[others].sum() / (known.counts * binomial)[others].sum()
        weight = known.counts / (known.counts + _SHRINK)
        return np.maximum(own, weight * own + (1 - weight) * ratio * binomial)

    # ---------------------------------------------------------------- what the pilot says
    def _designed(self, known: Known) -> _Design:
        design = self._design
        if design is None:
            pilot = min(self.pilot, known.available)
            designs = []
            for count in _CHOICES:
                if count <= len(self._order) // 2:
                    fit = _Pilot.of(known, pilot, self._order[:count], self._z)
                    for share in _SHARES if count else _SHARES[-1:]:
                        images = max(pilot, round(share * known.available))
                        designs.append(fit.design(images, self.half_width / self._z, self._population, known.available))
            design = self._design = min(designs, key=lambda found: found.cost)
        return design


@dataclasses.dataclass(frozen=True)
class _Cell:
    """What is read off one cell: its estimate, moments of residuals and of scores, what unseen images may add."""

    estimate: float
    rest: Moments
    unseen: tuple[float, float]
    scores: Moments


def _joined(moments: list[Moments]) -> Moments:
    """Of all cells."""
    return Moments(*(np.array([getattr(m, name) for m in moments]) for name in ("variance", "third", "n")))


def _figures(x: FloatArray, margins: FloatArray, wrong: NDArray[np.bool_], z: float) -> list[_Cell]:
    """Of cells evaluated on the same images, the first of those with predictors x."""
    n = wrong.shape[1]
    fit = Scores.fitted(x[:n], margins, wrong, penalty=_PENALTY)
    scores = fit(x)
    # each image helped to fit its own score: it gets that of the fit without it, and that fit's mean
    values = fit.residual + fit.mean_without(x, scores)
    rest, told = Moments.of(values), Moments.of(scores)
    unseen = rest.with_unseen(scores, z)
    estimate, more = values.mean(axis=1), (unseen.variance - rest.variance, unseen.third - rest.third)
    return [
        _Cell(float(estimate[k]), rest.at(k), (float(more[0][k]), float(more[1][k])), told.at(k))
        for k in range(len(wrong))
    ]


@dataclasses.dataclass(frozen=True)
class _Design:
    """Controls, the images on which they are run, what that will take.

    Attributes:
        controls: cells.
        images: on which they are run.
        scale: of margins.
        expected: (cells,) images that each will need.
        cost: passes of the whole map by that.
    """

    controls: list[int]
    images: int
    scale: float
    expected: FloatArray
    cost: float

    def predictors(self, known: Known, level: int, n: int) -> FloatArray:
        """As of `predictors`."""
        return predictors(known, self.controls if level else [], n, self.scale)


@dataclasses.dataclass(frozen=True)
class _Pilot:
    """What the pilot foretells with some controls.

    Attributes:
        controls: cells.
        scale: of margins.
        binomial: (cells,) variances of outcomes.
        left: (2, cells) of residuals of the clean image's scores, and of the controls', of fits to all images.
        unseen: (2, cells) what `Moments.with_unseen` adds for one image.
        freedom: degrees of freedom of either fit.
        pilot: images.
    """

    controls: list[int]
    scale: float
    binomial: FloatArray
    left: FloatArray
    unseen: FloatArray
    freedom: list[float]
    pilot: int

    @classmethod
    def of(cls, known: Known, pilot: int, controls: list[int], z: float) -> _Pilot:
        """Fitted on the pilot."""
        scale = float(known.clean[:pilot].std()) or 1.0
        outcomes, margins = known.wrong[:, :pilot], squashed(known, slice(None), pilot, scale)
        share = (outcomes.sum(axis=1) + 1) / (pilot + 2)
        binomial = share * (1 - share)
        left, unseen, freedom = [], [], []
        for used in ([], controls):
            x = predictors(known, used, pilot, scale)
            fit = Scores.fitted(x, margins, outcomes, penalty=_PENALTY)
            rest = Moments(np.square(fit.residual).mean(axis=1), np.zeros(len(outcomes)), np.ones(len(outcomes)))
            own = rest.variance / (1 + fit.freedom / pilot)  # more images fit better
            left.append(_OWN * own + (1 - _OWN) * own.sum() / binomial.sum() * binomial)
            unseen.append(rest.with_unseen(fit(x), z).variance - rest.variance)
            freedom.append(fit.freedom)
        return cls(controls, scale, binomial, np.array(left), np.array(unseen), freedom, pilot)

    def design(self, images: int, error: float, population: int | None, available: int) -> _Design:
        """With controls on a number of images, and every cell on as many as it will need for a standard error."""
        finite = 0.0 if population is None else 1 / population
        level = 1 if self.controls else 0
        images = images if self.controls else 0
        needed = self._needed(level, images, error, finite, available)
        if self.controls:
            own = self._needed(0, images, error, finite, available)
            needed[self.controls] = np.maximum(own[self.controls], images)
        return _Design(self.controls, images, self.scale, needed, float(needed.sum() + needed.max()))

    def _needed(self, level: int, images: int, error: float, finite: float, available: int) -> FloatArray:
        left, unseen, freedom = self.left[level], self.unseen[level], self.freedom[level]
        told = np.maximum(self.binomial - left, 0)
        low, high = np.full(len(left), float(self.pilot)), np.full(len(left), float(max(available, self.pilot)))
        for _ in range(14):
            n = (low + high) / 2
            seen = np.maximum(1 / np.maximum(n, images) - finite, 0.0)
            variance = (left * (1 + freedom / n) + unseen / n) * np.maximum(1 / n - finite, 0) + told * seen
            low, high = np.where(variance > error**2, n, low), np.where(variance > error**2, high, n)
        return high


def predictors(known: Known, controls: list[int], n: int, scale: float) -> FloatArray:
    """(n, p) of the first n images: clean outcome and margin; those of controls too."""
    margin = control_variates.squashed(known.clean[:n].astype(np.float64), scale)
    columns = [margin, np.abs(margin)]
    if controls:
        columns += [*squashed(known, controls, n, scale)]
    return np.column_stack(columns)


def squashed(known: Known, cells: list[int] | slice, n: int, scale: float) -> FloatArray:
    """(cells, n) margins of the first n images."""
    return control_variates.squashed(known.margins[cells, :n].astype(np.float64), scale)


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
