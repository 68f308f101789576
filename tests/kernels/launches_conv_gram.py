"""A 3 x 3 convolution, a tall one whose taps are read transposed, and a depthwise one."""

import torch
from fastfreq_kernels.conv_gram import _triton


def cases():
    """(name, launch) of every production launch."""
    offsets = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    for dtype in (torch.float32, torch.float64):
        for g, a, b in ((1, 64, 64), (1, 37, 20), (512, 1, 1)) if dtype == torch.float32 else ((1, 64, 64),):
            taps, frequencies = torch.zeros(g, 9, a, b, dtype=dtype), torch.zeros(514, 2, dtype=torch.int64)
            out = torch.empty(g, 514, min(a, b), min(a, b), dtype=dtype)
            lags, gram = _triton.launches(out, taps, offsets, frequencies, (32, 32))
            kind = f"{g} x {a} x {b} {str(dtype).removeprefix('torch.')}"
            yield f"lags {kind}", lags
            yield f"gram {kind}", gram
