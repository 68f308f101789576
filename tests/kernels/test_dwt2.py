"""`dwt2` and `idwt2`: the reference against PyWavelets, every backend against it.

The Triton kernels' cases run in Triton's interpreter in a process of their own.
"""

import os
import re

import numpy as np
import pytest
import torch
from fastfreq_kernels import dwt2, idwt2, simd
from fastfreq_kernels.dwt2 import MODES, _reference

pywt = pytest.importorskip("pywt")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BACKENDS = ["triton"] if INTERPRETED else ["reference", "cpu"]
SHAPES = [(19, 22)] if INTERPRETED else [(1, 6), (5, 7), (33, 20), (40, 97)]
# one wavelet of each length up to 20 and each kind; the slow test takes all
FEW = ["bior2.6"] if INTERPRETED else ["haar", "bior2.6", "db10"]
PLANES = (1, 1) if INTERPRETED else (2, 3)
ALL = [name for name in pywt.wavelist(kind="discrete") if pywt.Wavelet(name).dec_len <= 20]


def decompositions(names):
    """(wavelet, mode, shape) that PyWavelets takes."""
    for name in names:
        for mode in MODES if not INTERPRETED else ("zero", "antireflect", "periodization"):
            for shape in SHAPES:
                if not ("reflect" in mode and 1 in shape):
                    yield pywt.Wavelet(name), mode, shape


def close(found, wanted, dtype, growth=1):
    """`growth`: of the samples by extrapolation."""
    tolerance = growth * (1e-6 if dtype == torch.float32 else 1e-13)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * max(1, np.abs(wanted).max(initial=0)))


def check(names, dtype, backend):
    rng, precision = np.random.default_rng(0), {torch.float32: np.float32, torch.float64: np.float64}[dtype]
    for wavelet, mode, shape in decompositions(names):
        images = rng.standard_normal((*PLANES, *shape)).astype(precision)
        one, (details,) = dwt2(
            torch.from_numpy(images), wavelet.dec_lo, wavelet.dec_hi, mode=mode, backend=backend
        )  # fmt: skip
        approximation, wanted = pywt.dwt2(images.astype(float), wavelet, mode)
        growth = 2 * wavelet.dec_len if mode in ("smooth", "antireflect") else 1
        close(one, approximation, dtype, growth)
        close(details, np.stack(wanted, axis=2), dtype, growth)
        back = idwt2(one, [details], wavelet.rec_lo, wavelet.rec_hi, mode=mode, shape=shape, backend=backend)
        # taps of PyWavelets' tables are inverse to each other to 1e-11 only (sym3; 2e-12 bior4.4, bior5.5, sym2): what
        # they give again is what PyWavelets gives again, and the image as closely as that is
        own = pywt.idwt2((approximation, wanted), wavelet, mode)[..., : shape[0], : shape[1]]
        close(back, own, dtype, 10 * growth)
        close(back, images, dtype, 10 * growth + np.abs(own - images).max() / 1e-13 * (dtype == torch.float64))
        assert np.abs(own - images).max() < 1e-10


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_coefficients_are_those_of_pywavelets_and_give_the_images_again(dtype, backend):
    check(FEW, dtype, backend)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_wavelet_up_to_twenty_taps(dtype):
    assert len(ALL) == 53  # 15 bior, 15 rbio, 10 db, 9 sym, 3 coif, haar
    check(ALL, dtype, "cpu")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["symmetric"] if INTERPRETED else ["symmetric", "periodization", "antireflect"])
def test_levels_are_those_of_pywavelets(mode, backend):
    wavelet, rng = pywt.Wavelet("db2"), np.random.default_rng(1)
    images = rng.standard_normal((1, 1, 25, 42))
    wanted = pywt.wavedec2(images, wavelet, mode, level=3)
    found, details = dwt2(
        torch.from_numpy(images), wavelet.dec_lo, wavelet.dec_hi, mode=mode, levels=3, backend=backend
    )
    close(found, wanted[0], torch.float64)
    for level, three in zip(details, wanted[1:], strict=True):
        close(level, np.stack(three, axis=2), torch.float64)
    back = idwt2(found, details, wavelet.rec_lo, wavelet.rec_hi, mode=mode, shape=(25, 42), backend=backend)
    close(back, images, torch.float64)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("shrinkage", "rectified"), [("hard", False), ("soft", False), ("soft", True)])
