"""Every tile that is not small, of every precision, filled; the smallest."""

import functools

import fastfreq_kernels as kernels
import torch
from fastfreq_kernels._configs import EIGENVALUES_LARGEST_SIDE


def cases():
    """(name, call) of larger tiles, which the smaller ones follow on."""
    for dtype, largest in EIGENVALUES_LARGEST_SIDE.items():
        for c in (side for side in (32, 64, 128) if side <= largest):
            yield f"{str(dtype).removeprefix('torch.')} side {c}", eigenvalues(c, dtype)


def more_cases():
    """(name, call) of the smallest tile, and of an odd side."""
    for dtype in EIGENVALUES_LARGEST_SIDE:
        for c in (1, 16, 33):
            yield f"{str(dtype).removeprefix('torch.')} side {c}", eigenvalues(c, dtype)


def eigenvalues(c, dtype):
    """Of eight matrices of side c."""
    return functools.partial(kernels.hermitian_eigenvalues, torch.zeros(8, c, c, dtype=dtype))
