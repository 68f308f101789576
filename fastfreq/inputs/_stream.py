"""Images as they come (tensors, arrays, any iterable of batches) -> chunks of a wanted size, each read once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastfreq.vocabulary import checks


class Chunk(NamedTuple):
    """Images that stay on the device while every frequency is evaluated on them."""

    images: Tensor  # (n, c, h, w), uint8 or float in [0, 1]
    labels: Tensor  # (n,) int64
    ids: Tensor  # (n,) int64


class ImageStream:
    """A single pass over images, cut into chunks.

    Args:
        images: (n, c, h, w) tensor or array, or an iterable of (images, labels) batches.
        labels: (n,) with tensors; None with an iterable.
        first_image: id of the first image.
        shard: (i, n) keeps the images whose id is i modulo n.
        skip: ids that were done before.
    """

    def __init__(
        self, images: Any, labels: Any, *, first_image: int, shard: tuple[int, int], skip: frozenset[int]
    ) -> None:
        if first_image < 0:
            raise ValueError(f"expected `first_image` from 0, got {first_image}")
        self._shard = checks.check_shard(shard)
        self._skip = skip
        self._first_image = first_image
        self.total: int | None = None
        self._shape: tuple[int, ...] | None = None
        if isinstance(images, (Tensor, np.ndarray)):
            if labels is None:
                raise ValueError("expected `labels` beside a tensor of images, got None")
            images, labels = _tensor(images), _tensor(labels)
            checks.check_images(images)
            checks.check_labels(labels, len(images))
            batches: Iterable[Any] = [(images, labels)]
            self.total = sum(map(self._wanted, range(first_image, first_image + len(images))))
        elif isinstance(images, Iterable):
            if labels is not None:
                raise ValueError("expected no `labels` beside an iterable of (images, labels) batches, got both")
            batches = images
            dataset: Any = getattr(images, "dataset", images)
            if hasattr(dataset, "__len__") and (dataset is not images or hasattr(images, "batch_size")):
                self.total = sum(map(self._wanted, range(first_image, first_image + len(dataset))))
        else:
            raise TypeError(
                f"expected `images` as a tensor, an array or an iterable of (images, labels) batches, "
                f"got {type(images).__name__}"
            )
        self._pieces = self._select(batches)

    def _wanted(self, image_id: int) -> bool:
        return image_id % self._shard[1] == self._shard[0] and image_id not in self._skip

    def _select(self, batches: Iterable[Any]) -> Iterator[Chunk]:
        next_id = self._first_image
        for batch in batches:
            if not (isinstance(batch, (tuple, list)) and len(batch) >= 2):
                raise TypeError(f"expected batches of (images, labels), got {type(batch).__name__}")
            images, labels = _tensor(batch[0]), _tensor(batch[1])
            checks.check_images(images)
            checks.check_labels(labels, len(images))
            if self._shape is None:
                self._shape = tuple(images.shape[1:])
            if tuple(images.shape[1:]) != self._shape:
                raise ValueError(
                    f"expected all images of one shape, got {self._shape} and {tuple(images.shape[1:])}; "
                    f"resize or crop them first"
                )
            ids = torch.arange(next_id, next_id + len(images))
            next_id += len(images)
            if self._shard[1] > 1 or self._skip:
                keep = torch.tensor([self._wanted(i) for i in ids.tolist()], dtype=torch.bool)
                images, labels, ids = images[keep], labels[keep.to(labels.device)], ids[keep]
            if len(ids):
                yield Chunk(images, labels.long(), ids)

    def peek(self, count: int) -> Chunk | None:
        """The first images, at most `count`, without consuming them; None if there are none."""
        pieces, have = [], 0
        while have < count and (piece := next(self._pieces, None)) is not None:
            pieces.append(piece)
            have += len(piece.ids)
        self._pieces = itertools.chain(pieces, self._pieces)
        return Chunk(*(t[:count] for t in _joined(pieces))) if pieces else None

    def chunks(self, size: int) -> Iterator[Chunk]:
        """The remaining images in chunks of at most `size`, as equal as the total allows."""
        if self.total:
            size = -(-self.total // -(-self.total // size))
        waiting: list[Chunk] = []
        for piece in self._pieces:
            waiting.append(piece)
            while sum(len(p.ids) for p in waiting) >= size:
                joined = _joined(waiting)
                yield Chunk(*(t[:size] for t in joined))
                rest = Chunk(*(t[size:] for t in joined))
                waiting = [rest] if len(rest.ids) else []
        if waiting:
            yield _joined(waiting)


def _joined(pieces: list[Chunk]) -> Chunk:
    return pieces[0] if len(pieces) == 1 else Chunk(*(torch.cat(tensors) for tensors in zip(*pieces, strict=True)))


def _tensor(values: Any) -> Tensor:
    if isinstance(values, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(values))
    return torch.as_tensor(values)
