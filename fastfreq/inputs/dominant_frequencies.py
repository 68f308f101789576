"""Class-wise dominant frequencies: how much the loss grows when a frequency is removed from the images."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from fastfreq.core.dominance import DominantFrequencyResult, patches
from fastfreq.vocabulary import checks, fourier

from ._conditions import Alter, ConditionLoop, on_device, prepare
from ._network import Precision


def dominant_frequencies(
    model: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    size: int | tuple[int, int] | None = None,
    patch: int = 1,
    precision: Precision = "fp32",
    channels_last: bool = True,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    first_image: int = 0,
    shard: tuple[int, int] = (0, 1),
    progress: bool = False,
) -> DominantFrequencyResult:
    """Measure, class by class, how much the loss grows when each frequency is removed from the images.

    For every distinct frequency k of the map the network sees x - x_k, where x_k holds the coefficients of x at k
    and -k alone, and the increase of the cross entropy is averaged over the images of each true class. Frequencies
    are removed from what the network sees (after normalisation, as in the authors' code): removing zero frequency
    leaves the mean colour of the training images. Nothing is clipped. Each image is decoded and transformed once.

    Args:
        model: as for `heatmap`.
        images: as for `heatmap`.
        labels: as for `heatmap`.
        size: side, or (rows, columns), of the centred map; None for all h x w frequencies.
        patch: width of the square of frequencies that is removed at a time, together with its mirror image.
        precision: as for `heatmap`; Fourier transforms are float32.
        channels_last: as for `heatmap`.
        batch_size: altered images in one forward pass; halved when memory runs out.
        device: where to run; None for where the model is.
        first_image: id of the first image.
        shard: (i, n) takes the images whose id is i modulo n.
        progress: show a progress bar.

    Returns:
        A DominantFrequencyResult: `.loss_increase(label)`, `.dominant(label)`, `.plot()`.

    Raises:
        ValueError: a bad argument.
        TypeError: an argument of the wrong type.
        FloatingPointError: logits that are NaN or infinite.

    Source: Wang, Veldhuis, Brune, Strisciuglio 2023, "What do neural networks learn in image classification? A
        frequency shortcut perspective" (ICCV), section 3.
    """
    network, stream, shape, details = prepare(
        model,
        images,
        labels,
        precision=precision,
        channels_last=channels_last,
        device=device,
        first_image=first_image,
        shard=shard,
    )
    map_size = checks.check_size(size, shape[1:])
    if not 1 <= patch <= max(map_size):
        raise ValueError(f"expected a `patch` from 1 to the map's {max(map_size)}, got {patch}")
    loop = ConditionLoop(network, batch_size=batch_size, shape=shape)
    half, count = _half_plane(shape[1:], map_size, patch)
    owner = torch.from_numpy(half).to(network.device)
    sums = _ClassSums(count)
    total = None if stream.total is None else stream.total * (count + 1)
    with torch.inference_mode(), tqdm(total=total, unit="img", desc="frequencies", disable=not progress) as bar:
        for chunk in stream.chunks(loop.batch_size):
            here = on_device(chunk, network.device)
            alter = _removal(here.images, network.mean, owner, count)
            wrong, loss = loop.outcomes(here, count + 1, alter, bar.update)
            sums.add(chunk.ids.numpy(), chunk.labels.cpu().numpy(), wrong.numpy(), loss.numpy())
    return sums.result(shape, map_size, patch, details)


def _half_plane(shape: tuple[int, int], size: tuple[int, int], patch: int) -> tuple[NDArray[np.int64], int]:
    """Patch number, from 1, of each bin (h, w // 2 + 1) of a real FFT, 0 outside the map; and how many patches."""
    h, w = shape
    frequencies, _ = fourier.unique_frequencies(shape, size)
    tiles, patch_of = patches(shape, size, patch)
    half = np.zeros((h, w // 2 + 1), dtype=np.int64)
    for each in (frequencies, -frequencies):  # the first and last column hold both a frequency and its twin
        row, column = each[:, 0] % h, each[:, 1] % w
        inside = column <= w // 2
        half[row[inside], column[inside]] = 1 + patch_of[inside]
    return half, len(tiles)


def _removal(images: Tensor, mean: Tensor | None, owner: Tensor, count: int) -> Alter:
    """Images (n, c, h, w) without the patch whose number, 1 .. count, is the condition; 0 removes nothing."""
    h, w = images.shape[2:]
    spectrum = torch.fft.rfft2(images if mean is None else images - mean[:, None, None])

    def alter(part: slice, conditions: slice) -> Tensor:
        number = torch.arange(conditions.start, min(conditions.stop, count + 1), device=owner.device)
        number = torch.where(number == 0, -1, number)  # bins outside the map have number 0
        mask = (owner == number[:, None, None])[:, None, None]
        removed = torch.fft.irfft2(spectrum[part] * mask, s=(h, w))
        return (images[part] - removed).flatten(0, 1)

    return alter


class _ClassSums:
    """Sums over the images of each class."""

    def __init__(self, count: int) -> None:
        self._ids: list[NDArray[np.int64]] = []
        self._count: dict[int, int] = defaultdict(int)
        # rows: loss increases and their squares, wrong; and, of whole images, wrong and loss
        self._patches: dict[int, NDArray[np.float64]] = defaultdict(lambda: np.zeros((3, count)))
        self._clean: dict[int, NDArray[np.float64]] = defaultdict(lambda: np.zeros(2))

    def add(
        self,
        ids: NDArray[np.int64],
        labels: NDArray[np.int64],
        wrong: NDArray[np.bool_],
        loss: NDArray[np.float64],
    ) -> None:
        """Take in outcomes (1 + patches, n), whole images first."""
        self._ids.append(ids)
        for label in np.unique(labels).tolist():
            own = labels == label
            more = loss[1:, own] - loss[0, own]
            self._count[label] += int(own.sum())
            self._patches[label] += [more.sum(axis=1), np.square(more).sum(axis=1), wrong[1:, own].sum(axis=1)]
            self._clean[label] += [wrong[0, own].sum(), loss[0, own].sum()]

    def result(
        self, shape: tuple[int, int, int], size: tuple[int, int], patch: int, details: dict[str, str]
    ) -> DominantFrequencyResult:
        classes = sorted(self._count)
        by_patch, clean = (np.stack([d[label] for label in classes]) for d in (self._patches, self._clean))
        return DominantFrequencyResult(
            shape=shape,
            size=size,
            patch=patch,
            image_ids=np.sort(np.concatenate(self._ids)),
            classes=np.array(classes, dtype=np.int64),
            class_count=np.array([self._count[label] for label in classes], dtype=np.int64),
            loss_sum=by_patch[:, 0],
            loss_squares=by_patch[:, 1],
            wrong=by_patch[:, 2].astype(np.int64),
            clean_wrong=clean[:, 0].astype(np.int64),
            clean_loss=clean[:, 1],
            details=details,
        )
