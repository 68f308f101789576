"""The specification: LAPACK's Hermitian eigenvalues, descending."""

from __future__ import annotations

import torch
from torch import Tensor

from fastfreq_kernels import _hermitian


def eigenvalues(packed: Tensor, count: int) -> Tensor:
    """The largest, (..., count) descending, of packed Hermitian matrices (..., c, c)."""
    return torch.linalg.eigvalsh(_hermitian.unpack(packed)).flip(-1)[..., :count]
