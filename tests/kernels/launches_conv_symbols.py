"""A 3 x 3 convolution, a depthwise one and one of odd sizes."""

import torch
from fastfreq_kernels.conv_symbols import _triton


def cases():
    """(name, launch) of every production launch."""
    for dtype in (torch.float32, torch.float64):
        for g, t, a, b, f in ((1, 9, 64, 64, 514), (512, 9, 1, 1, 100), (1, 4, 5, 3, 7)):
            taps, offsets = torch.zeros(g, t, a, b, dtype=dtype), torch.zeros(t, 2, dtype=torch.int64)
            out = torch.empty(g, f, a, b, 2, dtype=dtype)
            kind = f"{g} x {a} x {b} {str(dtype).removeprefix('torch.')}"
            yield f"symbols {kind}", _triton.launch(out, taps, offsets, offsets[:1].expand(f, 2), (32, 32))
