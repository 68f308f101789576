"""What `image_spectrum` calls at CIFAR's and ImageNet's sizes, and odd ones."""

import functools

import fastfreq_kernels as kernels
import torch


def cases():
    """(name, call) of what is usual."""
    for h, w, n, dtype in (
        (32, 32, 200, torch.float32),
        (224, 224, 40, torch.float32),
        (33, 47, 2, torch.float64),
        (1, 1, 1, torch.float32),
    ):
        for magnitude in (False, True):
            kind = f"{'|F|' if magnitude else '|F|^2'} {h}x{w} {str(dtype).removeprefix('torch.')}"
            images = torch.zeros(n, 3, h, w, dtype=dtype)
            yield kind, functools.partial(kernels.radial_power, images, magnitude=magnitude)
