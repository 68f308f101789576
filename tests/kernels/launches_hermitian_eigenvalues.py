"""Every tile that is not small, of every precision, filled; the smallest."""

import torch
from fastfreq_kernels._configs import EIGENVALUES_LARGEST_SIDE
from fastfreq_kernels.hermitian_eigenvalues import _triton


def cases():
    """(name, launch) of the launches of larger tiles; smaller ones also follow on larger ones, as the second does."""
    for dtype, largest in EIGENVALUES_LARGEST_SIDE.items():
        kind = str(dtype).removeprefix("torch.")
        for c in (side for side in (32, 64, 128) if side <= largest):
            run = launches(c, dtype)
            yield f"tridiagonal {kind} side {c}", run[0]
            if len(run) > 2:
                yield f"tridiagonal {kind} side {c // 2} left of {c}", run[1]
        yield f"bisection {kind} side {largest}", launches(largest, dtype)[-1]


def more_cases():
    """(name, launch) of the smallest tile, and of an odd side."""
    for dtype in EIGENVALUES_LARGEST_SIDE:
        for c in (1, 16, 33):
            yield f"tridiagonal {str(dtype).removeprefix('torch.')} side {c}", launches(c, dtype)[0]


def launches(c, dtype):
    """Those of eight matrices of side c."""
    return _triton.launches(torch.empty(8, c, dtype=dtype), torch.zeros(8, c, c, dtype=dtype))
