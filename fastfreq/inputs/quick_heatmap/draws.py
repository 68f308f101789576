"""Which frequencies each image is evaluated at: a function of seed and image id, and of nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfreq.vocabulary import numbers, streams

_CLEAN = 5  # passes an image from which one of them is spent on it as it is


class Draws:
    """Conditions of images, drawn in turns: each permutation of all of them is used up before the next.

    Image i gets numbers floor(i r) to floor((i + 1) r) - 1 of the permutations written one after the other, r being
    its forward passes. So any images in a row get r each, no batch, order, shard or restart changes which, and each
    condition gets as many images as any other, give or take one, spread over the whole data set.

    Conditions are the frequencies and, as the last one, the image as it is; with `all_clean` every image is looked at
    as it is, and `of` gives frequencies alone: what a model says of images as they are tells part of what it says of
    perturbed ones.

    Args:
        frequencies: how many there are.
        share: of the passes of the whole map, in 0 .. 1.
        predicted: whether an image takes one more pass for its label, in the whole map too.
        seed: from 0.
        all_clean: whether every image is looked at as it is; None where that takes at most a fifth of the passes.

    Raises:
        ValueError: a share that leaves nothing to draw.
    """

    def __init__(
        self, frequencies: int, share: float, *, predicted: bool, seed: int, all_clean: bool | None = None
    ) -> None:
        every = frequencies + 1 + predicted
        # the decimal number that was asked for, not the binary one beside it: .3 of 10 is 3
        rate = Fraction(repr(share)) * every - predicted
        if rate <= 0:
            raise ValueError(
                f"expected a `share` above {1 / every:.3g} with labels='predicted', which take one of {every} passes "
                f"an image, got {share:g}"
            )
        self.all_clean = rate >= _CLEAN if all_clean is None else all_clean
        self.rate = rate - self.all_clean
        self.conditions = frequencies + (not self.all_clean)
        self._seed = seed

    def check(self, images: int) -> None:
        """Refuse too few images for every condition to get one.

        Raises:
            ValueError: the message says how many, or what share, would do.
        """
        drawn = math.floor(images * self.rate)
        if drawn < self.conditions:
            least, times = math.ceil(self.conditions / self.rate), Fraction(self.conditions, images) / self.rate
            raise ValueError(
                f"expected an image for each of {self.conditions} frequencies, got {images:,} images and passes for "
                f"{drawn} of them: give {least:,} images, {_up(float(times))} times the `share`, or a smaller `size`"
            )

    def of(self, ids: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """For each image its conditions, as numbers from 0, each once."""
        permutations: dict[int, NDArray[np.int64]] = {}

        def number(place: int) -> int:
            turn, at = divmod(place, self.conditions)
            if turn not in permutations:
                drawn = streams.generator("quick_heatmap", self._seed, item=turn)
                permutations[turn] = drawn.permutation(self.conditions)
            return int(permutations[turn][at])

        found = []
        for i in ids.tolist():
            places = range(math.floor(i * self.rate), math.floor((i + 1) * self.rate))
            # where two permutations meet a number may come twice: it is looked at once, and the pass is saved
            found.append(np.array(list(dict.fromkeys(map(number, places))), np.int64))
        return found


def by_length(rows: Sequence[NDArray[np.int64]]) -> list[NDArray[np.intp]]:
    """Places of rows that are as long as each other, the shortest first; empty ones are left out."""
    lengths = np.array([len(row) for row in rows])
    return [np.flatnonzero(lengths == n) for n in np.unique(lengths[lengths > 0])]


def share_of(value: Any) -> float:
    """A share of all passes.

    Raises:
        ValueError: none in 0 .. 1.
    """
    share = numbers.as_float("share", value)
    if not 0 < share <= 1:
        raise ValueError(f"expected a `share` of all passes above 0 and up to 1, such as 0.03, got {value!r}")
    return share


def _up(value: float) -> float:
    """The next number of two decimals."""
    return math.ceil(value * 100) / 100
