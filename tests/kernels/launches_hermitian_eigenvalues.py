"""Every tile that is not small, of every precision, filled; the smallest; in registers and in memory."""

import torch
from fastfreq_kernels._configs import EIGENVALUES_LARGEST_SIDE
from fastfreq_kernels.hermitian_eigenvalues import _triton, _triton_memory


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
        for c in (256, 1024):
            spread, reduction, _ = launches(c, dtype)
            yield f"reduction {kind} side {c}", reduction
            if c == 256:
                yield f"spread {kind}", spread


def more_cases():
    """(name, launch) of the smallest tile, of odd sides, and of those with vectors."""
    for dtype in EIGENVALUES_LARGEST_SIDE:
        kind = str(dtype).removeprefix("torch.")
        for c in (1, 16, 33):
            yield f"tridiagonal {kind} side {c}", launches(c, dtype)[0]
        for c in (128, 512, 65, 257, 1000):
            yield f"reduction {kind} side {c}", launches(c, dtype)[1]
        for c in (1, 16, 33, 64, 128, 256, 512, 1024):
            _, (_, reduction) = _triton_memory.launches(torch.zeros(8, c, c, dtype=dtype), keep=True)
            yield f"reduction with vectors {kind} side {c}", reduction


def launches(c, dtype):
    """Those of eight matrices of side c."""
    return _triton.launches(torch.empty(8, c, dtype=dtype), torch.zeros(8, c, c, dtype=dtype))
