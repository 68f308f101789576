"""The largest tiles of vectors of each precision, and inverse iteration; every other tile."""

import torch
from fastfreq_kernels.hermitian_eigenvectors import _triton


def cases(sides=(256, 1024)):
    """(name, launch) of the launches that need most registers."""
    yield "inverse iteration", inverse(64)
    for dtype in (torch.float32, torch.float64):
        for c in sides:
            yield f"back {str(dtype).removeprefix('torch.')} side {c}", back(c, dtype)


def more_cases():
    """(name, launch) of the other tiles."""
    return (case for case in cases((1, 16, 33, 64, 100, 512)) if case[0] != "inverse iteration")


def inverse(c):
    """Of eight vectors of each of eight matrices."""
    double = {"dtype": torch.float64}
    squares, roots = torch.zeros(8, c, **double), torch.zeros(8, 8, **double)
    return _triton.inverse(torch.zeros(c, 8, 8, **double), squares, squares, roots, 2)


def back(c, dtype):
    """Of as many vectors as there are, of eight matrices."""
    return _triton.back(torch.zeros(8, c, c, 2, dtype=dtype), torch.zeros(8, c, 2, c, dtype=dtype))
