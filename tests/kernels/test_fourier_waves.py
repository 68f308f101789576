"""`fourier_waves`: `fourier_perturb` of every image at its own frequency, signs and strength."""

import math
import os

import numpy as np
import pytest
import torch
from fastfreq_kernels import fourier_perturb, fourier_waves

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BACKENDS = ["triton"] if INTERPRETED else ["reference", "cpu"]
SHAPES = [(1, 1, 1, 1), (3, 2, 13, 17), (2, 3, 33, 70), (0, 3, 8, 8), (2, 1, 1, 7)]


def case(shape, dtype=torch.float32, layout=torch.contiguous_format):
    n, c, h, w = shape
    rng = torch.Generator().manual_seed(n + h)
    images = torch.rand(shape, generator=rng)
    images = (images * 255).round().to(dtype) if dtype == torch.uint8 else images.to(dtype)
    frequencies = torch.randint(-2 * max(h, w), 2 * max(h, w), (n, 2), generator=rng)
    frequencies[: n // 2] = torch.tensor([0, w // 2])  # its own twin, if w is even
    signs = torch.randint(-1, 2, (n, c), generator=rng).to(torch.int8)
    return (images.contiguous(memory_format=layout), frequencies, signs), torch.rand(n, generator=rng).double() * 4


def close(out, arguments, strengths, clip, dtype):
    wide, frequencies, signs = arguments
    wide = wide.double() / 255 if wide.dtype == torch.uint8 else wide.double()
    truth = [
        fourier_perturb(
            wide[i : i + 1], frequencies[i : i + 1], signs[None, i : i + 1], eps=float(strength), phase=0.7, clip=clip,
            dtype=torch.float64, backend="reference",
        )
        for i, strength in enumerate(strengths)
    ]  # fmt: skip
    expected = torch.cat(truth) if truth else wide
    allowed = max(64 * torch.finfo(torch.float32).eps, 2 * torch.finfo(dtype).eps)
    assert out.shape == wide.shape and out.dtype == dtype and out.is_contiguous()
    torch.testing.assert_close(out.double(), expected, rtol=allowed, atol=allowed)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("clip", [True, False], ids=["clipped", "unclipped"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_image_is_perturbed_alone(shape, clip, backend):
    arguments, strengths = case(shape)
    out = fourier_waves(*arguments, strengths=strengths, phase=0.7, clip=clip, backend=backend)
    close(out, arguments, strengths, clip, torch.float32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("given", "dtype"), [(torch.uint8, torch.float32), (torch.bfloat16, torch.bfloat16), (torch.float16, torch.float16)]
)
def test_types_and_layouts(given, dtype, backend):
    arguments, strengths = case((2, 3, 12, 20), given, torch.channels_last)
    out = fourier_waves(*arguments, strengths=strengths, phase=0.7, clip=True, dtype=dtype, backend=backend)
    close(out, arguments, strengths, True, dtype)


def test_a_wave_has_its_strength_and_is_the_closed_form():
    black = torch.zeros(2, 1, 9, 12, dtype=torch.float64)
    frequencies, strengths = torch.tensor([[2, -3], [0, 6]]), torch.tensor([1.5, 0.25]).double()
    signs = torch.tensor([[-1], [1]], dtype=torch.int8)
    out = fourier_waves(
        black, frequencies, signs, strengths=strengths, phase=0.4, clip=False, dtype=torch.float64, backend="reference"
    ).numpy()
    y, x = np.mgrid[:9, :12]
    for i, (ky, kx, signed, phase) in enumerate([(2, -3, -1.5, 0.4), (0, 6, 0.25, 0)]):
        wave = np.cos(2 * np.pi * (ky * y / 9 + kx * x / 12) + phase)
        np.testing.assert_allclose(out[i, 0], signed * wave / np.linalg.norm(wave), atol=1e-14)


def test_gradients_pass_through_the_image():
    (images, frequencies, signs), strengths = case((2, 1, 3, 4))
    images = images.double().requires_grad_()

    def run(pixels):
        return fourier_waves(
            pixels, frequencies, signs, strengths=strengths, phase=0.7, clip=False, dtype=torch.float64,
            backend="reference",
        )  # fmt: skip

    assert torch.autograd.gradcheck(run, images)
    assert fourier_waves(images.float(), frequencies, signs, strengths=strengths, phase=0.7, clip=True).requires_grad


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"strengths": torch.ones(2)}, TypeError, "expected `strengths` of torch.float64, got torch.float32"),
        ({"strengths": torch.ones(3).double()}, ValueError, r"expected `strengths` of shape \(2,\), one row per image"),
        ({"phase": math.nan}, ValueError, "expected a finite `phase`"),
        ({"dtype": torch.int32}, TypeError, "expected `dtype` to be torch.float32"),
    ],
    ids=["type", "count", "phase", "dtype"],
)
def test_refusals(changes, error, match):
    arguments, strengths = case((2, 1, 3, 4))
    with pytest.raises(error, match=match):
        fourier_waves(*arguments, **{"strengths": strengths, "phase": 0.7, "clip": True, **changes})
    with pytest.raises(ValueError, match=r"expected `signs` of shape \(2, 1\)"):
        fourier_waves(*arguments[:2], arguments[2][:1], strengths=strengths, phase=0.7, clip=True)


def test_the_operator_is_one_for_torch():
    (images, frequencies, signs), strengths = case((2, 3, 5, 6))
    torch.library.opcheck(
        torch.ops.fastfreq.fourier_waves.default, (images, frequencies, signs, strengths, 0.7, True, torch.bfloat16)
    )


@pytest.mark.skipif(INTERPRETED, reason="this is what the interpreter runs")
def test_triton_kernels_under_the_interpreter(run_under_the_interpreter):
    run_under_the_interpreter(__file__)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_on_a_gpu(shape):
    arguments, strengths = case(shape)
    there = [value.cuda() for value in arguments]
    out = fourier_waves(*there, strengths=strengths.cuda(), phase=0.7, clip=True)
    close(out.cpu(), arguments, strengths, True, torch.float32)
