"""The specification: LAPACK's thin singular value decomposition."""

from __future__ import annotations

import torch
from torch import Tensor


def svd(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, Vh) with M = U diag(S) Vh, S descending."""
    return torch.linalg.svd(matrices, full_matrices=False)


class SingularValues(torch.autograd.Function):
    """Singular values whose gradient is u v^H also where values are equal or zero.

    The derivative of torch's own SVD divides by differences of values when vectors are asked for; that of the values
    alone needs none. At equal or zero values it is one subgradient.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, matrices: Tensor) -> Tensor:  # noqa: D102
        u, s, vh = svd(matrices)
        ctx.save_for_backward(u, vh)
        return s

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:  # noqa: D102
        u, vh = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        return (u * gradients[0].unsqueeze(-2)) @ vh
