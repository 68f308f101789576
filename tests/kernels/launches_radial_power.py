"""What `image_spectrum` launches at CIFAR's and ImageNet's sizes, and an odd one in float64."""

import torch
from fastfreq_kernels.radial_power import _triton


def cases():
    """(name, launch) of every production launch."""
    for h, w, n, dtype in (
        (32, 32, 200, torch.float32),
        (224, 224, 40, torch.float32),
        (33, 47, 2, torch.float64),
        (1, 1, 1, torch.float32),
    ):
        table, starts = _triton._table(h, w, None, torch.device("cpu"))
        rings = torch.empty(n, 3, len(starts) - 1, dtype=dtype)
        plane = torch.zeros(3, h, w // 2 + 1, dtype=torch.float64)
        spectrum = torch.zeros(n, 3, h, w // 2 + 1, 2, dtype=dtype)
        for magnitude in (False, True):
            by_ring, by_cell = _triton.launches(rings, plane, spectrum, table, starts, magnitude)
            kind = f"{'|F|' if magnitude else '|F|^2'} {h}x{w} {str(dtype).removeprefix('torch.')}"
            yield f"rings of {kind}", by_ring
            yield f"sum over images of {kind}", by_cell
