"""`radial_power`: the reference against NumPy and Parseval, every backend against the reference in float64.

The Triton kernels' cases run natively where there is a GPU, and in Triton's interpreter in a process of their own.
"""

import contextlib
import os
import re

import numpy as np
import pytest
import torch
from fastfreq_kernels import radial_cells, radial_power, ring_moments, simd
from fastfreq_kernels.radial_power import _cpu
from torch._subclasses.fake_tensor import FakeTensorMode

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BACKENDS = ["triton"] if INTERPRETED else ["reference", "cpu"]
SHAPES = [(2, 3, 33, 47), (3, 1, 8, 12), (1, 2, 1, 7), (2, 1, 7, 1), (1, 1, 1, 1), (5, 2, 16, 9), (2, 3, 32, 32)]
# sides of factors up to 7, with columns and rows that do and do not fill registers: those of the compiled transform
SMOOTH = [(2, 3, 32, 32), (3, 2, 45, 70), (2, 1, 63, 36), (2, 2, 5, 128), (1, 1, 210, 1), (1, 3, 1, 1), (5, 1, 2, 3)]
EPS = torch.finfo(torch.float32).eps
EXPONENTS = [52, 26, 0, -26, -52, -78, -104, -130]


def cut(terms, exponents=EXPONENTS):
    """(p, ...) sums over the first axis of terms cut into multiples of 2^e: float64 divides by these without error."""
    rest, sums = np.asarray(terms, dtype=np.float64), []
    for e in exponents:
        near = np.rint(rest / 2.0**e) * 2.0**e
        sums.append(near.sum(axis=0))
        rest = rest - near
    return np.stack(sums)


@contextlib.contextmanager
def threads(count):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


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
    with threads(3):
        split = radial_power(images)
    for rings, plane in ((torch.cat([r for r, _ in parts]), sum(p for _, p in parts)), split):
        rounding = 0.0 if on_a_cpu == "compiled" else 4 * EPS  # MKL's own, which may go by the number of planes
        torch.testing.assert_close(rings, whole[0], rtol=rounding, atol=0)
        torch.testing.assert_close(plane, whole[1], rtol=rounding + 1e-14, atol=0)


def test_without_numba_torch_answers_after_one_warning(monkeypatch):
    images = torch.rand(3, 2, 10, 14)
    expected = radial_power(images)

    def forget():
        simd.compiled.cache_clear()
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


# ------------------------------------------------------------------ exact parts
PIXELS = {
    "bytes": lambda shape: torch.randint(0, 256, shape, dtype=torch.uint8),
    "floats": lambda shape: torch.rand(shape),
    "bfloat16": lambda shape: torch.rand(shape).bfloat16(),
    "float64": lambda shape: torch.rand(shape).double(),
    "black": torch.zeros,
    "grey": lambda shape: torch.full(shape, 0.3),
    # from far below 2^-104, where a term has many parts, to far above 1
    "of every size": lambda shape: torch.rand(shape) * 10 ** (24 * torch.rand(shape[0], 1, 1, 1) - 18),
}


@pytest.mark.parametrize("kind", PIXELS)
@pytest.mark.parametrize(
    "shape", [(7, 2, 33, 47), (19, 3, 45, 70), (3, 1, 1, 1), (4, 1, 63, 1), (6, 1, 224, 32)], ids=str
)
def test_parts_are_those_of_each_images_plane(shape, kind, on_a_cpu):
    torch.manual_seed(0)
    images = PIXELS[kind](shape)
    for magnitude in (False, True):
        plain, _ = radial_power(images, magnitude=magnitude)
        planes = torch.cat([radial_power(image, magnitude=magnitude)[1][None] for image in images.split(1)])
        for count in (1, 3):
            with threads(count):
                rings, parts = radial_power(images, magnitude=magnitude, exponents=EXPONENTS)
            np.testing.assert_array_equal(parts, cut(planes))
            np.testing.assert_array_equal(rings, plain)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_order_and_no_batch_changes_a_bit_of_the_parts(backend):
    images = torch.rand(9, 2, 11, 14)
    _, whole = radial_power(images, exponents=EXPONENTS, backend=backend)
    pieces = [radial_power(p, exponents=EXPONENTS, backend=backend)[1] for p in images.flip(0).split([2, 1, 6])]
    assert torch.equal(pieces[2] + (pieces[0] + pieces[1]), whole) and whole.shape == (8, 2, 11, 8)
    _, plane = radial_power(images, backend=backend)
    torch.testing.assert_close(whole.sum(dim=0), plane, rtol=4 * EPS, atol=0)
    for e, part in zip(EXPONENTS, whole, strict=True):
        assert not torch.remainder(part, 2.0**e).any()
    assert not radial_power(images[:0], exponents=EXPONENTS, backend=backend)[1].any()


