"""`filter_bands`: the reference against NumPy, every backend against it.

The Triton kernels' cases run natively where there is a GPU, and in Triton's interpreter in a process of their own.
"""

import os
import re

import numpy as np
import pytest
import torch
from fastfreq_kernels import filter_bands, simd
from fastfreq_kernels.filter_bands import _cpu

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BACKENDS = ["triton"] if INTERPRETED else ["reference", "cpu"]
SHAPES = [(2, 3, 33, 47), (3, 1, 8, 12), (1, 2, 1, 7), (2, 1, 7, 1), (1, 1, 1, 1), (5, 2, 16, 9), (2, 3, 32, 32)]
# sides of factors up to 7, with columns and rows that do and do not fill registers: those of the compiled transform
SMOOTH = [(2, 3, 32, 64), (3, 2, 45, 70), (2, 3, 63, 36), (2, 3, 30, 75), (1, 1, 210, 1), (1, 3, 1, 2), (5, 1, 2, 3)]
MEAN, STD = torch.tensor([0.48, 0.45, 0.4]), torch.tensor([0.23, 0.22, 0.25])


def problem(shape, bands=5, seed=0):
    """Random images in [0, 1] and random symmetric masks, of which the first two keep everything and nothing."""
    rng = np.random.default_rng(seed)
    masks = rng.random((bands, *shape[2:])) < 0.5
    masks = masks & np.roll(masks[:, ::-1, ::-1], 1, axis=(1, 2))
    masks[:2] = np.array([True, False])[:, None, None]
    return rng.random(shape), masks


def by_numpy(images, masks):
    """(b, n, c, h, w) from full complex FFTs."""
    return np.fft.ifft2(masks[:, None, None] * np.fft.fft2(images)).real


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_filtered_images_are_those_of_numpy(shape, backend):
    images, masks = problem(shape, bands=11)  # more than a program of the kernel takes
    out = filter_bands(torch.from_numpy(images).float(), torch.from_numpy(masks), backend=backend)
    assert out.shape == (11, *shape) and out.dtype == torch.float32
    np.testing.assert_allclose(out, by_numpy(images.astype(np.float32).astype(float), masks), atol=1e-6)
    assert not out[1].any()


