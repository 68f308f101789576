"""The largest tile of each precision, filled and not; the others."""

import torch
from fastfreq_kernels.gram_iteration import _triton


def cases(sides=(64, 37)):
    """(name, launch) of the launches that need most registers."""
    for dtype in (torch.float32, torch.float64):
        for c in sides:
            norms, products = torch.empty(2, 512, dtype=dtype), torch.zeros(512, c, c, dtype=dtype)
            (launch,) = _triton.launches(norms, products)
            yield f"square {str(dtype).removeprefix('torch.')} side {c}", launch


def more_cases():
    """(name, launch) of the smaller tiles."""
    return cases((1, 16, 32))
