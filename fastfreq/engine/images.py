"""Images as they come -> chunks of a wanted size, each read once, the user's tensors never touched."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastfreq.vocabulary import checks
from fastfreq.vocabulary.fingerprints import fingerprints

from . import sources

PREDICTED = "predicted"
_LOOKED_AT = 8  # rows and columns of an image, or up to twice as many, that tell it from another one


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """Images that stay on the device while every condition is evaluated on them."""

    images: Tensor  # (n, c, h, w), uint8 or float in [0, 1]
    labels: Tensor  # (n,) int64; -1 where there are none
    ids: Tensor  # (n,) int64
    hashes: Tensor  # (n,) int64, the bits of the uint64 of each image's pixels

    def __len__(self) -> int:
        return self.ids.shape[0]

    def part(self, rows: Any) -> Chunk:
        """Some of its images."""
        return Chunk(*(t[rows] for t in self.tensors))

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All fields."""
        return self.images, self.labels, self.ids, self.hashes

    def as_given_on(self, device: torch.device) -> Chunk:
        """On the device, pixels in the type they came in, in one layout: transforms of others round in another way."""
        images, *rest = (t.to(device, non_blocking=True) for t in self.tensors)
        return Chunk(images.contiguous(), *rest)

    def on(self, device: torch.device, *, channels_last: bool) -> Chunk:
        """On the device, pixels as new float32 in [0, 1] on a CPU, which every condition reads again."""
        images, labels, ids, hashes = (t.to(device, non_blocking=True) for t in self.tensors)
        images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        layout = torch.channels_last if channels_last else torch.contiguous_format
        images = images.detach().contiguous(memory_format=layout)
        return Chunk(images, labels, ids, hashes)


