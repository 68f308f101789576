"""`radial_power`: the reference against NumPy and Parseval, every backend against the reference in float64.

The Triton kernels' cases run natively where there is a GPU, and in Triton's interpreter in a process of their own.
"""

import os
import re

import numpy as np
import pytest
import torch
from fastfreq_kernels import _numba, radial_cells, radial_power
from fastfreq_kernels.radial_power import _cpu

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BACKENDS = ["triton"] if INTERPRETED else ["reference", "cpu"]
SHAPES = [(2, 3, 33, 47), (3, 1, 8, 12), (1, 2, 1, 7), (2, 1, 7, 1), (1, 1, 1, 1), (5, 2, 16, 9), (2, 3, 32, 32)]
# sides of factors up to 7, with columns and rows that do and do not fill registers: those of the compiled transform
SMOOTH = [(2, 3, 32, 32), (3, 2, 45, 70), (2, 1, 63, 36), (2, 2, 5, 128), (1, 1, 210, 1), (1, 3, 1, 1), (5, 1, 2, 3)]
EPS = torch.finfo(torch.float32).eps


def by_numpy(images, magnitude):
    """(ring sums (n, c, r), half plane summed over images (c, h, w // 2 + 1)) from the full complex FFT."""
    h, w = images.shape[2:]
    ky, kx = np.fft.fftfreq(h, 1 / h), np.fft.fftfreq(w, 1 / w)
    scale = min(h, w)
    ring = np.floor(np.hypot(ky[:, None] * (scale / h), kx[None, :] * (scale / w)) + 0.5).astype(int)
    values = np.abs(np.fft.fft2(images, norm="ortho")) ** (1 if magnitude else 2)
    sums = np.stack([values[..., ring == r].sum(axis=-1) for r in range(ring.max() + 1)], axis=-1)
    return sums, values.sum(axis=0)[..., : w // 2 + 1]


def photograph(rng, shape):
    """Noise whose amplitude falls as 1 / f, with a large mean, in [0, 1]: high rings hold little, and must be right."""
    h, w = shape[2:]
    f = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)[None, :])
    waves = np.fft.ifft2(np.fft.fft2(rng.standard_normal(shape)) / (f + 1 / max(h, w))).real
    return 0.5 + 0.45 * waves / np.abs(waves).max()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("magnitude", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rings_and_plane_are_those_of_numpy(shape, magnitude, backend):
    images = np.random.default_rng(0).random(shape)
    rings, plane = radial_power(torch.from_numpy(images), magnitude=magnitude, backend=backend)
    sums, total = by_numpy(images, magnitude)
    np.testing.assert_allclose(rings, sums, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(plane, total, rtol=1e-9, atol=1e-12)
    assert rings.dtype == plane.dtype == torch.float64


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(2, 3, 33, 47), (2, 3, 224, 224), (3, 1, 97, 128)], ids=str)
def test_parseval_holds_and_the_worst_ring_is_right_in_float32(shape, backend):
    if INTERPRETED and shape[2] > 100:
        shape = (1, 1, 67, 50)  # the interpreter takes seconds for a plane of 224 x 224
    images = torch.from_numpy(photograph(np.random.default_rng(1), shape)).float()
    rings, _ = radial_power(images, backend=backend)
    assert rings.dtype == torch.float32
    exact, _ = by_numpy(images.double().numpy(), magnitude=False)
    assert (np.abs(rings.numpy() - exact) / exact).max() < 512 * EPS
    energy = images.double().square().sum(dim=(2, 3))
    torch.testing.assert_close(rings.double().sum(dim=2), energy, rtol=16 * EPS, atol=0)


@pytest.fixture(params=["compiled", "torch"])
def on_a_cpu(request, monkeypatch):
    """Both ways to the answer on a CPU."""
    if request.param == "compiled":
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(_cpu, "_layout", lambda *_: None)
    return request.param


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("magnitude", [False, True])
@pytest.mark.parametrize("shape", SMOOTH, ids=str)
def test_rings_and_plane_in_float32_on_a_cpu(shape, magnitude, dtype, on_a_cpu):
    pixels = photograph(np.random.default_rng(4), shape)
    images = torch.from_numpy((255 * pixels).round() if dtype == torch.uint8 else pixels).to(dtype)
    rings, plane = radial_power(images, magnitude=magnitude, backend="cpu")
    sums, total = by_numpy(images.double().numpy() / (255 if dtype == torch.uint8 else 1), magnitude)
    np.testing.assert_allclose(rings, sums, rtol=512 * EPS, atol=1e-6)
    np.testing.assert_allclose(plane, total, rtol=1e-4, atol=1e-5)


def test_neither_batches_nor_threads_change_an_image(on_a_cpu):
    images = torch.rand(37, 2, 30, 42)
    whole = radial_power(images)
    parts = [radial_power(part) for part in images.split(5)]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        split = radial_power(images)
    finally:
        torch.set_num_threads(threads)
    for rings, plane in ((torch.cat([r for r, _ in parts]), sum(p for _, p in parts)), split):
        rounding = 0.0 if on_a_cpu == "compiled" else 4 * EPS  # MKL's own, which may go by the number of planes
        torch.testing.assert_close(rings, whole[0], rtol=rounding, atol=0)
        torch.testing.assert_close(plane, whole[1], rtol=rounding + 1e-14, atol=0)


