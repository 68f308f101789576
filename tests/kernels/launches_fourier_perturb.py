"""What the engine calls at CIFAR's and ImageNet's sizes, and odd ones."""

import functools

import fastfreq_kernels as kernels
import torch

_UINT8, _FP32, _BF16, _FP16 = torch.uint8, torch.float32, torch.bfloat16, torch.float16
KINDS = (
    (_FP32, _BF16, True),
    (_UINT8, _BF16, True),
    (_FP32, _FP32, True),
    (_FP32, _FP32, False),
    (_BF16, _FP16, False),
)


def cases():
    """(name, call) of what is usual."""
    for side, n, f in ((32, 256, 4), (224, 16, 8)):
        for images, dtype, channels_last in KINDS:
            for laid_out in (False, True):
                kinds = f"{kind(images, laid_out)} to {kind(dtype, channels_last)}"
                yield f"{side}x{side} {kinds}", perturb(n, side, side, f, images, dtype, channels_last, laid_out)
    yield "33x47 float32 NCHW to bfloat16 NHWC", perturb(2, 33, 47, 3, _FP32, _BF16, True, False)
    yield "1x7 float32 NCHW to float32 NCHW", perturb(1, 1, 7, 1, _FP32, _FP32, False, False)
    yield (
        "32x32 float32 NHWC, neither clipped nor normalised",
        functools.partial(perturb(7, 32, 32, 4, _FP32, _FP32, True, True), clip=False, mean=None, std=None),
    )
    ids, frequencies = torch.arange(256), torch.zeros(512, 2, dtype=torch.int64)
    yield "signs", functools.partial(kernels.fourier_signs, ids, frequencies, (3, 224, 224), seed=2**40, domain=3)


def kind(dtype, channels_last):
    """In words."""
    return f"{str(dtype).removeprefix('torch.')} {'NHWC' if channels_last else 'NCHW'}"


def perturb(n, h, w, f, images, dtype, channels_last, laid_out):
    """A call, on images with the channels innermost or not."""
    c = 3
    pixels = torch.zeros(n, c, h, w, dtype=images)
    if laid_out:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    return functools.partial(
        kernels.fourier_perturb, pixels, torch.zeros(f, 2, dtype=torch.int64), torch.ones(f, n, c, dtype=torch.int8),
        eps=4.0, phase=0.7, clip=True, mean=torch.zeros(c), std=torch.ones(c), dtype=dtype,
        channels_last=channels_last,
    )  # fmt: skip
