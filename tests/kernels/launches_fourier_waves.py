"""What an augmentation launches at CIFAR's and ImageNet's sizes, and an odd one."""

import torch
from fastfreq_kernels.fourier_waves import _triton


def cases():
    """(name, launch) of every production launch."""
    for n, h, w, given, dtype in (
        (256, 32, 32, torch.float32, torch.float32),
        (64, 224, 224, torch.float32, torch.float32),
        (64, 224, 224, torch.uint8, torch.float32),
        (64, 224, 224, torch.bfloat16, torch.bfloat16),
        (2, 33, 47, torch.float16, torch.float16),
    ):
        kinds = [str(t).removeprefix("torch.") for t in (given, dtype)]
        yield f"waves {h}x{w} {kinds[0]} to {kinds[1]}", launch(n, h, w, given, dtype)


def launch(n, h, w, given, dtype):
    images, out = (torch.empty(n, 3, h, w, dtype=kind, device="meta") for kind in (given, dtype))
    frequencies, signs = torch.zeros(n, 2, dtype=torch.int64), torch.ones(n, 3, dtype=torch.int8)
    return _triton.launch(out, images, frequencies, signs, torch.ones(n, dtype=torch.float64), 0.7, True)
