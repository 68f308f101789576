"""The largest tiles of each precision, filled, and odd sizes; every tile."""

import functools

import fastfreq_kernels as kernels
import torch
from fastfreq_kernels import _configs

SIZES = {
    torch.float32: [(8, 8), (32, 32), (64, 32), (64, 64), (57, 20)],
    torch.float64: [(32, 32), (64, 32), (21, 13)],
}


def cases():
    """(name, call) of what needs most registers."""
    for dtype, sizes in SIZES.items():
        for k, c in sizes:
            yield case(dtype, k, c)


def more_cases():
    """(name, call) of every other tile."""
    for dtype, tiles in _configs._JACOBI_WARPS.items():
        for k, c in [*tiles, (21, 13), (57, 20)]:
            if (k, c) not in SIZES[dtype]:
                yield case(dtype, k, c)


def case(dtype, k, c):
    """Of eight k x c matrices."""
    matrices = torch.zeros(8, k, c, dtype=dtype.to_complex())
    name = f"{str(dtype).removeprefix('torch.')} {k} x {c}"
    return name, functools.partial(kernels.channel_svd, matrices, backend="triton")
