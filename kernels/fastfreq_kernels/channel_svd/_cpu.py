"""On a CPU: LAPACK on parts of the batch in threads, one BLAS thread each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fastfreq_kernels._threads import split_over_threads

from . import _reference


def svd(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As the reference."""
    *batch, m, n = matrices.shape
    flat = matrices.reshape(-1, m, n)
    r = min(m, n)
    u, vh = flat.new_empty(len(flat), m, r), flat.new_empty(len(flat), r, n)
    s = torch.empty(len(flat), r, dtype=flat.real.dtype)

    def run(start: int, stop: int) -> None:
        u[start:stop], s[start:stop], vh[start:stop] = _reference.svd(flat[start:stop])

    _split(run, len(flat))
    return u.reshape(*batch, m, r), s.reshape(*batch, r), vh.reshape(*batch, r, n)


def singular_values(matrices: Tensor) -> Tensor:
    """Singular values alone: half of the work."""
    *batch, m, n = matrices.shape
    flat = matrices.reshape(-1, m, n)
    s = torch.empty(len(flat), min(m, n), dtype=flat.real.dtype)

    def run(start: int, stop: int) -> None:
        s[start:stop] = torch.linalg.svdvals(flat[start:stop])

    _split(run, len(flat))
    return s.reshape(*batch, min(m, n))


def _split(run: Callable[[int, int], None], count: int) -> None:
    if count < torch.get_num_threads():
        run(0, count)  # few matrices: LAPACK's own threads
    else:
        split_over_threads(run, count)
