"""A heat map of a few percent of its forward passes: other images at each frequency, counted."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, Unpack

import fastfreq_kernels as kernels
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastfreq.engine import sources
from fastfreq.engine.images import PREDICTED, Chunk
from fastfreq.engine.measure import measure
from fastfreq.engine.measurement import Measurement
from fastfreq.engine.run import RunOptions
from fastfreq.engine.session import Session
from fastfreq.inputs.adaptive_heatmap.rounds import margin
from fastfreq.inputs.heatmap.measurement import perturbed
from fastfreq.vocabulary import checks, conventions
from fastfreq.vocabulary.conventions import Convention

from .draws import Draws, by_length, share_of
from .result import QuickHeatmap

EDGES = (0.0, 1.0, 2.5, 5.0, 10.0)  # margins of clean images between kinds: wrong, then ever more certain


def quick_heatmap(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    eps: float,
    share: float = 0.03,
    size: int | tuple[int, int] | None = None,
    convention: str | Convention = "yin2019",
    seed: int = 0,
    **run: Unpack[RunOptions],
) -> QuickHeatmap:
    """Predict the Fourier heat map of a classifier from a small share of its forward passes.

    What `heatmap` measures on all images at each frequency is here measured on a few at each, other ones at each:
    what one image says is alike at neighbouring frequencies, so that the luck of the same few would look like a smooth
    map, while that of many is noise. Every image is used, at as many frequencies as the share pays, in turns
    (`Draws`). Outcomes are those that `heatmap` with the same convention and seed would find. The map is then
    what `smooth_shares` predicts that all images would show, a Gaussian process over frequencies, with a 95 % interval.

    The interval is that of the error of these images, which the whole map would measure, not of those that they are a
    sample of. It rests on neighbouring frequencies being alike: no theorem. On measured outcomes of four networks, 14
    to 30 images a frequency, it held the whole map in 96 to 99 % of cells. A cell that differs from its neighbours, as
    where a map changes within a cell or two, may be missed nearly always: the worst of each network's in 5 to 50 % of
    draws, one of another network in 8 of 10. With fewer images it may hold less (`smooth_shares`). For intervals that
    hold without this use `adaptive_heatmap`. With share=1 the map is that of `heatmap`.

    Args:
        model: as for `heatmap`.
        images: as for `heatmap`; images in a random order are not needed.
        labels: as for `heatmap`.
        eps: as for `heatmap`.
        share: forward passes over those of `heatmap`, images as they are included, in 0 .. 1. From 5 passes an image
            one of them is spent on each as it is, which makes what is left say more; below, on some.
        size: as for `heatmap`.
        convention: as for `heatmap`.
        seed: key of the random signs, and of which images a frequency gets: a function of it and their ids alone.
        **run: `RunOptions`: precision, batch_size, device, shard, checkpoint, progress and more.

    Returns:
        A QuickHeatmap: `.error`, `.low`, `.high`, `.pilot`, `.count`, `.passes`, `.share_of_passes`.

    Raises:
        ValueError: a bad argument, or too few images for every frequency to get one at this share; the message says
            what was expected, what came and the way out.
        TypeError: an argument of the wrong type, or a model whose output holds no logits.
        FloatingPointError: logits that are NaN or infinite.

    Source: Yin et al. 2019 for the map.
    """
    predicted = isinstance(labels, str) and labels == PREDICTED
    what = _QuickMeasurement(
        eps=checks.check_eps(eps),
        share=share_of(share),
        size=size,
        convention=conventions.resolve(convention),
        seed=checks.check_seed(seed),
        predicted=predicted,
    )
    if not run.get("first_image"):  # else these are some of more, nobody knows how many
        what.total = sources.batches(images, None if isinstance(labels, str) else labels).total
    return measure(what, model, images, labels, run)


class _QuickMeasurement(Measurement):
    """Some frequencies on every image."""

    result, label, clean_first = QuickHeatmap, "quick map", True

    def __init__(
        self,
        *,
        eps: float,
        share: float,
        size: int | tuple[int, int] | None,
        convention: Convention,
        seed: int,
        predicted: bool,
    ) -> None:
        self._eps, self._share, self._size, self._convention, self._seed = eps, share, size, convention, seed
        self._predicted = predicted
        self.total: int | None = None

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """As in `Measurement`."""
        size = checks.check_size(self._size, shape[1:])
        self._frequencies = checks.check_frequencies(None, shape[1:], size)
        self._draws = Draws(len(self._frequencies), self._share, predicted=self._predicted, seed=self._seed)
        if self.total is not None:
            self._draws.check(self.total)
        return {
            "convention": self._convention,
            "eps": self._eps,
            "share": self._share,
            "seed": self._seed,
            "size": size,
            "edges": EDGES if self._draws.all_clean else (),
            "frequencies": self._frequencies,
        }

    def passes(self, shape: tuple[int, int, int]) -> float:
        """As in `Measurement`."""
        return float(self._draws.rate) + self._draws.all_clean

    def start(self, session: Session) -> None:
        """As in `Measurement`."""
        self._tensor = torch.from_numpy(self._frequencies).to(session.device)
        waves = self._convention.oriented(self._frequencies, session.shape[1:])
        self._oriented = torch.from_numpy(waves).to(session.device)

    # ---------------------------------------------------------------- one chunk
    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        """As in `Measurement`."""
        rows, f = self._draws.of(chunk.ids.cpu().numpy()), len(self._frequencies)
        as_they_are = np.array([self._draws.all_clean or f in row for row in rows])
        rows = [row[row < f] for row in rows]
        kinds, clean_wrong = self._clean(session, chunk, np.flatnonzero(as_they_are))
        counts = np.zeros((2, f, self._kinds), np.int64)
        for members in by_length(rows):
            each = np.stack([rows[i] for i in members], axis=1)
            wrong = self._outcomes(session, chunk.part(torch.from_numpy(members)), each)
            of = np.broadcast_to(kinds[members], each.shape)
            np.add.at(counts[0], (each, of), 1)
            np.add.at(counts[1], (each[wrong], of[wrong]), 1)
        return {
            "drawn": counts[0],
            "wrong": counts[1],
            "kinds": np.bincount(kinds, minlength=self._kinds),
            "clean_drawn": int(as_they_are.sum()),
            "clean_wrong": clean_wrong,
        }

    @property
    def _kinds(self) -> int:
        return len(EDGES) + 1 if self._draws.all_clean else 1

    def _clean(self, session: Session, chunk: Chunk, members: NDArray[np.intp]) -> tuple[NDArray[np.int64], int]:
        """The kind of every image, and how many of the members are misclassified as they are."""
        kinds = np.zeros(len(chunk), np.int64)
        if not len(members):
            return kinds, 0
        part = chunk.part(torch.from_numpy(members))
        seen = session.clean(part, measured={"margin": margin})
        if self._draws.all_clean:
            kinds = np.digitize(seen.values["margin"][0].numpy(), EDGES)
        return kinds, int(seen.wrong(part.labels).sum())

    def _outcomes(self, session: Session, chunk: Chunk, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(m, n) where image j at frequency rows[i, j] is misclassified."""
        how = self._convention
        numbers = torch.from_numpy(rows).to(session.device)
        makes: list[Callable[[slice, slice, int], Iterable[Tensor]]] = []
        for j in range(len(chunk)):
            alone = chunk.part(slice(j, j + 1))
            signs = kernels.fourier_signs(
                alone.ids, self._tensor[numbers[:, j]], session.shape, seed=self._seed, signs=how.signs,
                common=how.common,
            )  # fmt: skip
            waves = self._oriented[numbers[:, j]]
            makes.append(perturbed(session, alone, waves, signs, eps=self._eps, convention=how))

        def make(part: slice, at: slice, each: int) -> tuple[Tensor, ...]:
            one, m = slice(0, 1), part.stop - part.start
            # (m, c, h, w) of every image, then image by image within each of its frequencies
            batches = [next(iter(made(one, at, at.stop - at.start))) for made in makes[part]]
            together = torch.stack(batches, dim=1).flatten(0, 1)
            return together.contiguous(memory_format=session.network.layout).split(each * m)

        def describe(row: int) -> str:
            return f"at its frequency number {row}"

        return session.outcomes(chunk, len(rows), make, describe=describe).wrong(chunk.labels)

    def finish(self, result: QuickHeatmap) -> None:
        """As in `Measurement`."""
        without = int((result.drawn.sum(axis=1) == 0).sum())
        if without and self.total is None:
            warnings.warn(
                f"{without} of {len(result.frequencies)} frequencies got no image: {result.n_images} images at a share "
                f"of {self._share:g} are too few for this `size`; their errors are guesses from their neighbours",
                stacklevel=4,
            )