def test_details_are_shrunk_as_pywavelets_does(shrinkage, rectified, backend):
    wavelet, images = (
        pywt.Wavelet("db4"),
        torch.randn(*PLANES, *((9, 20) if INTERPRETED else (21, 34)), generator=torch.Generator().manual_seed(2)),
    )
    taps = wavelet.dec_lo, wavelet.dec_hi
    plain, (details,) = dwt2(images, *taps, backend=backend)
    one, (shrunk,) = dwt2(images, *taps, threshold=0.4, shrinkage=shrinkage, rectified=rectified, backend=backend)
    wanted = pywt.threshold(details.numpy(), 0.4, shrinkage)
    np.testing.assert_allclose(shrunk, np.abs(wanted) if rectified else wanted, atol=1e-6)
    assert torch.equal(one, plain) and 0.2 < (shrunk == 0).float().mean() < 0.6


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_at_the_threshold_goes_and_nan_stays(backend):
    images = torch.tensor([[0.0, 1.0], [torch.nan, 2.0]])[:, None, None, :].expand(2, 1, 2, 2)
    half = [0.5, 0.5], [-0.5, 0.5]
    _, (details,) = dwt2(images.contiguous(), *half, mode="periodization", threshold=0.5, backend=backend)
    assert torch.equal(details[0].flatten(), torch.zeros(3)) and details[1, 0, 1].isnan().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_strides_batches_and_nothing(backend):
    wavelet, images = pywt.Wavelet("sym2"), torch.rand(2, 2, 9, 26)
    taps = wavelet.dec_lo, wavelet.dec_hi
    whole, (details,) = dwt2(images, *taps, backend=backend)
    for laid_out in (images.contiguous(memory_format=torch.channels_last), images.mT.contiguous().mT):
        one, (three,) = dwt2(laid_out, *taps, backend=backend)
        assert torch.equal(one, whole) and torch.equal(three, details)
    wide = torch.rand(2, 5, 9, 26)
    wide[:, 1:5:2] = images
    one, _ = dwt2(wide[:, 1:5:2], *taps, backend=backend)
    assert torch.equal(one, whole)
    assert dwt2(images[:0], *taps, backend=backend)[0].shape == (0, 2, 6, 14)
    assert dwt2(images[:, :0], *taps, backend=backend)[1][0].shape == (2, 0, 3, 6, 14)


def test_neither_batches_nor_threads_change_a_plane():
    wavelet, images = pywt.Wavelet("db2"), torch.rand(7, 3, 150, 131)
    taps = wavelet.dec_lo, wavelet.dec_hi
    whole, (details,) = dwt2(images, *taps, backend="cpu")
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            one, (three,) = dwt2(images[2:5], *taps, backend="cpu")
            assert torch.equal(one, whole[2:5]) and torch.equal(three, details[2:5])
    finally:
        torch.set_num_threads(threads)


def test_gradients_come_from_the_reference_and_are_the_adjoint():
    wavelet = pywt.Wavelet("bior2.2")
    images = torch.rand(1, 1, 7, 10, dtype=torch.float64, requires_grad=True)

    def bands(x):
        one, details = dwt2(x, wavelet.dec_lo, wavelet.dec_hi, mode="smooth", levels=2)
        return [one, *details]

    assert torch.autograd.gradcheck(bands, images)
    given = [torch.rand_like(band, requires_grad=True) for band in bands(images.detach())]
    assert torch.autograd.gradcheck(
        lambda one, *details: idwt2(one, details, wavelet.rec_lo, wavelet.rec_hi, mode="smooth"), given
    )
    with pytest.raises(RuntimeError, match="do not require grad for backend='cpu'"):
        dwt2(images, wavelet.dec_lo, wavelet.dec_hi, backend="cpu")


def test_without_numba_the_reference_answers_after_one_warning(monkeypatch):
    wavelet, images = pywt.Wavelet("db2"), torch.rand(2, 1, 12, 9)
    expected = dwt2(images, wavelet.dec_lo, wavelet.dec_hi)
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        simd.compiled.cache_clear()
        with pytest.warns(RuntimeWarning, match="numba is not installed: wavelet transforms take"):
            found = dwt2(images, wavelet.dec_lo, wavelet.dec_hi)
    simd.compiled.cache_clear()
    torch.testing.assert_close(found[0], expected[0], atol=1e-6, rtol=0)


