"""A 3 x 3 convolution, a depthwise one and one of odd sizes."""

import functools

import fastfreq_kernels as kernels
import torch


def cases():
    """(name, call) of what is usual."""
    for dtype in (torch.float32, torch.float64):
        for g, t, a, b, f in ((1, 9, 64, 64, 514), (1, 9, 256, 256, 113), (512, 9, 1, 1, 100), (1, 4, 5, 3, 7)):
            taps, offsets = torch.zeros(g, t, a, b, dtype=dtype), torch.zeros(t, 2, dtype=torch.int64)
            name = f"{g} x {a} x {b} {str(dtype).removeprefix('torch.')}"
            frequencies = offsets[:1].repeat(f, 1)
            yield name, functools.partial(kernels.conv_symbols, taps, offsets, frequencies, grid=(32, 32))
