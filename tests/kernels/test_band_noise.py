"""`gaussian_noise` and `band_noise`: moments, NumPy, and every backend against the reference in float64.

The Triton kernels' cases run natively where there is a GPU, and in Triton's interpreter in a process of their own.
"""

import math
import os
import re

import numpy as np
import pytest
import torch
from fastfreq_kernels import _philox, band_noise, gaussian_noise
from fastfreq_kernels.band_noise import _reference
from scipy import stats

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BACKENDS = ["triton"] if INTERPRETED else ["reference", "cpu"]
SHAPES = [(2, 3, 33, 47), (3, 1, 8, 12), (1, 2, 1, 7), (2, 1, 7, 1), (1, 1, 1, 1), (5, 2, 16, 9), (2, 3, 32, 32)]
MEAN, STD = torch.tensor([0.48, 0.45, 0.4]), torch.tensor([0.23, 0.22, 0.25])
SEED = 2**63 + 12345  # the top bit of the key counts, too


def ids_of(n):
    """With bits in both 32-bit words."""
    return torch.arange(n) * (2**33 + 5) + 2**31


def problem(shape, bands=5):
    """Random images in [0, 1] and random symmetric masks, of which the first two keep everything and nothing."""
    rng = np.random.default_rng(0)
    masks = rng.random((bands, *shape[2:])) < 0.5
    masks = masks | np.roll(masks[:, ::-1, ::-1], 1, axis=(1, 2))
    masks[:2] = np.array([True, False])[:, None, None]
    return torch.from_numpy(rng.random(shape)).float(), torch.from_numpy(masks)


def by_numpy(images, masks, noise, norm):
    """(b, n, c, h, w) from the noise by full complex FFTs."""
    planes = np.fft.ifft2(masks.numpy()[:, None, None] * np.fft.fft2(noise.double().numpy())).real
    length = np.sqrt((planes**2).sum(axis=(-2, -1), keepdims=True))
    return images.double().numpy() + norm * np.divide(planes, length, out=np.zeros_like(planes), where=length > 0)


# ------------------------------------------------------------------ white noise
def philox_at(seed, *counter):
    a, b, c, d = (torch.tensor([v]) for v in counter)
    return [int(word) for word in _philox.philox(seed, (a, b, c, d))]


def test_counters_and_pixels_are_those_of_the_specification():
    """Random123's published answer for Philox4x32-10 with zero key and counter, through Box and Muller's formulas."""
    words = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox_at(0, 0, 0, 0, 0) == words
    noise = _reference.box_muller(torch.tensor([2**40 + 7]), (3, 3, 5), SEED, 0, torch.float64)[0, 2].flatten()
    for quad in range(3):
        u = [(word >> 8) / 2**24 for word in philox_at(SEED, 7, 2**8, 2**31 + 2, quad)]
        for i in (0, 1):
            length = math.sqrt(-2 * math.log(u[2 * i] + 2**-24))
            assert noise[4 * quad + 2 * i] == pytest.approx(length * math.cos(2 * math.pi * u[2 * i + 1]), abs=1e-14)
            assert noise[4 * quad + 2 * i + 1] == pytest.approx(
                length * math.sin(2 * math.pi * u[2 * i + 1]), abs=1e-14
            )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_noise_is_the_references(shape, backend):
    exact = _reference.box_muller(ids_of(shape[0]), shape[1:], SEED, 0, torch.float64)
    noise = gaussian_noise(ids_of(shape[0]), shape[1:], seed=SEED, backend=backend)
    assert noise.dtype == torch.float32 and noise.shape == shape
    torch.testing.assert_close(noise.double(), exact, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_noise_is_normal_independent_and_white(backend):
    n, side = (4, 32) if INTERPRETED else (64, 64)
    noise = gaussian_noise(torch.arange(n), (3, side, side), seed=3, backend=backend).double().numpy()
    count = noise.size
    sigma = 5 / math.sqrt(count)  # five standard errors of the mean
    assert abs(noise.mean()) < sigma
    assert abs(noise.var() - 1) < math.sqrt(2) * sigma
    assert abs((noise**3).mean()) < math.sqrt(15) * sigma
    assert abs((noise**4).mean() - 3) < math.sqrt(96) * sigma
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    for shift in ((0, 0, 0, 1), (0, 0, 0, 2), (0, 0, 1, 0), (0, 1, 0, 0), (1, 0, 0, 0)):
        assert abs((noise * np.roll(noise, shift, axis=(0, 1, 2, 3))).mean()) < sigma, shift
    power = (np.abs(np.fft.fft2(noise, norm="ortho")) ** 2).mean(axis=(0, 1))
    assert abs(power - 1).max() < 7 / math.sqrt(3 * n)  # exponential values: their deviation is their mean


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(3, 9, 10), (3, 16, 16)], ids=str)
def test_noise_belongs_to_seed_image_and_channel(shape, backend):
    whole = gaussian_noise(ids_of(7), shape, seed=5, backend=backend)
    order = torch.tensor([4, 0, 6])
    torch.testing.assert_close(
        gaussian_noise(ids_of(7)[order], shape, seed=5, backend=backend), whole[order], rtol=0, atol=0
    )
    torch.testing.assert_close(
        gaussian_noise(ids_of(7), (1, *shape[1:]), seed=5, backend=backend), whole[:, :1], rtol=0, atol=0
    )
    assert (gaussian_noise(ids_of(7), shape, seed=5 + 2**32, backend=backend) != whole).all(dim=(1, 2, 3)).all()
    assert len({float(v) for v in whole[:, :, 0, 0].flatten()}) == 21


