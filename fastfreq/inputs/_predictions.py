"""The class a network predicts, image by image."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastfreq.vocabulary import checks

from ._network import Network
from ._stream import Chunk


def predicted_classes(network: Network, chunk: Chunk, images: Tensor, batch_size: int) -> NDArray[np.int64]:
    """(n,) argmax of the logits of `images` (n, c, h, w), which stand for the images of `chunk`.

    Raises:
        ValueError: a label without a logit.
        FloatingPointError: logits that are NaN or infinite.
    """
    found = []
    for i in range(0, len(images), batch_size):
        part = slice(i, i + batch_size)
        logits = network(network.clean_batch(images[part]))
        checks.check_classes(chunk.labels[part], logits)
        finite = torch.isfinite(logits).all(dim=1)
        if not finite.all():
            image = int(chunk.ids[part][~finite][0])
            raise FloatingPointError(f"expected finite logits, got NaN or infinity for image {image}")
        found.append(logits.argmax(dim=1))
    return torch.cat(found).cpu().numpy()
