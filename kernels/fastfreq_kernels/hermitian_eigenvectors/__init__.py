"""Packed Hermitian matrices -> their largest eigenvalues and eigenvectors, hundreds at a time."""

from __future__ import annotations

from torch import Tensor

from fastfreq_kernels import _dispatch, _hermitian

from . import _cpu, _reference

__all__ = ["hermitian_eigenvectors"]


def hermitian_eigenvectors(
    packed: Tensor, *, count: int | None = None, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """The `count` largest eigenvalues, descending, of packed Hermitian matrices, and their unit vectors.

    Values are as right as `hermitian_eigenvalues`'. Vectors are orthonormal to some roundings of the arithmetic also
    where eigenvalues are equal, and (H - value) vector is a few c roundings of the largest absolute eigenvalue. Single
    vectors are no better determined than the distance of their eigenvalue to the next one allows.

    Args:
        packed: (..., c, c) float32 or float64, as in `hermitian_eigenvalues`.
        count: from 1 to c; None for all.
        backend: None chooses: the reference if a gradient is needed, else "triton" on a GPU and "cpu" on a CPU. One
            that is named is used or refused.

    Returns:
        (..., count) and (..., c, count) complex, of the precision of `packed`. Vectors are unique up to a phase.

    Raises:
        ValueError: another shape or `count`; on a CPU, matrices that are not finite (on a GPU the answer is NaN).
        TypeError: another dtype.
        RuntimeError: a backend that cannot run here, or cannot give the gradient that `packed` requires.
    """
    return _EIGENVECTORS(packed, _hermitian.check_packed(packed, count), backend=backend)


def _fake(packed: Tensor, count: int) -> tuple[Tensor, Tensor]:
    values = packed.new_empty((*packed.shape[:-2], count))
    return values, packed.new_empty((*packed.shape[:-1], count), dtype=packed.dtype.to_complex())


_EIGENVECTORS = _dispatch.register(
    "hermitian_eigenvectors",
    "(Tensor packed, int count) -> (Tensor, Tensor)",
    reference=_reference.eigenvectors,
    cpu=_cpu.eigenvectors,
    fake=_fake,
)
