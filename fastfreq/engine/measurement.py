"""What differs between a heat map, a filter curve, an attack: all that a measurement has to say."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from fastfreq.results.result import ImagesResult
from fastfreq.vocabulary.metrics import Metric

from .images import Chunk
from .session import Session

_CHUNKS = 2048  # that images are cut into where it costs nothing: eight for each of 256 ranks
_BATCHES = 64  # of passes in a chunk, at least: the last one, which may be nearly empty, is one of so many


def images_of_a_chunk(batch: int, passes: float, total: int | None) -> int:
    """Images whose conditions fill batches by themselves: few, so that many ranks have chunks to take.

    A divisor of the batch, so that a batch is some conditions of all images of a chunk: the largest that makes 2,048
    chunks of `total` images, but none with less than 64 batches of passes. A whole batch of images where they have few
    conditions, or nobody knows how many there are. It does not depend on how many ranks there are: no figure may.

    Args:
        batch: images in one forward pass.
        passes: of each image.
        total: images; None where it is not known.
    """
    fill = [d for d in range(1, batch + 1) if batch % d == 0 and d * passes >= _BATCHES * batch]
    if total is None or not fill:
        return batch
    return max((d for d in fill if total >= _CHUNKS * d), default=fill[0])


class Measurement:
    """One measurement, ready to be made; `measure` makes it.

    Attributes:
        result: class of what comes back.
        label: beside the progress bar.
        gradients: whether the network is differentiated.
        needs_labels: whether images need labels.
        clean_first: whether `evaluate` starts with `Session.clean` of the images as they are.
        one_shape: whether all images must have one shape.
        as_given: whether images come as they were given, uint8 or of any float type, and not as float32.
        metrics: name -> metric, where there are any besides the error.
        numerics: what rounds beyond the options of a run, such as {"share_stem": True}.
        watched: names of modules whose outputs must not change when batch norms are folded.
        activations: what hooks leave of a forward pass; the next one may overwrite it.
    """

    result: ClassVar[type[ImagesResult]]
    label: ClassVar[str]
    gradients: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = True
    clean_first: ClassVar[bool] = False
    one_shape: ClassVar[bool] = True
    as_given: ClassVar[bool] = False
    metrics: dict[str, Metric]
    numerics: dict[str, object]
    watched: tuple[str, ...] = ()
    activations: dict[str, Tensor]

    def settings(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """Fields of the result that are the same for all images: what was asked for. Refuses what does not fit `shape`.

        Conditions too. `model`, `shape` and `details` are added by `measure`.
        """
        raise NotImplementedError

    def keys(self) -> dict[str, list[str]]:
        """Fields of the result that are dicts, with the keys they will have: names of metrics and layers."""
        return {}

    def passes(self, shape: tuple[int, int, int]) -> float:
        """Forward passes for each image, for the bar and for how long timing may take."""
        raise NotImplementedError

    def attach(self, session: Session) -> None:
        """Get ready on the float32 network, before it is cast: hooks, first layers."""

    def start(self, session: Session) -> None:
        """Get ready on the network as it will run: tensors on its device."""

    def batch_size(self, shape: tuple[int, int, int], device: torch.device) -> int | None:
        """Images at a time on a device, where forward passes do not decide it; None times a few."""
        return None

    def chunk_size(self, session: Session) -> int:
        """Images that stay on the device together."""
        return session.pace.batch_size

    def pieces(self, session: Session, ids: Tensor) -> list[Tensor]:
        """Places of a chunk's images that are evaluated together, of which ranks take one after the other.

        Where one chunk is much of the work. They must not depend on how many ranks there are.
        """
        return [torch.arange(len(ids))]

    def predicted(self, ids: Tensor) -> Tensor | None:
        """Classes that stand in for labels="predicted", of images of which they are known; None: a pass tells them."""
        return None

    def evaluate(self, session: Session, chunk: Chunk) -> dict[str, Any]:
        """The other fields of the result, of the images of one chunk.

        `image_ids`, `image_hashes` and, where the result has them, `labels` are added by `measure`.
        """
        raise NotImplementedError

    def finish(self, result: Any) -> None:
        """A last look at the whole: warnings."""

    def close(self) -> None:
        """Take hooks off again."""