def test_the_reference_is_exact_in_double_and_takes_the_symmetric_part_of_a_mask():
    images, _ = problem((2, 3, 15, 22))
    masks = np.random.default_rng(1).random((4, 15, 22)).astype(np.float32)
    exact = by_numpy(images, masks.astype(float))
    out = filter_bands(torch.from_numpy(images), torch.from_numpy(masks), dtype=torch.float64, backend="reference")
    np.testing.assert_allclose(out, exact, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
def test_masks_of_any_value_act_by_their_symmetric_part(backend):
    images, _ = problem((2, 3, 15, 22))
    masks = np.random.default_rng(1).random((4, 15, 22)).astype(np.float32)
    out = filter_bands(torch.from_numpy(images).float(), torch.from_numpy(masks), backend=backend)
    np.testing.assert_allclose(out, by_numpy(images, masks.astype(float)), atol=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_clipped_normalised_cast_and_laid_out(dtype, channels_last, backend):
    images, masks = problem((3, 3, 17, 22), seed=2)
    pixels = torch.from_numpy((images * 255).round().astype(np.uint8))
    kept = torch.from_numpy(masks)
    out = filter_bands(
        pixels, kept, clip=True, mean=MEAN, std=STD, dtype=dtype, channels_last=channels_last, backend=backend
    )
    filtered = by_numpy(pixels.numpy() / 255, masks).clip(0, 1)
    expected = (filtered - MEAN.double().numpy()[:, None, None]) / STD.double().numpy()[:, None, None]
    np.testing.assert_allclose(out.double(), expected, atol=4 * torch.finfo(dtype).eps + 1e-5)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert out.flatten(0, 1).is_contiguous(memory_format=layout) and out.dtype == dtype


@pytest.mark.parametrize("backend", BACKENDS)
def test_contrast_is_that_of_the_original_and_nothing_becomes_grey(backend):
    images, masks = problem((3, 2, 15, 22), seed=3)
    images[2] = 0.25  # has no contrast
    masks[2] = False
    masks[2, 0, 0] = True  # each channel is its mean: contrast between channels is left
    out = filter_bands(
        torch.from_numpy(images).float(), torch.from_numpy(masks), normalise_contrast=True, backend=backend
    ).numpy()  # fmt: skip
    wanted = images.std(axis=(1, 2, 3)), images.mean(axis=(1, 2, 3))
    for band in (0, 2, 3, 4):
        filtered = by_numpy(images, masks[band : band + 1])[0]
        for i in range(2):
            centred = (filtered[i] - filtered[i].mean()) / filtered[i].std()
            np.testing.assert_allclose(out[band, i], centred * wanted[0][i] + wanted[1][i], atol=1e-4)
    np.testing.assert_allclose(out[1], np.broadcast_to(wanted[1][:, None, None, None], out[1].shape), atol=1e-6)
    np.testing.assert_allclose(out[:, 2], 0.25, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_strides_and_nothing_to_filter(backend):
    images, masks = problem((4, 3, 10, 14))
    pixels, kept = torch.from_numpy(images).float(), torch.from_numpy(masks)
    expected = filter_bands(pixels, kept, backend=backend)
    for laid_out in (pixels.contiguous(memory_format=torch.channels_last), pixels.mT.contiguous().mT):
        torch.testing.assert_close(filter_bands(laid_out, kept, backend=backend), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(filter_bands(pixels, kept[::2], backend=backend), expected[::2], atol=1e-6, rtol=0)
    assert filter_bands(pixels[:0], kept, backend=backend).shape == (5, 0, 3, 10, 14)
    assert filter_bands(pixels, kept[:0], backend=backend).shape == (0, 4, 3, 10, 14)


@pytest.fixture(params=["compiled", "torch"])
def on_a_cpu(request, monkeypatch):
    """Both ways to the answer on a CPU."""
    if request.param == "compiled":
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(_cpu, "_shape", lambda *_: None)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("contrast", [False, True])
@pytest.mark.parametrize("shape", SMOOTH, ids=str)
def test_a_cpu_gives_what_the_reference_does(shape, contrast, channels_last, on_a_cpu):
    images, masks = problem(shape, seed=4)
    kept = torch.from_numpy(masks.astype(np.float32) * np.array([1, 1, 0.5, 2, -1], np.float32)[:, None, None])
    pixels = torch.from_numpy((255 * images).round()).to(torch.uint8)
    mean, std = torch.linspace(0.3, 0.6, shape[1]), torch.linspace(0.2, 0.3, shape[1])
    common = {"normalise_contrast": contrast, "clip": not contrast, "mean": mean, "std": std}
    out = filter_bands(pixels, kept, channels_last=channels_last, backend="cpu", **common)
    exact = filter_bands(pixels.double() / 255, kept.double(), dtype=torch.float64, backend="reference", **common)
    torch.testing.assert_close(out.double(), exact, atol=2e-4 if contrast else 1e-5, rtol=0)
    assert out.stride() == filter_bands(pixels, kept, channels_last=channels_last, backend="reference").stride()
    common |= {"dtype": torch.bfloat16, "channels_last": channels_last}
    torch.testing.assert_close(filter_bands(pixels, kept, backend="cpu", **common), out.bfloat16(), atol=0, rtol=0)


def test_neither_batches_nor_threads_change_an_image(on_a_cpu):
    images, masks = problem((5, 3, 30, 42))
    pixels, kept = torch.from_numpy(images).float(), torch.from_numpy(masks)
    whole = filter_bands(pixels, kept, normalise_contrast=True)
    alone = [filter_bands(pixels[i : i + 1], kept[2:4], normalise_contrast=True) for i in range(5)]
    torch.testing.assert_close(torch.cat(alone, dim=1), whole[2:4], atol=1e-6, rtol=0)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        torch.testing.assert_close(filter_bands(pixels, kept, normalise_contrast=True), whole, atol=1e-6, rtol=0)
    finally:
        torch.set_num_threads(threads)


def test_nan_stays(on_a_cpu):
    images = torch.rand(2, 3, 32, 64)
    images[1, :, 3, 5] = torch.nan
    for dtype in (torch.float32, torch.bfloat16):
        out = filter_bands(images, torch.ones(1, 32, 64), clip=True, dtype=dtype, channels_last=True)
        assert out[0, 1].isnan().all() and not out[0, 0].isnan().any()


def test_without_numba_torch_answers_after_one_warning(monkeypatch):
    images, masks = problem((2, 3, 10, 14))
    pixels, kept = torch.from_numpy(images).float(), torch.from_numpy(masks)
    expected = filter_bands(pixels, kept)
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        simd.compiled.cache_clear()
        with pytest.warns(RuntimeWarning, match="numba is not installed: filtering images takes") as caught:
            answers = [filter_bands(pixels, kept), filter_bands(pixels, kept[1:])]
        assert len(caught) == 1
    simd.compiled.cache_clear()
    torch.testing.assert_close(answers[0], expected, atol=1e-6, rtol=0)


def test_gradients_come_from_the_reference():
    images, masks = problem((2, 1, 5, 6))
    pixels = torch.from_numpy(images).float().requires_grad_()
    out = filter_bands(pixels, torch.from_numpy(masks))
    out.square().sum().backward()
    # projections: the gradient of |P x|^2 is 2 P x
    torch.testing.assert_close(pixels.grad, 2 * out.detach().sum(dim=0))
    with pytest.raises(RuntimeError, match="do not require grad for backend='cpu'"):
        filter_bands(pixels, torch.from_numpy(masks), backend="cpu")


@pytest.mark.parametrize(
    "arguments, keywords, error, message",
    [
        ((torch.zeros(3, 4, 5), torch.ones(1, 4, 5)), {}, ValueError,
         "expected `images` of shape (n, c, h, w), got (3, 4, 5); add a batch axis with images[None]"),
        ((torch.zeros(1, 3, 4, 5), torch.ones(1, 4, 3)), {}, ValueError,
         "expected `masks` of shape (b, 4, 5), a whole unshifted plane each, got (1, 4, 3)"),
        ((torch.zeros(1, 3, 4, 5), torch.ones(1, 4, 5).double()), {}, TypeError,
         "expected `masks` of bool or float32, got torch.float64; use masks.float()"),
        ((torch.zeros(1, 3, 4, 5), torch.ones(1, 4, 5)), {"backend": "numba"}, ValueError,
         "expected `backend` to be None or one of ('triton', 'cpu', 'reference'), got 'numba'"),
    ],
)  # fmt: skip
def test_refusals(arguments, keywords, error, message):
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        filter_bands(*arguments, **keywords)


@pytest.mark.skipif(INTERPRETED, reason="is this run")
def test_triton_kernels_under_the_interpreter(run_under_the_interpreter):
    run_under_the_interpreter(__file__)


def test_opcheck():
    images, masks = torch.rand(2, 3, 7, 8), torch.ones(4, 7, 8, dtype=torch.bool)
    for arguments in ((False, True, MEAN, STD, torch.bfloat16, True), (True, False, None, None, torch.float32, False)):
        torch.library.opcheck(torch.ops.fastfreq.filter_bands.default, (images, masks, *arguments))


# ------------------------------------------------------------------ on a GPU
@pytest.mark.gpu
@pytest.mark.parametrize("shape", [*SHAPES, (70, 3, 224, 224)], ids=str)
@pytest.mark.parametrize("contrast", [False, True])
def test_gpu_equals_the_cpu_and_itself(shape, contrast):
    if not torch.cuda.is_available() or INTERPRETED:
        pytest.skip("no CUDA device")
    images, masks = (torch.from_numpy(a) for a in problem(shape, bands=9))
    keywords = {"normalise_contrast": contrast, "clip": True, "channels_last": True}
    here = filter_bands(images.float(), masks, backend="cpu", **keywords)
    there = [filter_bands(images.float().cuda(), masks.cuda(), backend="triton", **keywords) for _ in range(2)]
    assert torch.equal(there[0], there[1])
    torch.testing.assert_close(there[0].cpu(), here, atol=1e-4 if contrast else 2e-6, rtol=0)
