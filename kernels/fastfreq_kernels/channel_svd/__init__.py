"""Small complex matrices -> their singular value decompositions, thousands at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from fastfreq_kernels import _dispatch

from . import _cpu, _reference

__all__ = ["channel_singular_values", "channel_svd"]

_DTYPES = (torch.float32, torch.float64, torch.complex64, torch.complex128)


def channel_svd(matrices: Tensor, *, backend: str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, Vh) with M = U diag(S) Vh: thin singular value decompositions.

    On a CPU the batch is split over threads with one BLAS thread each. A gradient goes through torch's own, which is
    not finite where singular values are equal: ask `channel_singular_values` for gradients of values alone.

    Args:
        matrices: (..., m, n), real or complex, float32 or float64.
        backend: None chooses; "cpu" or "reference" is used or refused. On a GPU the vendor's batched solver runs.

    Returns:
        (..., m, r), (..., r) descending and (..., r, n), r = min(m, n). Vectors are unique up to a phase.

    Raises:
        ValueError: another shape, or matrices that are not finite.
        TypeError: another dtype.
        RuntimeError: a backend that cannot run here or cannot give the gradient that is required.
    """
    if _by_reference(matrices, backend):
        return _reference.svd(matrices)
    return _cpu.svd(matrices)


def channel_singular_values(matrices: Tensor, *, backend: str | None = None) -> Tensor:
    """(..., r) singular values, descending; arguments and errors as in `channel_svd`.

    The gradient of sigma_i is Re u_i v_i^H in the usual convention, finite for equal and zero values too, where it is
    one of the subgradients.
    """
    if torch.is_grad_enabled() and matrices.requires_grad:
        _by_reference(matrices, backend)
        return _reference.SingularValues.apply(matrices)  # pyright: ignore[reportReturnType]
    if _by_reference(matrices, backend):
        return torch.linalg.svdvals(matrices)
    return _cpu.singular_values(matrices)


def _by_reference(matrices: Tensor, backend: str | None) -> bool:
    """Check the arguments; whether the reference serves them."""
    if matrices.ndim < 2 or 0 in matrices.shape[-2:]:
        raise ValueError(f"expected matrices of shape (..., m, n), neither of them 0, got {tuple(matrices.shape)}")
    if matrices.dtype not in _DTYPES:
        raise TypeError(f"expected float32, float64, complex64 or complex128, got {matrices.dtype}")
    differentiated = torch.is_grad_enabled() and matrices.requires_grad
    if backend == "triton":
        raise RuntimeError(
            "expected backend=None, 'cpu' or 'reference': the vendor's solver runs on a GPU, there is no Triton kernel"
        )
    path = _dispatch.choose(backend, matrices.device.type, differentiated=differentiated)
    if not matrices.is_meta and not torch.compiler.is_compiling() and not torch.isfinite(matrices).all():
        raise ValueError("expected finite matrices, got NaN or infinite ones; look for the layer they come from")
    return path == "reference" or not matrices.is_cpu or torch.compiler.is_compiling()
