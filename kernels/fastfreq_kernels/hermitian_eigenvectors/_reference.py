"""The specification: LAPACK's Hermitian eigenvalues and vectors, descending."""

from __future__ import annotations

import torch
from torch import Tensor

from fastfreq_kernels import _hermitian


def eigenvectors(packed: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(..., count) descending, and (..., c, count), of packed Hermitian matrices (..., c, c)."""
    values, vectors = torch.linalg.eigh(_hermitian.unpack(packed))
    return values.flip(-1)[..., :count], vectors.flip(-1)[..., :count]
