"""Images under many conditions (noise in a band, frequencies removed) -> errors and losses, batch by batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastfreq.vocabulary import checks

from ._loop import is_out_of_memory
from ._network import Network, Precision, fingerprint
from ._stream import Chunk, ImageStream

# (images of the chunk, conditions) -> pixels (k m, c, h, w) as the model takes them, condition-major
Alter = Callable[[slice, slice], Tensor]


class ConditionLoop:
    """Evaluates every condition on chunks of images.

    Attributes:
        network: what is evaluated.
        batch_size: altered images in one forward pass; halved when memory runs out.
    """

    def __init__(self, network: Network, *, batch_size: int | None, shape: tuple[int, int, int]) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"expected a positive `batch_size`, got {batch_size}")
        small = shape[1] * shape[2] <= 64 * 64
        usual = (128 if small else 16) if network.device.type == "cpu" else (1024 if small else 128)
        self.network, self.batch_size = network, batch_size or usual

    def outcomes(
        self, chunk: Chunk, count: int, alter: Alter, progress: Callable[[int], object]
    ) -> tuple[Tensor, Tensor]:
        """(wrong, cross entropy), both (count, n), of `count` conditions; one read-back per chunk."""
        n, device = len(chunk.ids), self.network.device
        wrong = torch.zeros(count, n, dtype=torch.bool, device=device)
        loss = torch.zeros(count, n, device=device)
        at = 0
        while at < count:
            m = min(n, self.batch_size)
            rows = slice(at, at + (max(1, self.batch_size // m) if m == n else 1))
            try:
                for i in range(0, n, m):
                    part = slice(i, i + m)
                    labels = chunk.labels[part]
                    logits = self.network(self.network.clean_batch(alter(part, rows))).float()
                    if at == 0:
                        checks.check_classes(labels, logits)
                    repeated = labels.repeat(len(logits) // len(labels))
                    wrong[rows, part] = (logits.argmax(dim=1) != repeated).view(-1, len(labels))
                    loss[rows, part] = F.cross_entropy(logits, repeated, reduction="none").view(-1, len(labels))
            except RuntimeError as error:
                if not is_out_of_memory(error) or self.batch_size == 1:
                    raise
                # values are assigned, not accumulated: doing a batch again changes nothing
                self.batch_size = -(-self.batch_size // 2)
                continue
            at = min(rows.stop, count)
            progress(n * len(range(count)[rows]))
        if not torch.isfinite(loss).all():
            row, column = (int(v) for v in (~torch.isfinite(loss)).nonzero()[0])
            raise FloatingPointError(
                f"expected finite logits, got NaN or infinity under condition {row} for image "
                f"{int(chunk.ids[column])}; check the weights, or try precision='fp32'"
            )
        return wrong.cpu(), loss.double().cpu()


def prepare(
    model: nn.Module,
    images: object,
    labels: object,
    *,
    precision: Precision,
    channels_last: bool,
    device: torch.device | str | None,
    first_image: int,
    shard: tuple[int, int],
) -> tuple[Network, ImageStream, tuple[int, int, int], dict[str, str]]:
    """(network, images, their (c, h, w), details for the result) of one measurement.

    Raises:
        ValueError: no images, or a bad argument.
    """
    network = Network(
        model,
        precision=precision,
        channels_last=channels_last,
        device=None if device is None else torch.device(device),
    )
    stream = ImageStream(images, labels, first_image=first_image, shard=shard, skip=frozenset())
    first = stream.peek(1)
    if first is None:
        raise ValueError("expected at least one image, got none")
    c, h, w = (int(side) for side in first.images.shape[1:])
    details = {
        "model": network.name,
        "model_fingerprint": fingerprint(model),
        "precision": precision,
        "torch": str(torch.__version__),
    }
    network.net.eval()
    network.cast()
    return network, stream, (c, h, w), details


def on_device(chunk: Chunk, device: torch.device) -> Chunk:
    """The chunk where the network runs, its pixels as float32 in [0, 1]."""
    images, labels, ids = (t.to(device) for t in chunk)
    return Chunk(images.float() / 255 if images.dtype == torch.uint8 else images.float(), labels, ids)
