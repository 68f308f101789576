"""What wavelet stems and approximation curves launch, and odd shapes with the longest filters."""

import torch
from fastfreq_kernels.dwt2 import _triton
from fastfreq_kernels.dwt2._geometry import length, restored


def cases():
    """(name, launch) of every production launch."""
    for taps, mode, shape, dtype in (
        (8, "symmetric", (64, 3, 224, 224), torch.float32),
        (2, "periodization", (8, 3, 32, 32), torch.float32),
        (20, "antireflect", (2, 3, 33, 47), torch.float32),
        (8, "smooth", (2, 3, 224, 224), torch.float64),
    ):
        low, high = [0.5] * taps, [-0.25] * taps
        n, c, h, w = shape
        sides = [length(side, taps, mode) for side in (h, w)]
        images = torch.zeros(1, 1, h, w, dtype=dtype).expand(shape)
        bands = torch.zeros(1, 1, 4, *sides, dtype=dtype).expand(n, c, -1, -1, -1)
        out = torch.zeros(1, 1, *(restored(side, taps, mode) for side in sides), dtype=dtype).expand(n, c, -1, -1)
        name = f"{taps} taps {mode} {h}x{w} {str(dtype).removeprefix('torch.')}"
        for shrink in ("", "soft rectified"):
            for launch in _triton.analyse_launches(bands, images, low, high, mode, shrink, 0.1):
                yield f"dwt2 {name} {shrink}".strip(), launch
        for launch in _triton.synthesise_launches(out, bands[:, :, 0], bands[:, :, 1:], low, high, mode):
            yield f"idwt2 {name}", launch
