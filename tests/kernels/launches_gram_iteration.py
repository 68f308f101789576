"""Every tile of every precision, and an odd side."""

import torch
from fastfreq_kernels.gram_iteration import _triton


def cases():
    """(name, launch) of every production launch."""
    for dtype in (torch.float32, torch.float64):
        for c in (16, 32, 64, 37):
            norms, products = torch.empty(2, 512, dtype=dtype), torch.zeros(512, c, c, dtype=dtype)
            (launch,) = _triton.launches(norms, products)
            yield f"square {str(dtype).removeprefix('torch.')} side {c}", launch
