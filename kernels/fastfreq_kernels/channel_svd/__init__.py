"""Small complex matrices -> their singular value decompositions, thousands at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastfreq_kernels import _checks, _configs, _dispatch, _hermitian, _taps
from fastfreq_kernels._threads import split_over_threads
from fastfreq_kernels.conv_symbols import conv_symbols
from fastfreq_kernels.hermitian_eigenvalues import hermitian_eigenvalues

from . import _cpu, _reference

__all__ = ["channel_singular_values", "channel_svd", "conv_singular_values"]

_CACHED = 1 << 20  # bytes of matrices that a thread holds


def channel_svd(matrices: Tensor, *, backend: str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, Vh) with M = U diag(S) Vh: thin singular value decompositions.

    On a CPU the batch is split over threads with one BLAS thread each. "triton" is one-sided Jacobi: its errors are
    relative to each value, not only to the largest, where the columns of a tall matrix (the rows of a wide one) are
    well conditioned but for their lengths. Sides above 64, or in float64 both above 32, are copied to the CPU there.
    A gradient goes through torch's own, which is not finite where singular values are equal: ask
    `channel_singular_values` for gradients of values alone.

    Args:
        matrices: (..., m, n), real or complex, float32 or float64.
        backend: None chooses: "cpu" on a CPU, "triton" on a GPU, torch's own solver for gradients. "cpu", "reference"
            or "triton" is used or refused.

    Returns:
        (..., m, r), (..., r) descending and (..., r, n), r = min(m, n). Vectors are unique up to a phase.

    Raises:
        ValueError: another shape, or matrices that are not finite.
        TypeError: another dtype.
        RuntimeError: a backend that cannot run here or cannot give the gradient that is required.
    """
    path = _checked(matrices, backend)
    if backend == "triton" or (path == "operator" and matrices.is_cuda):
        return _SVD(matrices, backend=backend)
    return _reference.svd(matrices) if _by_reference(matrices, path) else _cpu.svd(matrices)


def channel_singular_values(matrices: Tensor, *, backend: str | None = None) -> Tensor:
    """(..., r) singular values, descending; arguments and errors as in `channel_svd`.

    On a GPU they are eigenvalues of [[0, A], [A^H, 0]], by the kernels of `hermitian_eigenvalues`, as right as
    LAPACK's; "triton" gives those of `channel_svd`. The gradient of sigma_i is Re u_i v_i^H in the usual convention,
    finite for equal and zero values too, where it is one of the subgradients.
    """
    path = _checked(matrices, backend)
    if torch.is_grad_enabled() and matrices.requires_grad:
        kind = _SingularValues if matrices.is_cuda and backend is None else _reference.SingularValues
        return kind.apply(matrices)  # pyright: ignore[reportReturnType]
    if backend == "triton":
        return _SVD(matrices, backend=backend)[1]
    if path == "operator" and matrices.is_cuda:
        return _on_gpu(matrices)
    return torch.linalg.svdvals(matrices) if _by_reference(matrices, path) else _cpu.singular_values(matrices)


class _SingularValues(_reference.SingularValues):
    """With vectors from `channel_svd`: torch's own solver takes matrices on a GPU one by one."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, matrices: Tensor) -> Tensor:
        u, s, vh = channel_svd(matrices)
        ctx.save_for_backward(u, vh)
        return s


def _on_gpu(matrices: Tensor) -> Tensor:
    *batch, m, n = matrices.shape
    if _configs.singular_values_route(m, n, matrices.dtype) == "host":
        return _cpu.singular_values(matrices.cpu()).to(matrices.device)
    flat = matrices.reshape(-1, m, n)
    step = max(1, _configs.DILATION_BYTES // ((m + n) ** 2 * matrices.dtype.to_real().itemsize))
    parts = [hermitian_eigenvalues(_hermitian.dilation(part), count=min(m, n)) for part in flat.split(step)]
    return torch.cat(parts).clamp_min(0).reshape(*batch, min(m, n))


def conv_singular_values(taps: Tensor, offsets: Tensor, frequencies: Tensor, *, grid: Sequence[int]) -> Tensor:
    """(g, f, r) singular values, descending, of a convolution's matrix at each frequency, without a gradient.

    `channel_singular_values` of `conv_symbols`, with the arguments and errors of both. On a CPU each thread makes the
    matrices it needs as it goes, so that they are never all in memory.
    """
    with torch.no_grad():
        _taps.check_convolution(taps, offsets, frequencies, grid)
        rows, columns = taps.shape[2:]
        if taps.is_cuda and _configs.singular_values_route(rows, columns, taps.dtype) == "host":
            # not their matrices, which are larger
            values = conv_singular_values(taps.cpu(), offsets.cpu(), frequencies.cpu(), grid=grid)
            return values.to(taps.device)
        if not taps.is_cpu:
            return channel_singular_values(conv_symbols(taps, offsets, frequencies, grid=grid))
        if not _finite(taps):
            raise ValueError("expected finite `taps`, got NaN or infinite ones; look for the layer they come from")
        values = _cpu.conv_singular_values(taps, offsets, frequencies, grid)
        if values is not None:
            return values
        g, _, a, b = taps.shape
        out = taps.new_empty(g, len(frequencies), min(a, b))
        step = max(1, _CACHED // max(1, g * a * b * 2 * taps.element_size()))

        def run(start: int, stop: int) -> None:
            for first in range(start, stop, step):
                part = slice(first, min(stop, first + step))
                out[:, part] = channel_singular_values(conv_symbols(taps, offsets, frequencies[part], grid=grid))

        split_over_threads(run, len(frequencies))
        return out


def _by_reference(matrices: Tensor, path: _dispatch.Path) -> bool:
    """Whether the reference serves them."""
    return path == "reference" or not matrices.is_cpu or torch.compiler.is_compiling()


def _checked(matrices: Tensor, backend: str | None) -> _dispatch.Path:
    _checks.check_matrices(matrices)
    differentiated = torch.is_grad_enabled() and matrices.requires_grad
    path = _dispatch.choose(backend, matrices.device.type, differentiated=differentiated)
    if not matrices.is_meta and not torch.compiler.is_compiling() and not _finite(matrices):
        raise ValueError("expected finite matrices, got NaN or infinite ones; look for the layer they come from")
    return path


def _finite(matrices: Tensor) -> bool:
    """Whether all are finite; a sum, which shows it at a fifth of the time, is asked first."""
    with torch.no_grad():
        values = torch.view_as_real(matrices.resolve_conj()) if matrices.is_complex() else matrices
        return bool(torch.isfinite(values.sum()) or torch.isfinite(values).all())


def _fake(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    *batch, m, n = matrices.shape
    r = min(m, n)
    values = matrices.new_empty((*batch, r), dtype=matrices.dtype.to_real())
    return matrices.new_empty((*batch, m, r)), values, matrices.new_empty((*batch, r, n))


_SVD = _dispatch.register(
    "channel_svd",
    "(Tensor matrices) -> (Tensor, Tensor, Tensor)",
    reference=_reference.svd,
    cpu=_cpu.svd,
    fake=_fake,
)