def test_without_numba_torch_answers_after_one_warning(monkeypatch):
    images = torch.rand(3, 2, 10, 14)
    expected = radial_power(images)

    def forget():
        _numba.compiled.cache_clear()
        _cpu._layout.cache_clear()

    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        forget()
        with pytest.warns(RuntimeWarning, match="numba is not installed: spectra of images take") as caught:
            answers = [radial_power(images), radial_power(images[..., 1:])]
        assert len(caught) == 1
    forget()
    for found, wanted in zip(answers[0], expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float16])
def test_other_types_are_read_as_their_values(dtype, backend):
    pixels = torch.randint(0, 256, (3, 2, 9, 10))
    images = pixels.to(dtype) if dtype == torch.uint8 else (pixels / 255).to(dtype)
    rings, plane = radial_power(images, backend=backend)
    values = images.double() / 255 if dtype == torch.uint8 else images.double()
    sums, total = by_numpy(values.numpy(), magnitude=False)
    np.testing.assert_allclose(rings, sums, rtol=1e-4)
    np.testing.assert_allclose(plane, total, rtol=1e-3, atol=1e-5)
    assert rings.dtype == torch.float32


@pytest.mark.parametrize("backend", BACKENDS)
def test_strides_and_empty_batches(backend):
    images = torch.rand(4, 3, 10, 14)
    expected = radial_power(images, backend=backend)
    for laid_out in (images.contiguous(memory_format=torch.channels_last), images.mT.contiguous().mT):
        for a, b in zip(radial_power(laid_out, backend=backend), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    rings, plane = radial_power(images[:0], backend=backend)
    assert rings.shape == (0, 3, expected[0].shape[2]) and not plane.any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(20, 31), (48, 20)], ids=str)
def test_rings_of_a_common_side_end_at_half_a_cycle_per_pixel(shape, backend):
    h, w = shape
    images = np.random.default_rng(2).random((2, 1, h, w))
    rings, _ = radial_power(torch.from_numpy(images), side=16, backend=backend)
    f = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)[None, :])
    power = np.abs(np.fft.fft2(images, norm="ortho")) ** 2
    cells, frequency, spread = radial_cells(h, w, side=16)
    for r in range(9):
        member = np.floor(16 * f + 0.5) == r
        np.testing.assert_allclose(rings[..., r], power[..., member].sum(axis=-1), rtol=1e-10)
        assert cells[r] == member.sum() > 0
        if r:
            assert frequency[r] == pytest.approx(np.exp(np.log(f[member]).mean()))
            assert spread[r] == pytest.approx(np.log(f[member]).var(), abs=1e-12)
    assert rings.shape[2] == 9 and frequency[0] == 0


def test_gradients_come_from_the_reference():
    images = torch.rand(2, 1, 5, 6, dtype=torch.float64, requires_grad=True)
    rings, _ = radial_power(images)
    rings.sum().backward()
    torch.testing.assert_close(images.grad, 2 * images.detach())  # Parseval
    with pytest.raises(RuntimeError, match="do not require grad for backend='cpu'"):
        radial_power(images, backend="cpu")


@pytest.mark.parametrize(
    "images, keywords, error, message",
    [
        (torch.zeros(3, 4, 5), {}, ValueError,
         "expected `images` of shape (n, c, h, w), got (3, 4, 5); add a batch axis with images[None]"),
        (torch.zeros(1, 3, 4, 0), {}, ValueError, "expected `images` of shape (n, c, h, w), got (1, 3, 4, 0)"),
        (torch.zeros(1, 3, 4, 5, dtype=torch.int64), {}, TypeError,
         "expected `images` of a float type or uint8, got torch.int64; use images.float()"),
        (torch.zeros(1, 3, 4, 5), {"side": 5}, ValueError,
         "expected `side` from 1 to the shorter side of the images, 4, got 5: a narrower ring of 4 x 5 images may hold "
         "no frequency"),
        (torch.zeros(1, 3, 4, 5), {"backend": "numba"}, ValueError,
         "expected `backend` to be None or one of ('triton', 'cpu', 'reference'), got 'numba'"),
    ],
)  # fmt: skip
def test_refusals(images, keywords, error, message):
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        radial_power(images, **keywords)


@pytest.mark.skipif(INTERPRETED, reason="is this run")
def test_triton_kernels_under_the_interpreter(run_under_the_interpreter):
    run_under_the_interpreter(__file__)


def test_opcheck():
    for side, magnitude in ((None, False), (5, True)):
        torch.library.opcheck(torch.ops.fastfreq.radial_power.default, (torch.rand(2, 3, 7, 8), side, magnitude))


# ------------------------------------------------------------------ on a GPU
@pytest.mark.gpu
@pytest.mark.parametrize("shape", [*SHAPES, (70, 3, 224, 224)], ids=str)
@pytest.mark.parametrize("magnitude", [False, True])
def test_gpu_equals_the_cpu_and_itself(shape, magnitude):
    if not torch.cuda.is_available() or INTERPRETED:
        pytest.skip("no CUDA device")
    images = torch.from_numpy(photograph(np.random.default_rng(3), shape)).float()
    here = radial_power(images.double(), magnitude=magnitude)
    there = radial_power(images.cuda(), magnitude=magnitude, backend="triton")
    again = radial_power(images.cuda(), magnitude=magnitude, backend="triton")
    assert torch.equal(there[0], again[0]) and torch.equal(there[1], again[1])
    torch.testing.assert_close(there[0].cpu().double(), here[0], rtol=512 * EPS, atol=1e-6)
    torch.testing.assert_close(there[1].cpu(), here[1], rtol=4096 * EPS, atol=1e-4)
