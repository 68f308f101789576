"""Every tile of every precision, filled, and two odd sizes."""

import torch
from fastfreq_kernels import _configs
from fastfreq_kernels.channel_svd import _triton

ODD = [(21, 13), (57, 20)]


def cases():
    """(name, launch) of every production launch."""
    for dtype, tiles in _configs._JACOBI_WARPS.items():
        for k, c in [*tiles, *ODD]:
            left, right = torch.empty(8, k, c, dtype=dtype.to_complex()), torch.empty(8, c, c, dtype=dtype.to_complex())
            tile = _configs.jacobi_tile(k, c, dtype)
            assert tile is not None
            launch = _triton.launch(left, torch.empty(8, c, dtype=dtype), right, torch.zeros_like(left), tile)
            yield f"jacobi {str(dtype).removeprefix('torch.')} {k} x {c}", launch
