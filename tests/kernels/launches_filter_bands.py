"""What `filter_curve` and `noise_curve` launch at CIFAR's and ImageNet's sizes, and an odd one."""

import torch
from fastfreq_kernels._output import Output
from fastfreq_kernels.filter_bands import _triton

LAYOUTS = (
    (torch.bfloat16, True, True),
    (torch.float32, True, False),
    (torch.float32, False, True),
    (torch.float16, False, False),
)


def cases():
    """(name, launch) of every production launch."""
    for h, w, n, b in ((32, 32, 64, 10), (224, 224, 4, 20), (33, 47, 2, 3), (1, 1, 1, 1)):
        kept = torch.zeros(b, n, 3, h, w // 2 + 1, 2)
        half = torch.ones(b, h, w // 2 + 1)
        for energy in (False, True):
            kind = " with its energy" if energy else ""
            yield f"mask {h}x{w}{kind}", _triton.mask_launch(kept, kept[0], half, w, energy=energy)
        planes, gain = torch.zeros(b, n, 3, h, w), torch.zeros(b, n, 3)
        for dtype, channels_last, noise in LAYOUTS:
            output = Output(noise, torch.zeros(3), torch.ones(3), dtype, channels_last)
            out, base = output.empty(planes[0], b, n), planes[0] if noise else None
            launch = _triton.finish_launch(out, planes, gain, gain, base, output)
            layout = "channels_last" if channels_last else "contiguous"
            kind = "noise" if noise else "filter"
            yield f"finish {kind} {h}x{w} {str(dtype).removeprefix('torch.')} {layout}", launch
