"""A 3 x 3 convolution, a tall one whose taps are read transposed, and a depthwise one."""

import functools

import fastfreq_kernels as kernels
import torch


def cases():
    """(name, call) of what is usual."""
    offsets = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    for dtype in (torch.float32, torch.float64):
        for g, a, b in ((1, 64, 64), (1, 37, 20), (1, 256, 256), (512, 1, 1)):
            taps, frequencies = torch.zeros(g, 9, a, b, dtype=dtype), torch.zeros(514, 2, dtype=torch.int64)
            name = f"{g} x {a} x {b} {str(dtype).removeprefix('torch.')}"
            yield name, functools.partial(kernels.conv_gram, taps, offsets, frequencies, grid=(32, 32))