class ImageStream:
    """A single pass over images, cut into chunks.

    Attributes:
        total: number of images, or None where only the pass tells.
        predicted: whether the model's own classes are the labels.

    Args:
        images: whatever `sources.batches` takes.
        labels: (n,) with tensors, "predicted" for the model's own, None with an iterable.
        first_image: id of the first image, checked by `Run`.
        shard: (i, n) keeps the images whose id is i modulo n; checked by `Run`.
        needs_labels: refuse images without labels.
        one_shape: refuse images of several shapes.
        tell: whether somebody asks for `told`.
    """

    def __init__(
        self,
        images: Any,
        labels: Any,
        *,
        first_image: int,
        shard: tuple[int, int],
        needs_labels: bool,
        one_shape: bool = True,
        tell: bool = False,
    ) -> None:
        self._shard, self._first_image, self._one_shape = shard, first_image, one_shape
        self.predicted = isinstance(labels, str)
        if isinstance(labels, str) and labels != PREDICTED:
            raise ValueError(f"expected `labels` as integers, None or {PREDICTED!r}, got {labels!r}")
        self._needs_labels = needs_labels and not self.predicted
        given = None if self.predicted else labels
        source = sources.batches(images, given, refuse_shuffle=True)
        self.total: int | None = None
        self._end = first_image + source.total if source.in_memory and source.total is not None else None
        if source.total is not None:
            mine, n = self._shard
            self.total = len(range(first_image + (mine - first_image) % n, first_image + source.total, n))
        self._shape: tuple[int, ...] | None = None
        self._passed = _Passed() if tell else None
        self._pieces: Iterator[Chunk] = self._select(source)

    def _select(self, batches: sources.Batches) -> Iterator[Chunk]:
        next_id = self._first_image
        for images, labels, _ in batches:
            checks.check_images(images)
            if labels is None and self._needs_labels:
                raise ValueError(
                    f"expected `labels` beside the images, got None; pass them, or labels={PREDICTED!r} to take the "
                    f"model's own predictions"
                )
            if labels is None or self.predicted:
                labels = torch.full((len(images),), -1)
            if self._shape is None:
                self._shape = tuple(images.shape[1:])
            if self._one_shape and tuple(images.shape[1:]) != self._shape:
                raise ValueError(
                    f"expected all images of one shape, got {self._shape} and {tuple(images.shape[1:])}; "
                    f"resize or crop them first"
                )
            if self._passed is not None:
                self._passed.take(images, labels)
            ids = torch.arange(next_id, next_id + len(images))
            next_id += len(images)
            if self._shard[1] > 1:
                keep = ids % self._shard[1] == self._shard[0]
                images, labels, ids = images[keep.to(images.device)], labels[keep.to(labels.device)], ids[keep]
            if len(ids):  # hashes are taken of those images alone that are evaluated here
                yield Chunk(images.detach(), labels.long(), ids, torch.zeros_like(ids))

    @property
    def told(self) -> dict[str, Any] | None:
        """Once it is over, what tells this pass from one over other images; None unless asked for."""
        return None if self._passed is None else self._passed.told

    def may_hold(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the ids images of this pass can have, as far as can be told before it."""
        mine, n = self._shard
        there = (ids >= self._first_image) & (ids % n == mine)
        return there if self._end is None else there & (ids < self._end)

    def peek(self, count: int) -> Chunk | None:
        """The first images, at most `count`, without consuming them; None if there are none."""
        pieces, have = [], 0
        while have < count and (piece := next(self._pieces, None)) is not None:
            pieces.append(piece)
            have += len(piece)
            if not self._one_shape:
                break
        self._pieces = itertools.chain(pieces, self._pieces)
        return _hashed(_joined(pieces).part(slice(count))) if pieces else None

    def chunks(self, size: int, mine: Callable[[Tensor], bool] = lambda _ids: True) -> Iterator[Chunk]:
        """The images in chunks of at most `size`, as equal as the total allows: a partition that a restart repeats.

        Chunks whose ids are not `mine` are left out.
        """
        return (_hashed(chunk) for chunk in self._cut(size) if mine(chunk.ids))

    def _cut(self, size: int) -> Iterator[Chunk]:
        if self.total:
            size = -(-self.total // -(-self.total // size))
        waiting: list[Chunk] = []
        for piece in self._pieces:
            if waiting and piece.images.shape[1:] != waiting[0].images.shape[1:]:
                yield _joined(waiting)
                waiting = []
            waiting.append(piece)
            while sum(map(len, waiting)) >= size:
                joined = _joined(waiting)
                yield joined.part(slice(size))
                rest = joined.part(slice(size, None))
                waiting = [rest] if len(rest) else []
        if waiting:
            yield _joined(waiting)


class _Passed:
    """Which images a pass was over, whatever batches they came in: not by all pixels, which would cost too much."""

    def __init__(self) -> None:
        self._count, self._labels, self._pixels = 0, hashlib.sha256(), hashlib.sha256()

    def take(self, images: Tensor, labels: Tensor) -> None:
        """The next images (n, c, h, w) and their labels (n,)."""
        self._count += len(images)
        self._labels.update(labels.long().cpu().contiguous().numpy().data)
        down, right = (max(1, side // _LOOKED_AT) for side in images.shape[2:])
        some = images.detach()[:, :, down // 2 :: down, right // 2 :: right].contiguous().cpu()
        self._pixels.update(some.view(torch.uint8).numpy().data)

    @property
    def told(self) -> dict[str, Any]:
        """What they were."""
        return {
            "number of images": self._count,
            "labels": self._labels.hexdigest(),
            "images": self._pixels.hexdigest(),
        }


def _hashed(chunk: Chunk) -> Chunk:
    return dataclasses.replace(chunk, hashes=torch.from_numpy(fingerprints(chunk.images).view(np.int64)))


def _joined(pieces: list[Chunk]) -> Chunk:
    if len(pieces) == 1:
        return pieces[0]
    return Chunk(*(torch.cat(tensors) for tensors in zip(*(p.tensors for p in pieces), strict=True)))
