"""Packed Hermitian matrices -> their eigenvalues, thousands at a time."""

from __future__ import annotations

from torch import Tensor

from fastfreq_kernels import _dispatch, _hermitian

from . import _cpu, _reference

__all__ = ["hermitian_eigenvalues"]


def hermitian_eigenvalues(packed: Tensor, *, count: int | None = None, backend: str | None = None) -> Tensor:
    """Eigenvalues, descending, of packed Hermitian matrices.

    Packed: G[i, j] for i >= j has its real part in packed[i, j] and its imaginary part in packed[j, i] (`conv_gram`
    writes them so). Errors are a few c eps times the largest absolute eigenvalue of the matrix: what LAPACK
    guarantees. Small eigenvalues of a graded matrix are not more accurate than that.

    Args:
        packed: (..., c, c) float32 or float64; its dtype is that of the arithmetic.
        count: how many of the largest; None for all.
        backend: None chooses: the reference if a gradient is needed, else "triton" on a GPU and "cpu" on a CPU
            (compiled with numba if that is installed, else LAPACK). One that is named is used or refused.

    Returns:
        (..., count) of the same dtype, descending.

    Raises:
        ValueError: another shape or `count`, or (on a CPU) matrices that are not finite: on a GPU their values are NaN.
        TypeError: another dtype.
        RuntimeError: a backend that cannot run here, or cannot give the gradient that `packed` requires.
    """
    return _EIGENVALUES(packed, _hermitian.check_packed(packed, count), backend=backend)


def _fake(packed: Tensor, count: int) -> Tensor:
    return packed.new_empty((*packed.shape[:-2], count))


_EIGENVALUES = _dispatch.register(
    "hermitian_eigenvalues",
    "(Tensor packed, int count) -> Tensor",
    reference=_reference.eigenvalues,
    cpu=_cpu.eigenvalues,
    fake=_fake,
)
