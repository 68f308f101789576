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
        before: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> None:
        self._request, self._size, self._frequencies = request, size, frequencies
        self._ranks, self._before, self._counts = ranks, before, counts
        self.metrics, self.numerics, self.activations = {}, {}, {}

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """As in `Measurement`."""
        asked = dataclasses.replace(self._request, size=self._size, seconds=None)
        return {
            "request": str(asked),
            "counts": self._counts,
            "size": self._size,
            "frequencies": self._frequencies,
        }

    def passes(self, shape: tuple[int, int, int]) -> float:
        """As in `Measurement`: those of an average image."""
        clean = int(self._counts.max()) - int(self._before.max())
        return float((self._counts - self._before).sum() + clean) / len(self._ranks)

    def chunk_size(self, session: Session) -> int:
        """As in `Measurement`."""
        c, h, w = session.shape
        return max(session.pace.batch_size, _CHUNK_BYTES // (4 * c * h * w))

    def pieces(self, session: Session, ids: Tensor) -> list[Tensor]:
        """As in `Measurement`: images that lack the same frequencies, for about one batch of passes."""
        most, full = session.pace.batch_size, 0
        found: list[list[int]] = [[]]
        for rows, members in self._groups(self._ranks[ids.cpu().numpy()]):
            at_once = max(1, most // max(1, len(rows)))
            for i in range(0, len(members), at_once) if len(rows) else (0,):
                some = members[i : i + at_once] if len(rows) else members
                if full and full + len(rows) * len(some) > most:
                    found, full = [*found, []], 0
                found[-1] += some.tolist()
                full += len(rows) * len(some)
        return [torch.tensor(sorted(piece)) for piece in found if piece]

    def _groups(self, ranks: NDArray[np.int64]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """(frequencies, places of the images that lack them), none included."""
        lacks = (ranks[None] >= self._before[:, None]) & (ranks[None] < self._counts[:, None])
        groups: dict[bytes, list[int]] = {}
        for i in range(len(ranks)):
            groups.setdefault(lacks[:, i].tobytes(), []).append(i)
        return [(np.flatnonzero(lacks[:, members[0]]), np.array(members)) for members in groups.values()]

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
        fresh = np.flatnonzero((ranks >= self._before.max()) & (ranks < self._counts.max()))
        if len(fresh):
            part = chunk.part(torch.from_numpy(fresh))
            seen = session.clean(part, measured={"margin": margin})
            values = seen.values["margin"][0].numpy()
            # logits that are equal, as in half precision: the class is the one that a network's argmax says
            clean[fresh] = np.where((values == 0) & seen.wrong(part.labels)[0], -_TIED, values)
        for rows, members in self._groups(ranks):
            if not len(rows):
                continue
            part = chunk.part(torch.from_numpy(members))
            at = np.ix_(rows, members)
            wrong[at], margins[at] = self._outcomes(session, part, torch.from_numpy(rows).to(session.device))
        return {"clean_margin": clean, "wrong": Outcomes.of(wrong), "margins": margins}

    def _outcomes(self, session: Session, chunk: Chunk, rows: Tensor) -> tuple[NDArray[np.bool_], NDArray[np.float16]]:
        how = self._request
        these, waves = self._tensor[rows], self._oriented[rows]
        signs = kernels.fourier_signs(
            chunk.ids, these, session.shape, seed=how.seed, signs=how.convention.signs, common=how.convention.common
        )

        make = perturbed(session, chunk, waves, signs, eps=how.eps, convention=how.convention)
        seen = session.outcomes(
            chunk,
            len(rows),
            make,
            measured={"margin": margin},
            describe=lambda row: f"at frequency {tuple(these[row].tolist())}",
        )
        return seen.wrong(chunk.labels), seen.values["margin"].numpy().clip(-6e4, 6e4).astype(np.float16)


class LaterRound(Round):
    """After the first: labels were looked at there."""

    needs_labels = False


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """(n,) logit of the true class less the largest other: below zero where the prediction is wrong."""
    true = labels[:, None]
    others = logits.scatter(1, true, float("-inf")).amax(dim=1)
    return logits.gather(1, true)[:, 0] - others