HALF = [0.5, 0.5]


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"images": torch.zeros(3, 4, 5)}, ValueError,
         "expected `images` of shape (n, c, h, w), no side of it 0, got (3, 4, 5)"),
        ({"images": torch.zeros(1, 3, 4, 5).half()}, TypeError,
         "expected `images` of float32 or float64, got torch.float16; use images.float()"),
        ({"mode": "mirror"}, ValueError, f"expected `mode` to be one of {MODES}, got 'mirror'"),
        ({"low": [0.5, 0.5, 0.0]}, ValueError,
         "expected filters `low` and `high` of one even length, got 3 and 2 taps; put a 0 beside an odd filter"),
        ({"low": [0.5, float("nan")]}, ValueError, "expected finite filters, got NaN or infinity in them"),
        ({"levels": 0}, ValueError, "expected `levels` to be at least 1, got 0"),
        ({"threshold": float("nan")}, ValueError, "expected a `threshold` of at least 0, or None, got nan"),
        ({"threshold": 1.0, "shrinkage": "firm"}, ValueError,
         "expected `shrinkage` to be one of ('hard', 'soft'), got 'firm'"),
        ({"rectified": True}, ValueError,
         "expected a `threshold` beside rectified=True, got None; pass threshold=0 for magnitudes alone"),
        ({"images": torch.zeros(1, 1, 1, 5), "mode": "reflect"}, ValueError,
         "expected at least two samples along each axis for mode='reflect', got (1, 5)"),
    ],
)  # fmt: skip
def test_refusals(change, error, message):
    arguments = {"images": torch.zeros(1, 3, 4, 5), "low": HALF, "high": HALF} | change
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        dwt2(**arguments)


def test_coefficients_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"expected details of shape \(1, 1, 3, 4, 4\), or of one row or column fewer"):
        idwt2(torch.zeros(1, 1, 4, 4), [torch.zeros(1, 1, 3, 5, 4)], HALF, HALF)
    with pytest.raises(TypeError, match="expected details of torch.float32"):
        idwt2(torch.zeros(1, 1, 4, 4), [torch.zeros(1, 1, 3, 4, 4).double()], HALF, HALF)
    with pytest.raises(ValueError, match=r"expected a `shape` of \(8, 8\) or one fewer, got \(8, 5\)"):
        idwt2(torch.zeros(1, 1, 4, 4), [torch.zeros(1, 1, 3, 4, 4)], HALF, HALF, shape=(8, 5))
    with pytest.raises(ValueError, match="expected at least 4 coefficients along each axis for 8 taps, got"):
        idwt2(torch.zeros(1, 1, 3, 9), [torch.zeros(1, 1, 3, 3, 9)], HALF * 4, HALF * 4)


def test_shrunk_is_odd_and_never_grows():
    values = torch.linspace(-2, 2, 41)
    for kind in ("hard", "soft"):
        out = _reference.shrunk(values, kind, 0.5)
        assert torch.equal(out, -out.flip(0)) and (out.abs() <= values.abs()).all()


@pytest.mark.skipif(INTERPRETED, reason="is this run")
def test_triton_kernels_under_the_interpreter(run_under_the_interpreter):
    run_under_the_interpreter(__file__)


def test_opcheck_and_compile():
    images, half = torch.rand(2, 3, 7, 8), [0.5, 0.5]
    torch.library.opcheck(torch.ops.fastfreq.dwt2.default, (images, half, half, "symmetric", "soft", 0.1))
    one, three = torch.rand(2, 3, 5, 6), torch.rand(2, 3, 3, 5, 6)
    torch.library.opcheck(torch.ops.fastfreq.idwt2.default, (one, three, half, half, "periodization"))


# ------------------------------------------------------------------ on a GPU
@pytest.mark.gpu
@pytest.mark.parametrize("mode", MODES)
def test_gpu_equals_the_cpu_and_itself(mode):
    if not torch.cuda.is_available() or INTERPRETED:
        pytest.skip("no CUDA device")
    wavelet, images = pywt.Wavelet("db4"), torch.rand(70, 3, 67, 130)
    taps = wavelet.dec_lo, wavelet.dec_hi
    here, there = (dwt2(x, *taps, mode=mode, levels=2, threshold=0.1) for x in (images, images.cuda()))
    for a, b in zip([here[0], *here[1]], [there[0], *there[1]], strict=True):
        torch.testing.assert_close(b.cpu(), a, atol=4e-6, rtol=0)
