"""What `filter_curve` calls at CIFAR's and ImageNet's sizes, and odd ones."""

import functools

import fastfreq_kernels as kernels
import torch

LAYOUTS = ((torch.bfloat16, True), (torch.float32, True), (torch.float32, False), (torch.float16, False))


def cases():
    """(name, call) of what is usual."""
    for h, w, n, b in ((32, 32, 64, 10), (224, 224, 4, 20), (33, 47, 2, 3), (1, 1, 1, 1)):
        images, masks = torch.zeros(n, 3, h, w), torch.ones(b, h, w)
        for dtype, channels_last in LAYOUTS:
            for contrast in (False, True):
                kind = f"{str(dtype).removeprefix('torch.')} {'NHWC' if channels_last else 'NCHW'}"
                yield f"{h}x{w} {kind}{' with contrast' if contrast else ''}", functools.partial(
                    kernels.filter_bands, images, masks, normalise_contrast=contrast, mean=torch.zeros(3),
                    std=torch.ones(3), dtype=dtype, channels_last=channels_last,
                )  # fmt: skip
