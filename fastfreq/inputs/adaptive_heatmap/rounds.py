"""One round of a map to a stated precision, as the engine sees it: frequencies that some images lack."""

from __future__ import annotations

import dataclasses
from typing import Any

import fastfreq_kernels as kernels
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastfreq.engine.images import Chunk
from fastfreq.engine.measurement import Measurement
from fastfreq.engine.session import Session
from fastfreq.inputs.heatmap.measurement import perturbed
from fastfreq.results.folds import Outcomes, by_image, condition, same
from fastfreq.results.result import ModelResult

from .arguments import Request
from .plans import Known, Wanted

_CHUNK_BYTES = 64 << 20  # of images looked at together: those that lack the same frequencies are run together
_TIED = 1e-30  # margin below zero of a wrong class whose logit is the true one's


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RoundOutcomes(ModelResult, kind="adaptive_heatmap_round"):
    """What one round found of all images; zeros where it did not look. `request`, `counts`: what it was asked for."""

    request: str = same()
    counts: NDArray[np.int64] = same()
    size: tuple[int, int] = same()
    frequencies: NDArray[np.int64] = condition()
    labels: NDArray[np.int64] = by_image()
    clean_margin: NDArray[np.float64] = by_image()
    wrong: Outcomes = by_image(conditions=0)
    margins: NDArray[np.float16] = by_image(conditions=0)


class Round(Measurement):
    """The frequencies that each image lacks."""

    result, label = RoundOutcomes, "heat map"

    def __init__(
        self,
        request: Request,
        size: tuple[int, int],
        frequencies: NDArray[np.int64],
        ranks: NDArray[np.int64],
        known: Known,
        wanted: Wanted,
    ) -> None:
        self._request, self._size, self._frequencies = request, size, frequencies
        self._ranks, self._known, self._wanted = ranks, known, wanted
        self.metrics, self.numerics, self.activations = {}, {}, {}

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """As in `Measurement`."""
        asked = dataclasses.replace(self._request, size=self._size, seconds=None)
        return {
            "request": str(asked),
            "counts": self._wanted.tried.sum(axis=1),
            "size": self._size,
            "frequencies": self._frequencies,
        }

    def passes(self, shape: tuple[int, int, int]) -> float:
        """As in `Measurement`: those of an average image."""
        known, wanted = self._known, self._wanted
        return float((wanted.tried & ~known.tried).sum() + wanted.images - known.images) / len(self._ranks)

    def chunk_size(self, session: Session) -> int:
        """As in `Measurement`."""
        c, h, w = session.shape
        return max(session.pace.batch_size, _CHUNK_BYTES // (4 * c * h * w))

    def pieces(self, session: Session, ids: Tensor) -> list[Tensor]:
        """As in `Measurement`: images for about one batch of passes, one after the other."""
        if len(ids) and int(ids.max()) >= len(self._ranks):
            raise ValueError(
                f"expected as many images in every pass, got more than {len(self._ranks)}; read them into a list first"
            )
        most, full, found = session.pace.batch_size, 0, [[0]]
        for i, passes in enumerate(self._lacks(self._ranks[ids.cpu().numpy()]).sum(axis=0).tolist()):
            if i and full + passes > most:
                found, full = [*found, []], 0
            found[-1] += [i] if i else []
            full += passes
        return [torch.tensor(piece) for piece in found]

    def _lacks(self, ranks: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(f, n) which frequencies images of these ranks lack."""
        return self._wanted.tried[:, ranks] & ~self._known.tried[:, ranks]

    def start(self, session: Session) -> None:
        """As in `Measurement`."""
        self._tensor = torch.from_numpy(self._frequencies).to(session.device)
        oriented = self._request.convention.oriented(self._frequencies, session.shape[1:])
        self._oriented = torch.from_numpy(oriented).to(session.device)

    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        """As in `Measurement`."""
        ranks = self._ranks[chunk.ids.cpu().numpy()]
        f, n = len(self._frequencies), len(chunk)
        wrong, margins, clean = np.zeros((f, n), bool), np.zeros((f, n), np.float16), np.zeros(n)
        fresh = np.flatnonzero((ranks >= self._known.images) & (ranks < self._wanted.images))
        if len(fresh):
            part = chunk.part(torch.from_numpy(fresh))
            seen = session.clean(part, measured={"margin": margin})
            values = seen.values["margin"][0].numpy()
            # logits that are equal, as in half precision: the class is the one that a network's argmax says
            clean[fresh] = np.where((values == 0) & seen.wrong(part.labels)[0], -_TIED, values)
        images, rows = np.nonzero(self._lacks(ranks).T)  # image by image
        for i in range(0, len(rows), session.batch_size):
            some = slice(i, i + session.batch_size)
            at = rows[some], images[some]
            wrong[at], margins[at] = self._outcomes(session, chunk, *at)
        return {"clean_margin": clean, "wrong": Outcomes.of(wrong), "margins": margins}

    def _outcomes(
        self, session: Session, chunk: Chunk, rows: NDArray[np.intp], images: NDArray[np.intp]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float16]]:
        """Of pairs of a frequency and an image."""
        how = self._request
        numbers = torch.from_numpy(rows).to(session.device)
        pairs = chunk.part(torch.from_numpy(images))

        def make(part: slice, _rows: slice, _each: int) -> tuple[Tensor, ...]:
            batches = []
            for image in np.unique(images[part]):
                at = numbers[part][torch.from_numpy(images[part] == image)]
                alone = chunk.part(slice(int(image), int(image) + 1))
                signs = kernels.fourier_signs(
                    alone.ids, self._tensor[at], session.shape, seed=how.seed, signs=how.convention.signs,
                    common=how.convention.common,
                )  # fmt: skip
                of_all = perturbed(session, alone, self._oriented[at], signs, eps=how.eps, convention=how.convention)
                batches += of_all(slice(0, 1), slice(0, len(at)), len(at))
            return (torch.cat(batches).contiguous(memory_format=session.network.layout),)

        seen = session.outcomes(
            pairs,
            1,
            make,
            measured={"margin": margin},
            describe=lambda _row: f"at one of the frequencies {self._frequencies[np.unique(rows)].tolist()}",
        )
        return seen.wrong(pairs.labels)[0], seen.values["margin"][0].numpy().clip(-6e4, 6e4).astype(np.float16)


class LaterRound(Round):
    """After the first: labels were looked at, or predicted, there."""

    needs_labels = False
    labels: NDArray[np.int64]

    def predicted(self, ids: Tensor) -> Tensor:
        """As in `Measurement`."""
        return torch.from_numpy(self.labels[ids.cpu().numpy()])


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """(n,) logit of the true class less the largest other: below zero where the prediction is wrong."""
    true = labels[:, None]
    others = logits.scatter(1, true, float("-inf")).amax(dim=1)
    return logits.gather(1, true)[:, 0] - others
