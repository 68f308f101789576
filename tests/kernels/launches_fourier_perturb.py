"""What the engine launches at CIFAR's and ImageNet's sizes, and an odd one."""

import torch
from fastfreq_kernels._output import Output
from fastfreq_kernels.fourier_perturb import _triton


def cases():
    """(name, launch) of every production launch."""
    for side, n, f in ((32, 256, 4), (224, 16, 8)):
        for images, dtype, channels_last in (
            (torch.float32, torch.bfloat16, True),
            (torch.uint8, torch.bfloat16, True),
            (torch.float32, torch.float32, False),
            (torch.bfloat16, torch.float16, False),
        ):
            kinds = [str(t).removeprefix("torch.") for t in (images, dtype)]
            layout = "channels_last" if channels_last else "contiguous"
            tables, perturb = launches(n, side, side, f, images, dtype, channels_last)
            yield f"perturb {side}x{side} {kinds[0]} to {kinds[1]} {layout}", perturb
        yield f"tables {side}x{side}", tables
    yield (
        "perturb 33x47 float32 to bfloat16 channels_last",
        launches(2, 33, 47, 3, torch.float32, torch.bfloat16, True)[1],
    )
    yield "tables 1x7", launches(1, 1, 7, 1, torch.float32, torch.float32, False)[0]
    out = torch.empty(512, 256, 3, dtype=torch.int8)
    ids, frequencies = torch.arange(256), torch.zeros(512, 2, dtype=torch.int64)
    yield "signs", _triton.signs_launch(out, ids, frequencies, (3, 224, 224), 2**40, 3)


def launches(n, h, w, f, images, dtype, channels_last):
    """Tables and perturbation of one call."""
    c = 3
    pixels = torch.zeros(n, c, h, w, dtype=images)
    if channels_last:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    output = Output(True, torch.zeros(c), torch.ones(c), dtype, channels_last)
    return _triton.launches(
        output.empty(pixels, f * n),
        pixels,
        torch.zeros(f, 2, dtype=torch.int64),
        torch.ones(f, n, c, dtype=torch.int8),
        4.0,
        0.7,
        output,
    )
