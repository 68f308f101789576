"""Chunks of images as they are finished -> one HeatmapResult."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastfreq.core import merging
from fastfreq.core.results import HeatmapResult
from fastfreq.vocabulary.conventions import Convention

from ._loop import Block
from ._stream import Chunk


class Accumulator:
    """Sums, counts and outcomes so far."""

    def __init__(
        self,
        convention: Convention,
        eps: float,
        seed: int,
        shape: tuple[int, int, int],
        size: tuple[int, int],
        frequencies: NDArray[np.int64],
        metrics: tuple[str, ...],
        layers: tuple[str, ...],
        details: dict[str, str],
    ) -> None:
        f = len(frequencies)
        self._fixed: dict[str, Any] = {
            "convention": convention,
            "eps": eps,
            "seed": seed,
            "shape": shape,
            "size": size,
            "frequencies": frequencies,
            "details": details,
        }
        self._before: HeatmapResult | None = None
        self._ids: list[NDArray[np.int64]] = []
        self._labels: list[NDArray[np.int64]] = []
        self._clean: list[NDArray[np.bool_]] = []
        self._wrong: list[NDArray[np.uint8]] = []  # (n, ceil(f / 8)): frequencies packed, images still to come
        self._sums = {name: np.zeros((f, 2)) for name in metrics}
        self._clean_sums = {name: np.zeros(2) for name in metrics}
        self._layers = {name: np.zeros((f, 3)) for name in layers}
        self._norms = np.zeros((f, 2))

    def resume(self, before: HeatmapResult) -> None:
        """Go on from a checkpoint, after checking that it is of this very measurement."""
        merging.check_same_measurement(self.result(), before, merging.MEASUREMENT)
        if not np.array_equal(before.frequencies, self._fixed["frequencies"]):
            raise ValueError("expected a checkpoint of the same frequencies, it holds others")
        if before.details["model_fingerprint"] != self._fixed["details"]["model_fingerprint"]:
            raise ValueError("expected a checkpoint of the same weights, it was made with others")
        for name in ("precision", "compile", "share_stem", "fold_batch_norm"):  # each rounds in its own way
            now, then = (details.get(name, "False") for details in (self._fixed["details"], before.details))
            if now != then:
                raise ValueError(f"expected a checkpoint made with the same {name}, got {now} and {then}")
        self._before = before

    def add(
        self, chunk: Chunk, clean: NDArray[np.bool_], values: Tensor, blocks: list[Block], means: frozenset[str]
    ) -> None:
        """Take in one finished chunk; metrics among `means` have no value per image, so no sum of squares."""
        self._ids.append(chunk.ids.numpy())
        self._labels.append(chunk.labels.cpu().numpy())
        self._clean.append(clean)
        self._wrong.append(np.packbits(torch.cat([b.wrong for b in blocks]).numpy().T, axis=1))
        self._norms += torch.cat([b.norms for b in blocks]).numpy()
        for j, name in enumerate(self._sums):
            each = torch.cat([b.values[j] for b in blocks])
            self._sums[name] += torch.stack([each.sum(dim=1), each.square().sum(dim=1)], dim=1).numpy()
            self._clean_sums[name] += [float(values[j].sum()), float(values[j].square().sum())]
            if name in means:
                self._sums[name][:, 1] = self._clean_sums[name][1] = np.nan
        for j, name in enumerate(self._layers):
            self._layers[name] += torch.cat([b.layers[j] for b in blocks], dim=1).sum(dim=2).T.numpy()

    @property
    def n_images(self) -> int:
        """Images taken in."""
        return sum(map(len, self._ids))

    def result(self) -> HeatmapResult:
        """Everything so far."""
        f, n = len(self._fixed["frequencies"]), self.n_images
        ids = np.concatenate(self._ids) if n else np.zeros(0, np.int64)
        order = np.argsort(ids)
        by_image = np.concatenate(self._wrong) if n else np.zeros((0, (f + 7) // 8), np.uint8)
        wrong = np.empty((f, (n + 7) // 8), np.uint8)
        for byte in range(by_image.shape[1]):  # eight frequencies at a time keep the unpacked outcomes small
            rows = slice(8 * byte, 8 * byte + 8)
            bits = np.unpackbits(by_image[order, byte : byte + 1], axis=1)
            wrong[rows] = np.packbits(bits.T, axis=1)[: f - 8 * byte]
        fresh = HeatmapResult(
            **self._fixed,
            image_ids=ids[order],
            labels=(np.concatenate(self._labels) if n else ids)[order],
            wrong=wrong,
            clean_wrong=(np.concatenate(self._clean) if n else np.zeros(0, np.bool_))[order],
            sums={k: v.copy() for k, v in self._sums.items()},
            clean_sums={k: v.copy() for k, v in self._clean_sums.items()},
            layers={k: v.copy() for k, v in self._layers.items()},
            norms=self._norms.copy(),
        )
        return fresh if self._before is None else self._before + fresh
