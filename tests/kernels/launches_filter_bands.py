"""What `filter_curve` and `noise_curve` launch at CIFAR's and ImageNet's sizes, and an odd one."""

import torch
from fastfreq_kernels.filter_bands import _triton

LAYOUTS = (
    (torch.bfloat16, True, True),
    (torch.float32, True, False),
    (torch.float32, False, True),
    (torch.float16, False, False),
)


def cases():
    """(name, launch) of every production launch."""
    for h, w, n, b in ((32, 32, 64, 10), (224, 224, 4, 20), (33, 47, 2, 3)):
        kept = torch.zeros(b, n, 3, h, w // 2 + 1, 2)
        half = torch.ones(b, h, w // 2 + 1)
        for energy in (False, True):
            kind = " with its energy" if energy else ""
            yield f"mask {h}x{w}{kind}", _triton.mask_launch(kept, kept[0], half, w, energy=energy)
        planes, gain = torch.zeros(b, n, 3, h, w), torch.zeros(b, n, 3)
        for dtype, channels_last, noise in LAYOUTS:
            out = torch.zeros(b, n, h, w, 3, dtype=dtype).permute(0, 1, 4, 2, 3)
            launch = _triton.finish_launch(
                out if channels_last else out.contiguous(), planes, gain, gain, planes[0] if noise else None,
                clip=noise, mean=torch.zeros(3), std=torch.ones(3),
            )  # fmt: skip
            layout = "channels_last" if channels_last else "contiguous"
            kind = "noise" if noise else "filter"
            yield f"finish {kind} {h}x{w} {str(dtype).removeprefix('torch.')} {layout}", launch
