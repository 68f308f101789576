"""What `noise_curve` calls at CIFAR's and ImageNet's sizes, and odd ones."""

import functools

import fastfreq_kernels as kernels
import torch


def cases():
    """(name, call) of what is usual."""
    for h, w, n, b in ((32, 32, 64, 10), (224, 224, 4, 20), (33, 47, 2, 3), (1, 1, 1, 1)):
        images, masks, ids = torch.zeros(n, 3, h, w), torch.ones(b, h, w), torch.arange(n)
        yield f"values {h}x{w}", functools.partial(kernels.gaussian_noise, ids, (3, h, w), seed=2**40, domain=3)
        for dtype, channels_last in ((torch.bfloat16, True), (torch.float32, False)):
            yield f"noise {h}x{w} {str(dtype).removeprefix('torch.')}", functools.partial(
                kernels.band_noise, images, masks, ids, norm=8.0, seed=1, mean=torch.zeros(3), std=torch.ones(3),
                dtype=dtype, channels_last=channels_last,
            )  # fmt: skip