# ------------------------------------------------------------------ in bands
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_noise_in_bands_is_numpys_and_has_its_norm(shape, backend):
    images, masks = problem(shape, bands=11)
    noise = _reference.box_muller(ids_of(shape[0]), shape[1:], SEED, 0, torch.float64)
    out = band_noise(images, masks, ids_of(shape[0]), norm=3.0, seed=SEED, backend=backend)
    np.testing.assert_allclose(out, by_numpy(images, masks, noise, 3.0), atol=2e-5)
    length = torch.linalg.vector_norm((out - images).double(), dim=(-2, -1))
    torch.testing.assert_close(length[0], torch.full_like(length[0], 3), rtol=1e-5, atol=0)
    assert torch.equal(out[1], images)  # nothing is left of the noise: bit for bit


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_clipped_normalised_cast_and_laid_out(dtype, channels_last, backend):
    images, masks = problem((3, 3, 17, 22))
    pixels = (images * 255).round().to(torch.uint8)
    out = band_noise(
        pixels, masks, ids_of(3), norm=8.0, seed=1, clip=True, mean=MEAN, std=STD, dtype=dtype,
        channels_last=channels_last, backend=backend,
    )  # fmt: skip
    noise = _reference.box_muller(ids_of(3), (3, 17, 22), 1, 0, torch.float64)
    noisy = by_numpy(pixels.double() / 255, masks, noise, 8.0).clip(0, 1)
    expected = (noisy - MEAN.double().numpy()[:, None, None]) / STD.double().numpy()[:, None, None]
    np.testing.assert_allclose(out.double(), expected, atol=4 * torch.finfo(dtype).eps + 1e-4)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert out.flatten(0, 1).is_contiguous(memory_format=layout) and out.dtype == dtype


@pytest.mark.parametrize("backend", BACKENDS)
def test_batches_and_bands_do_not_change_the_noise(backend):
    images, masks = problem((5, 3, 10, 14))
    whole = band_noise(images, masks, ids_of(5), norm=2.0, seed=9, backend=backend)
    for part in (slice(0, 1), slice(3, 5), slice(0, 0)):
        torch.testing.assert_close(
            band_noise(images[part], masks[2:], ids_of(5)[part], norm=2.0, seed=9, backend=backend), whole[2:, part],
            rtol=0, atol=1e-6,
        )  # fmt: skip
    assert band_noise(images, masks[:0], ids_of(5), norm=2.0, seed=9, backend=backend).shape == (0, 5, 3, 10, 14)
    every_second = band_noise(images[::2], masks, ids_of(5)[::2], norm=2.0, seed=9, backend=backend)
    torch.testing.assert_close(every_second, whole[:, ::2], rtol=0, atol=1e-6)