def test_one_large_plane_alone_has_the_bits_it_has_among_others():
    """Torch would add up its pixels in several threads, in another order."""
    images = torch.rand(4, 1, 401, 397)
    with threads(3):
        alone = [radial_power(image, exponents=EXPONENTS)[1] for image in images.split(1)]
        np.testing.assert_array_equal(sum(alone), radial_power(images, exponents=EXPONENTS)[1])


@pytest.mark.parametrize("shape", [(5, 2, 11, 13), (5, 2, 8, 12)], ids=str)
def test_threads_write_in_inference_mode(shape):
    """Other threads are outside of it: their writes to its tensors were refused."""
    images = torch.rand(shape)
    expected = radial_power(images, exponents=EXPONENTS)
    with threads(2), torch.inference_mode():
        found = radial_power(images, exponents=EXPONENTS)
        ring_moments(images[:, 0, 0].double(), exponents=EXPONENTS)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(7, 21), (40, 8), (3, 1), (1, 17), (0, 5), (2, 160)], ids=str)
def test_moments_of_profiles(shape, backend, monkeypatch):
    rng = np.random.default_rng(5)
    profiles = rng.standard_normal(shape) * 10.0 ** rng.uniform(-14, 4, shape)
    expected = cut(profiles[:, :, None] * profiles[:, None, :])
    given = torch.from_numpy(profiles)
    with threads(2):
        np.testing.assert_array_equal(ring_moments(given, exponents=EXPONENTS, backend=backend), expected)
        monkeypatch.setattr(_cpu, "_code", lambda: None)
        np.testing.assert_array_equal(ring_moments(given, exponents=EXPONENTS, backend=backend), expected)


def test_what_is_no_number_stays_none():
    images = torch.rand(3, 1, 8, 12)
    images[1, 0, 3, 4] = torch.nan
    for backend in ("cpu", "reference"):
        assert radial_power(images, exponents=EXPONENTS, backend=backend)[1].sum(dim=0).isnan().all()


@pytest.mark.parametrize("exponents", [[], [0, 26], [26, 26], [1000, 0], [0, -1000]])
def test_exponents_that_are_refused(exponents):
    for call in (radial_power, ring_moments):
        given = torch.zeros(1, 1, 4, 4) if call is radial_power else torch.zeros(1, 4).double()
        with pytest.raises(ValueError, match="expected `exponents` descending from 900 at most to -900 at least"):
            call(given, exponents=exponents)


def test_profiles_that_are_refused():
    with pytest.raises(ValueError, match=re.escape("expected `profiles` of shape (n, r), got (3,)")):
        ring_moments(torch.zeros(3).double(), exponents=EXPONENTS)
    with pytest.raises(TypeError, match=re.escape("of float64, got torch.float32; use profiles.double()")):
        ring_moments(torch.zeros(3, 4), exponents=EXPONENTS)


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
    with torch.inference_mode():  # tables that are made here are kept, and have to serve a gradient too
        radial_power(torch.rand(1, 1, 9, 13))
    radial_power(torch.rand(1, 1, 9, 13, requires_grad=True))[0].sum().backward()
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
    for side, magnitude, exponents in ((None, False, EXPONENTS), (5, True, None)):
        arguments = torch.rand(2, 3, 7, 8), side, magnitude, exponents
        torch.library.opcheck(torch.ops.fastfreq.radial_power.default, arguments)
    torch.library.opcheck(torch.ops.fastfreq.ring_moments.default, (torch.rand(3, 5).double(), EXPONENTS))


@pytest.mark.parametrize("side", [None, 3])
def test_shapes_are_known_before_any_image_of_a_size_was_seen(side):
    for h, w in ((19, 23), (4, 31), (64, 50)):
        with FakeTensorMode():
            fake = torch.ops.fastfreq.radial_power.default(torch.empty(2, 1, h, w), side, False, EXPONENTS)
        real = radial_power(torch.zeros(2, 1, h, w), side=side, exponents=EXPONENTS)
        assert [tuple(a.shape) for a in fake] == [tuple(b.shape) for b in real]


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
    _, parts = radial_power(images.cuda(), magnitude=magnitude, exponents=EXPONENTS, backend="triton")
    torch.testing.assert_close(parts.sum(dim=0), there[1], rtol=4 * EPS, atol=0)
    torch.testing.assert_close(there[0].cpu().double(), here[0], rtol=512 * EPS, atol=1e-6)
    torch.testing.assert_close(there[1].cpu(), here[1], rtol=4096 * EPS, atol=1e-4)
