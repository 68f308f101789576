"""On a CPU: parts of the batch in threads, by LAPACK with one BLAS thread each."""

from __future__ import annotations

import torch
from torch import Tensor

from fastfreq_kernels._threads import own_threads_only, split_over_threads

from . import _reference


def eigenvectors(packed: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """As the reference."""
    *batch, c, _ = packed.shape
    matrices = packed.reshape(-1, c, c)
    if not torch.isfinite(matrices).all():  # LAPACK may loop on these
        raise ValueError("expected finite matrices, got NaN or infinite ones; look for the layer they come from")
    values = packed.new_empty(len(matrices), count)
    vectors = packed.new_empty(len(matrices), c, count, dtype=packed.dtype.to_complex())

    def run(start: int, stop: int) -> None:
        values[start:stop], vectors[start:stop] = _reference.eigenvectors(matrices[start:stop], count)

    with own_threads_only():
        split_over_threads(run, len(matrices))
    return values.reshape(*batch, count), vectors.reshape(*batch, c, count)