def test_gradients_come_from_the_reference():
    images, masks = problem((2, 1, 5, 6))
    images.requires_grad_()
    band_noise(
        images, masks, ids_of(2), norm=1.0, seed=0, std=torch.tensor([0.5]), mean=torch.zeros(1)
    ).sum().backward()
    torch.testing.assert_close(images.grad, torch.full_like(images, 5 / 0.5))
    with pytest.raises(RuntimeError, match="do not require grad for backend='cpu'"):
        band_noise(images, masks, ids_of(2), norm=1.0, seed=0, backend="cpu")


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"image_ids": torch.arange(3)}, ValueError,
         "expected one of `image_ids` per image, got 3 for 2 images"),
        ({"image_ids": torch.zeros(2)}, TypeError,
         "expected `image_ids` of torch.int64, got torch.float32; use image_ids.long()"),
        ({"norm": -1.0}, ValueError, "expected a finite `norm` from 0, got -1.0"),
        ({"norm": math.nan}, ValueError, "expected a finite `norm` from 0, got nan"),
        ({"domain": 2**15}, ValueError, "expected `domain` to be an integer from 0 to 2**15 - 1, got 32768"),
        ({"seed": 2**64}, ValueError, f"expected `seed` to be an integer from 0 to 2**64 - 1, got {2**64}"),
        ({"masks": torch.ones(1, 4, 3)}, ValueError,
         "expected `masks` of shape (b, 4, 5), a whole unshifted plane each, got (1, 4, 3)"),
    ],
)  # fmt: skip
def test_refusals(change, error, message):
    arguments = {
        "images": torch.zeros(2, 3, 4, 5), "masks": torch.ones(1, 4, 5), "image_ids": torch.arange(2), "norm": 1.0,
        "seed": 0, **change,
    }  # fmt: skip
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        band_noise(**arguments)


@pytest.mark.skipif(INTERPRETED, reason="is this run")
def test_triton_kernels_under_the_interpreter(run_under_the_interpreter):
    run_under_the_interpreter(__file__)


def test_opcheck():
    images, masks = problem((2, 3, 7, 8))
    arguments = (2.0, -5, 7, True, MEAN, STD, torch.bfloat16, True)
    torch.library.opcheck(torch.ops.fastfreq.band_noise.default, (images, masks, ids_of(2), *arguments))
    torch.library.opcheck(torch.ops.fastfreq.gaussian_noise.default, (ids_of(2), (3, 7, 8), 5, 7))


# ------------------------------------------------------------------ on a GPU
@pytest.mark.gpu
@pytest.mark.parametrize("shape", [*SHAPES, (70, 3, 224, 224)], ids=str)
def test_gpu_equals_the_cpu_and_itself(shape):
    if not torch.cuda.is_available() or INTERPRETED:
        pytest.skip("no CUDA device")
    images, masks = problem(shape, bands=9)
    ids = ids_of(shape[0])
    here = gaussian_noise(ids, shape[1:], seed=SEED)
    torch.testing.assert_close(gaussian_noise(ids.cuda(), shape[1:], seed=SEED).cpu(), here, rtol=2e-6, atol=2e-6)
    keywords = {"norm": 8.0, "seed": SEED, "clip": True, "channels_last": True}
    here = band_noise(images, masks, ids, **keywords)
    there = [band_noise(images.cuda(), masks.cuda(), ids.cuda(), **keywords) for _ in range(2)]
    assert torch.equal(there[0], there[1])
    torch.testing.assert_close(there[0].cpu(), here, atol=2e-5, rtol=0)
