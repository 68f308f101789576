"""Which images a cell of a map needs for a stated precision: functions of the outcomes so far, and of nothing else.

Images have a rank, their place in a random order drawn before anything is measured. A plan reads what is known and
names the images it wants next of each cell, or None when it is done. It knows no model: simulations and measurements
run the same code.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fastfreq.vocabulary import finite_samples, sequential_draws

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Interval = tuple[FloatArray, FloatArray, FloatArray]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a plan wants to be known.

    Attributes:
        tried: (cells, n) bool on which images each cell is to be evaluated.
        images: those of rank below it are to be looked at as they are.
    """

    tried: NDArray[np.bool_]
    images: int

    @classmethod
    def first(cls, counts: IntArray, available: int) -> Wanted:
        """The first `counts` (cells,) images in each cell."""
        return cls(np.arange(available)[None] < counts[:, None], int(counts.max()))

    def more_than(self, known: Known) -> bool:
        """Whether any of it is not known."""
        return self.images > known.images or bool((self.tried & ~known.tried).any())


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known, images in the order of their ranks.

    Attributes:
        tried: (cells, n) bool on which images each cell was evaluated.
        images: those of rank below it were looked at as they are.
        wrong: (cells, n) bool; means something where tried.
        margins: (cells, n) logit of the true class less that of the best other; where tried.
        clean: (n,) the same of the images as they are.
    """

    tried: NDArray[np.bool_]
    images: int
    wrong: NDArray[np.bool_]
    margins: NDArray[np.floating]
    clean: NDArray[np.floating]

    @classmethod
    def nothing(cls, wrong: NDArray[np.bool_], margins: NDArray[np.floating], clean: NDArray[np.floating]) -> Known:
        """Before anything is evaluated."""
        return cls(np.zeros(wrong.shape, bool), 0, wrong, margins, clean)

    def after(self, wanted: Wanted) -> Known:
        """With what was wanted evaluated: simulations know all outcomes."""
        return dataclasses.replace(self, tried=wanted.tried, images=wanted.images)

    @property
    def available(self) -> int:
        """How many images there are."""
        return self.wrong.shape[1]

    @functools.cached_property
    def counts(self) -> IntArray:
        """(cells,) images on which each was evaluated."""
        return self.tried.sum(axis=1)

    @functools.cached_property
    def errors(self) -> IntArray:
        """(cells,) wrong outcomes among those evaluated."""
        return (self.wrong & self.tried).sum(axis=1)


class Plan(Protocol):
    """Which images each cell gets, and what is read off them."""

    half_width: float

    def next_wanted(self, known: Known) -> Wanted | None:
        """What is wanted of each cell, nowhere less than there is; None if nothing is missing."""
        ...

    def read(self, known: Known) -> Interval:
        """(estimate, low, high) of every cell."""
        ...


def plain(known: Known) -> FloatArray:
    """(cells,) share of errors; NaN where nothing was evaluated."""
    return np.where(known.counts > 0, known.errors / np.maximum(known.counts, 1), np.nan)


class Exact:
    """Group-sequential sampling with exact intervals: no assumption at all on images, model or neighbours.

    Each cell on its own follows `sequential_draws.sequential`, whose coverage is computed for every share that N images
    can have. The randomness is that of the order of the images alone; outcomes are fixed numbers. Over the whole map
    Bonferroni's inequality holds whatever the dependence of the cells.
    """

    def __init__(self, half_width: float, confidence: float, population: int | None) -> None:
        self.half_width = half_width
        self._plan = sequential_draws.sequential(half_width, population, confidence=confidence)

    def next_wanted(self, known: Known) -> Wanted | None:
        """As in `Plan`."""
        looks = np.array(self._plan.looks)
        wanted = known.counts.copy()
        for n in np.unique(known.counts):
            at = known.counts == n
            open_ = np.ones(int(at.sum()), bool) if n == 0 else ~self._plan.stops(known.errors[at], int(n))
            later = looks[looks > n]
            if len(later):
                wanted[np.flatnonzero(at)[open_]] = later[0]
        wanted = np.minimum(wanted, known.available)
        return None if (wanted == known.counts).all() else Wanted.first(wanted, known.available)

    def read(self, known: Known) -> Interval:
        """As in `Plan`."""
        return by_count(known, self._plan.interval)


class Anytime:
    """Every cell goes on until its interval, which holds at all times at once, is narrow enough.

    Ville's inequality: `finite_samples.anytime_interval`. It may be stopped and read at any moment, for any reason.
    """

    def __init__(
        self,
        half_width: float,
        confidence: float,
        population: int | None,
        *,
        step: int = 16,
        coarse: Sequence[IntArray] = (),
    ) -> None:
        self.half_width, self._step, self._coarse = half_width, step, coarse
        self._population, self._confidence = population, confidence

    def next_wanted(self, known: Known) -> Wanted | None:
        """As in `Plan`."""
        for cells in self._coarse:  # coarse to fine: a whole map early
            if (known.counts[cells] == 0).any():
                first = known.counts.copy()
                first[cells] = np.maximum(first[cells], min(self._step, known.available))
                return Wanted.first(first, known.available)
        _, low, high = self.read(known)
        open_ = (high - low > 2 * self.half_width + 1e-12) & (known.counts < known.available)
        if not open_.any():
            return None
        wanted = np.where(open_, np.minimum(known.counts + self._step, known.available), known.counts)
        return Wanted.first(wanted, known.available)

    def read(self, known: Known) -> Interval:
        """As in `Plan`."""
        return by_count(
            known, lambda x, n: finite_samples.anytime_interval(x, n, self._population, confidence=self._confidence)
        )


def expected_counts(
    known: Known, low: FloatArray, high: FloatArray, half_width: float, population: int | None
) -> IntArray:
    """(cells,) images that each cell will have where its interval is narrow enough, by the width it has now.

    The square of a width falls as 1 / n - 1 / N. Cells without any image are expected to need what the others do.
    """
    n = known.counts.astype(np.float64)
    seen = n > 0
    finite = 0.0 if population is None else 1 / population
    excess = np.maximum((high - low) / (2 * half_width), 1.0) ** 2
    needs = n.copy()
    needs[seen] = 1 / ((1 / n[seen] - finite).clip(0) / excess[seen] + finite + 1e-15)
    needs[~seen] = needs[seen].mean() if seen.any() else known.available
    return np.ceil(np.maximum(needs, n) - 1e-6).clip(None, known.available).astype(np.int64)


def by_count(known: Known, interval: Callable[[IntArray, int], tuple[FloatArray, FloatArray]]) -> Interval:
    """Plain shares with the interval of successes and draws, cells with as many images together; [0, 1] without any."""
    low, high = np.zeros(len(known.counts)), np.ones(len(known.counts))
    for n in np.unique(known.counts[known.counts > 0]):
        at = known.counts == n
        low[at], high[at] = interval(known.errors[at], int(n))
    return plain(known), low, high
