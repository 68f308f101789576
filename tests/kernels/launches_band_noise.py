"""What `noise_curve` launches at CIFAR's and ImageNet's sizes, and an odd one, besides what `filter_curve` does."""

import torch
from fastfreq_kernels.band_noise import _triton


def cases():
    """(name, launch) of every production launch."""
    for h, w, n in ((32, 32, 64), (224, 224, 4), (33, 47, 2), (1, 1, 1)):
        launch = _triton.gaussian_launch(torch.zeros(n, 3, h, w), torch.arange(n), 2**40, 3)
        yield f"gaussian {h}x{w}", launch
