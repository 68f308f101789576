"""Mean spectra of photographs against a NumPy loop; `radial_power` against torch; answers validated before timing.

pytest benchmarks/bench_spectra.py --results benchmarks/results/NAME.json
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bench_end_to_end import photographs
from fastfreq_kernels import radial_power

import fastfreq as ff
from fastfreq.vocabulary.sums import EXPONENTS

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
IMAGES = 1000
# n, c, h, w
SHAPES = {"32x32": (512, 3, 32, 32), "224x224": (64, 3, 224, 224), "333x500": (24, 3, 333, 500)}


@pytest.fixture(scope="module")
def decoded():
    """(n, 3, 224, 224) uint8."""
    parts = [photographs(100, 224, 224).transpose(0, 3, 1, 2) for _ in range(IMAGES // 100)]
    return np.ascontiguousarray(np.concatenate(parts))


def mean_magnitude(images: np.ndarray) -> np.ndarray:
    """(c, h, w) E|F(X)|, one image after the other in float64, zero frequency in the middle."""
    total = np.zeros(images.shape[1:])
    for image in images:
        total += np.abs(np.fft.fft2(image / 255, norm="ortho"))
    return np.fft.fftshift(total / len(images), axes=(1, 2))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def bench_image_spectrum(dtype, decoded, paired, record):
    """ff.image_spectrum, which also sums over rings for the slope's interval, over a loop of fft2 and a mean."""
    images = torch.from_numpy(decoded)
    images = images if dtype == "uint8" else images.float() / 255
    images = images.to(DEVICE)
    expected = mean_magnitude(decoded)
    found = ff.image_spectrum(images).channel_map
    worst = float(np.abs(found / expected - 1).max())
    assert worst < 1e-4
    seconds, loop_seconds, ratio = paired(lambda: ff.image_spectrum(images), lambda: mean_magnitude(decoded), rounds=5)
    record(
        ours_ms_per_image=1e3 * seconds / IMAGES, loop_ms_per_image=1e3 * loop_seconds / IMAGES, speedup=1 / ratio,
        worst_relative_error=worst, images=IMAGES,
    )  # fmt: skip


@pytest.mark.parametrize("magnitude", [False, True], ids=["power", "magnitude"])
@pytest.mark.parametrize("shape", SHAPES)
def bench_radial_power(shape, magnitude, paired, record):
    """The operation over its reference in plain torch: rfft2, squares or `abs`, index_add."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, SHAPES[shape], dtype=np.uint8)).to(DEVICE)
    rings, plane = radial_power(images, magnitude=magnitude)
    expected, expected_plane = radial_power(images.double() / 255, magnitude=magnitude, backend="reference")
    np.testing.assert_allclose(rings.cpu(), expected.cpu(), rtol=512 * torch.finfo(torch.float32).eps, atol=1e-6)
    np.testing.assert_allclose(plane.cpu(), expected_plane.cpu(), rtol=1e-3)
    seconds, torch_seconds, ratio = paired(
        lambda: finished(radial_power(images, magnitude=magnitude)),
        lambda: finished(radial_power(images, magnitude=magnitude, backend="reference")),
        rounds=15,
    )
    n = len(images)
    record(ours_ms_per_image=1e3 * seconds / n, torch_ms_per_image=1e3 * torch_seconds / n, speedup=1 / ratio, images=n)


@pytest.mark.parametrize("shape", SHAPES)
def bench_exact_parts(shape, paired, record):
    """`radial_power` with sums that no order changes, over itself with sums that round."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, SHAPES[shape], dtype=np.uint8)).to(DEVICE)
    _, plane = radial_power(images, magnitude=True)
    _, parts = radial_power(images, magnitude=True, exponents=EXPONENTS)
    torch.testing.assert_close(parts.sum(dim=0), plane, rtol=1e-12, atol=0)
    seconds, plain_seconds, ratio = paired(
        lambda: finished(radial_power(images, magnitude=True, exponents=EXPONENTS)),
        lambda: finished(radial_power(images, magnitude=True)),
        rounds=15,
    )
    n = len(images)
    record(exact_ms_per_image=1e3 * seconds / n, plain_ms_per_image=1e3 * plain_seconds / n, ratio=ratio, images=n)


def finished(results: tuple[torch.Tensor, ...]) -> None:
    """Wait for the device."""
    results[0][..., 0].sum().item()
