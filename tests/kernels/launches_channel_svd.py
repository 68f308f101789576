"""The largest tiles of each precision, filled, and two odd sizes; every tile."""

import torch
from fastfreq_kernels import _configs
from fastfreq_kernels.channel_svd import _triton

SIZES = {
    torch.float32: [(8, 8), (32, 32), (64, 32), (64, 64), (57, 20)],
    torch.float64: [(32, 32), (64, 32), (21, 13)],
}


def cases():
    """(name, launch) of the launches that need most registers."""
    for dtype, sizes in SIZES.items():
        for k, c in sizes:
            yield case(dtype, k, c)


def more_cases():
    """(name, launch) of every other tile."""
    for dtype, tiles in _configs._JACOBI_WARPS.items():
        for k, c in [*tiles, (21, 13), (57, 20)]:
            if (k, c) not in SIZES[dtype]:
                yield case(dtype, k, c)


def case(dtype, k, c):
    """Of eight k x c matrices."""
    left, right = torch.empty(8, k, c, dtype=dtype.to_complex()), torch.empty(8, c, c, dtype=dtype.to_complex())
    tile = _configs.jacobi_tile(k, c, dtype)
    assert tile is not None
    launch = _triton.launch(left, torch.empty(8, c, dtype=dtype), right, torch.zeros_like(left), tile)
    return f"jacobi {str(dtype).removeprefix('torch.')} {k} x {c}", launch
