"""Every tile of every precision, filled."""

import torch
from fastfreq_kernels._configs import EIGENVALUES_LARGEST_SIDE
from fastfreq_kernels.hermitian_eigenvalues import _triton


def cases():
    """(name, launch) of every production launch; smaller tiles also follow on larger ones, as the second does."""
    for dtype, largest in EIGENVALUES_LARGEST_SIDE.items():
        kind = str(dtype).removeprefix("torch.")
        for c in (side for side in (16, 32, 64, 128) if side <= largest):
            run = launches(c, dtype)
            yield f"tridiagonal {kind} side {c}", run[0]
            if len(run) > 2:
                yield f"tridiagonal {kind} side {c // 2} left of {c}", run[1]
        yield f"bisection {kind} side {largest}", launches(largest, dtype)[-1]
    yield "tridiagonal float32 side 33", launches(33, torch.float32)[0]


def launches(c, dtype):
    """Those of eight matrices of side c."""
    return _triton.launches(torch.empty(8, c, dtype=dtype), torch.zeros(8, c, c, dtype=dtype))
