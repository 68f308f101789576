"""The largest tile of each precision, filled and not; the others."""

import functools

import fastfreq_kernels as kernels
import torch


def cases(sides=(64, 37)):
    """(name, call) of what needs most registers."""
    for dtype in (torch.complex64, torch.complex128):
        for c in sides:
            matrices = torch.ones(512, c, c + 3, dtype=dtype)
            name = f"{str(dtype).removeprefix('torch.')} side {c}"
            yield name, functools.partial(kernels.gram_iteration, matrices, iterations=3)


def more_cases():
    """(name, call) of the smaller tiles."""
    return cases((1, 16, 32))
