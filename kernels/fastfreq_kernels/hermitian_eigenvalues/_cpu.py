"""On a CPU: compiled code with one SIMD lane per matrix where numba is there, else LAPACK; split over threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastfreq_kernels import _hermitian, simd
from fastfreq_kernels._threads import own_threads_only, split_over_threads

LARGEST = 512  # sides above this are LAPACK's: an interleaved matrix no longer fits into caches
_HALF_A_REGISTER = 4  # fewer matrices leave more lanes idle than LAPACK loses


def eigenvalues(packed: Tensor, count: int) -> Tensor:
    """As the reference."""
    c = packed.shape[-1]
    matrices = packed.reshape(-1, c, c).contiguous()
    out = packed.new_empty(len(matrices), c)
    code = compiled(c, len(matrices))
    source = matrices.numpy()
    if code is None or not in_lanes(code, lambda a, b: code.eigenvalues(source[a:b], out.numpy()[a:b]), out):
        out = _by_lapack(matrices)
    if not torch.isfinite(out).all():
        raise ValueError("expected finite matrices, got NaN or infinite ones; look for the layer they come from")
    return out.reshape(packed.shape[:-1])[..., :count].contiguous()


def compiled(c: int, count: int) -> Any:
    """The compiled code if it is there and pays for `count` matrices of side c, else None."""
    return _compiled() if c <= LARGEST and count >= _HALF_A_REGISTER else None


def in_lanes(code: Any, run: Callable[[int, int], bool], out: Tensor) -> bool:
    """`run` on ranges of the rows of `out`, in threads; sorts them descending. False if one did not converge."""
    converged = []
    values = out.numpy()

    def part(start: int, stop: int) -> None:
        converged.append(run(start, stop))
        values[start:stop] = -np.sort(-values[start:stop], axis=1)

    split_over_threads(part, len(out), multiple=code.REGISTER // out.element_size())
    return all(converged)


def _by_lapack(matrices: Tensor) -> Tensor:
    """Eigenvalues (n, c), descending, of packed matrices (n, c, c), by LAPACK."""
    out = matrices.new_empty(matrices.shape[:2])
    if not torch.isfinite(matrices).all():  # LAPACK may loop on these
        return out.fill_(torch.nan)
    real = not matrices.triu(1).any()

    def run(start: int, stop: int) -> None:
        part = matrices[start:stop]
        if real:  # torch reads the lower triangle only
            out[start:stop] = torch.linalg.eigvalsh(part).flip(-1)
        else:
            out[start:stop] = torch.linalg.eigvalsh(_hermitian.unpack(part)).flip(-1)

    with own_threads_only():  # LAPACK's own threads would make answers depend on their number
        split_over_threads(run, len(matrices))
    return out


def _compiled() -> Any:
    return simd.compiled("hermitian_eigenvalues", "eigenvalues come from LAPACK, 3 to 15 times slower")
