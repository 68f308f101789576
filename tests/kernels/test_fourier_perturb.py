"""`fourier_perturb` and `fourier_signs`: the reference against NumPy, every backend against the reference.

The Triton kernel's cases run natively where there is a GPU, and in Triton's interpreter in a process of their own.
"""

import math
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from fastfreq_kernels import PhiloxSigns, fourier_perturb, fourier_signs
from fastfreq_kernels._testing import CASES, Case, assert_matches_reference

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BACKENDS = (
    ["triton"] if INTERPRETED else ["reference", "cpu"]
)  # the first: see test_triton_kernels_under_the_interpreter
FREQUENCIES = torch.tensor([[1, 2], [-3, 40]])


def refuses(error, message):
    return pytest.raises(error, match="^" + re.escape(message) + "$")


# ------------------------------------------------------------------ the reference against the outside
def wave(ky, kx, h, w, phase):
    """Closed form in NumPy, normalised by its own norm instead of by the formula's amplitude."""
    own_twin = (2 * ky) % h == 0 and (2 * kx) % w == 0
    y, x = np.mgrid[:h, :w]
    u = np.cos(2 * np.pi * (ky * y / h + kx * x / w) + (0 if own_twin else phase))
    return u / np.sqrt((u**2).sum())


def basis_image(ky, kx, h, w, phase):
    """A unit perturbation of a black image."""
    black = torch.zeros(1, 1, h, w, dtype=torch.float64)
    out = fourier_perturb(
        black, torch.tensor([[ky, kx]]), torch.ones(1, 1, 1, dtype=torch.int8), eps=1.0, phase=phase, clip=False,
        dtype=torch.float64, backend="reference",
    )  # fmt: skip
    return out[0, 0].numpy()


@pytest.mark.parametrize("phase", [0.0, math.pi / 4])
@pytest.mark.parametrize("shape", [(31, 31), (32, 48), (33, 40), (32, 32)], ids=str)
def test_reference_is_the_closed_form(shape, phase):
    h, w = shape
    for ky, kx in [(0, 0), (1, 0), (0, -1), (3, 5), (h // 2, w // 2), (h // 2, 1), (-7, 2 * w + 3), (h - 1, w - 1)]:
        u = basis_image(ky, kx, h, w, phase)
        np.testing.assert_allclose(u, wave(ky, kx, h, w, phase), atol=1e-13)
        assert np.sqrt((u**2).sum()) == pytest.approx(1, abs=1e-12)
        spectrum = np.abs(np.fft.fft2(u, norm="ortho"))
        support = {(ky % h, kx % w), (-ky % h, -kx % w)}
        assert {(int(i), int(j)) for i, j in np.argwhere(spectrum > 1e-10)} == support


def test_self_conjugate_frequencies_ignore_the_phase():
    for ky, kx in [(0, 0), (4, 0), (0, 6), (4, 6)]:
        u = basis_image(ky, kx, 8, 12, math.pi / 4)
        np.testing.assert_allclose(np.abs(u), 1 / np.sqrt(8 * 12), atol=1e-15)


def test_large_sides_lose_nothing():
    h, w = 3, 65535
    u = basis_image(1, 65533, h, w, 0.3)
    x = (65533 * np.arange(w)) % w
    expected = np.sqrt(2 / (h * w)) * np.cos(2 * np.pi * x / w + 0.3)
    np.testing.assert_allclose(u[0], expected, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.uint8], ids=str)
def test_reference_computes_in_float32_at_least(dtype):
    (images, frequencies, signs), keywords = Case("", h=32, w=32, images=dtype).inputs(1)
    out = fourier_perturb(images, frequencies, signs, backend="reference", **keywords)
    assert_matches_reference(out, images, frequencies, signs, **keywords)


def test_signs_are_fair_and_belong_to_the_item():
    ids, frequencies = torch.arange(200), torch.cartesian_prod(torch.arange(16), torch.arange(16))
    signs = fourier_signs(ids, frequencies, (3, 16, 16), seed=5).double()
    assert signs.abs().eq(1).all()
    assert abs(signs.mean()) < 4 / math.sqrt(signs.numel())
    assert abs((signs[..., 0] * signs[..., 1]).mean()) < 4 / math.sqrt(signs[..., 0].numel())
    some = fourier_signs(ids[[7, 3]], frequencies[[9, 250, 1]] - 32, (3, 16, 16), seed=5)
    assert torch.equal(some.double(), signs[[9, 250, 1]][:, [7, 3]])


def test_modes_of_signs():
    ids = torch.arange(20)
    drawn = fourier_signs(ids, FREQUENCIES, (3, 8, 8), seed=1)
    assert torch.equal(
        fourier_signs(ids, FREQUENCIES, (3, 8, 8), seed=1, signs="image"), drawn[..., :1].expand(2, 20, 3)
    )
    assert fourier_signs(ids, FREQUENCIES, (3, 8, 8), seed=1, signs="none").eq(1).all()
    at_zero = fourier_signs(ids, torch.zeros_like(FREQUENCIES), (3, 8, 8), seed=1)
    assert torch.equal(fourier_signs(ids, FREQUENCIES, (3, 8, 8), seed=1, common=True), at_zero)
    by_image = fourier_signs(ids, FREQUENCIES, (3, 8, 8), seed=1, signs="image", common=True)
    assert torch.equal(by_image, at_zero[..., :1].expand(2, 20, 3))
    assert fourier_signs(ids, FREQUENCIES[:0], (3, 8, 8), seed=1, common=True).shape == (0, 20, 3)


# ------------------------------------------------------------------ backends against the reference
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_backend_equals_the_float64_reference(case, backend):
    arguments, keywords = case.inputs(seed=3)
    out = fourier_perturb(*arguments, backend=backend, **keywords)
    assert_matches_reference(out, *arguments, **keywords)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("common", [False, True])
@pytest.mark.parametrize("mode", ["channel", "image", "none"])
def test_signs_drawn_by_the_call_are_those_drawn_before(backend, mode, common):
    (images, frequencies, _), keywords = Case("", h=9, w=10).inputs(2)
    ids = torch.tensor([2**40, 5])
    before = fourier_signs(ids, frequencies, (3, 9, 10), seed=2**63, signs=mode, domain=5, common=common)
    later = PhiloxSigns(2**63, ids, mode, domain=5, common=common)
    drawn = fourier_perturb(images, frequencies, later, backend=backend, **keywords)
    assert torch.equal(drawn, fourier_perturb(images, frequencies, before, backend=backend, **keywords))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n, f", [(0, 3), (2, 0), (0, 0)])
def test_empty_batches(backend, n, f):
    for channels_last in (False, True):
        arguments, keywords = Case("", n=n, f=f, h=4, w=5, channels_last=channels_last).inputs(0)
        out = fourier_perturb(*arguments, backend=backend, **keywords)
        assert out.shape == (0, 3, 4, 5)
        assert fourier_signs(torch.arange(n), arguments[1], (3, 4, 5), seed=0, backend=backend).shape == (f, n, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_frequency_major_order_and_zero_signs(backend):
    images = torch.rand(2, 1, 4, 4) * 0.2 + 0.4
    signs = torch.tensor([[[1], [0]], [[-1], [0]]], dtype=torch.int8)
    out = fourier_perturb(images, FREQUENCIES, signs, eps=0.1, phase=0.0, clip=False, backend=backend)
    torch.testing.assert_close(out[1::2], images[1:].expand(2, 1, 4, 4), rtol=0, atol=0)
    for f in range(2):
        expected = (1, -1)[f] * 0.1 * wave(*FREQUENCIES[f].tolist(), 4, 4, 0.0)
        np.testing.assert_allclose((out[2 * f] - images[0])[0], expected, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_survives_the_clip(backend):
    images = torch.full((1, 1, 4, 4), 0.5)
    images[0, 0, 1, 2] = math.nan
    out = fourier_perturb(
        images, FREQUENCIES, torch.ones(2, 1, 1, dtype=torch.int8), eps=1.0, phase=0.0, clip=True, backend=backend
    )
    assert torch.equal(out.isnan(), images.isnan().expand(2, 1, 4, 4))


@pytest.mark.skipif(INTERPRETED, reason="is this run")
def test_triton_kernels_under_the_interpreter(run_under_the_interpreter):
    run_under_the_interpreter(__file__)


# ------------------------------------------------------------------ gradients
def test_gradients_come_from_the_reference():
    (images, frequencies, signs), keywords = Case("", n=1, h=5, w=6).inputs(4)
    images = (images * 0.5 + 0.25).requires_grad_()
    keywords["eps"] = 0.1  # clips nothing
    fourier_perturb(images, frequencies, signs, **keywords).sum().backward()
    expected = (len(frequencies) / keywords["std"])[None, :, None, None].expand_as(images)
    torch.testing.assert_close(images.grad, expected)


@pytest.mark.parametrize("name", ["images", "mean", "std"])
def test_backends_without_backward_refuse_what_requires_grad(name):
    (images, frequencies, signs), keywords = Case("").inputs(4)
    (images if name == "images" else keywords[name]).requires_grad_()
    message = (
        "expected inputs that do not require grad for backend='cpu', which has no backward; detach them, or use "
        "backend=None or 'reference'"
    )
    with refuses(RuntimeError, message):
        fourier_perturb(images, frequencies, signs, backend="cpu", **keywords)
    with torch.no_grad():
        fourier_perturb(images, frequencies, signs, backend="cpu", **keywords)


# ------------------------------------------------------------------ refusals, word for word
ONES = torch.ones(2, 2, 3, dtype=torch.int8)
IMAGES = torch.zeros(2, 3, 4, 5)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"images": IMAGES[0]}, ValueError,
         "expected `images` of shape (n, c, h, w), got (3, 4, 5); add a batch axis with images[None]"),
        ({"images": IMAGES[..., 0, 0]}, ValueError, "expected `images` of shape (n, c, h, w), got (2, 3)"),
        ({"images": IMAGES[:, :, :0]}, ValueError,
         "expected at least one channel, row and column, got (c, h, w) = (3, 0, 5)"),
        ({"images": torch.zeros(1).expand(2, 3, 4, 65536)}, ValueError,
         "expected sides below 65536, got (h, w) = (4, 65536); cut the image into tiles"),
        ({"images": IMAGES.double()}, TypeError,
         "expected `images` of float32, bfloat16, float16 or uint8, got torch.float64; use images.float()"),
        ({"frequencies": torch.zeros(2, 3, dtype=torch.int64)}, ValueError,
         "expected `frequencies` of shape (f, 2), rows (ky, kx) in cycles per image, got (2, 3)"),
        ({"frequencies": torch.zeros(2, 2)}, TypeError,
         "expected `frequencies` of torch.int64, got torch.float32; use frequencies.long()"),
        ({"frequencies": FREQUENCIES.to("meta")}, ValueError,
         "expected `frequencies` on cpu, where the images are, got meta; move it with .to(images.device)"),
        ({"signs": ONES[:1]}, ValueError,
         "expected `signs` of shape (f, n, c) = (2, 2, 3), got (1, 2, 3); draw them with fourier_signs"),
        ({"signs": ONES.float()}, TypeError,
         "expected `signs` of torch.int8, got torch.float32; use signs.to(torch.int8)"),
        ({"signs": PhiloxSigns(0, torch.arange(3))}, ValueError,
         "expected one of `signs.image_ids` per image, got 3 for 2 images"),
        ({"signs": PhiloxSigns(0, torch.zeros(2))}, TypeError,
         "expected `image_ids` of torch.int64, got torch.float32; use image_ids.long()"),
        ({"signs": PhiloxSigns(-1, torch.arange(2))}, ValueError,
         "expected `seed` to be an integer from 0 to 2**64 - 1, got -1"),
        ({"signs": PhiloxSigns(0, torch.arange(2), "pixel")}, ValueError,
         "expected `signs` to be one of ('channel', 'image', 'none'), got 'pixel'"),
        ({"eps": math.nan}, ValueError, "expected finite `eps` and `phase`, got nan and 0.0"),
        ({"dtype": torch.int8}, TypeError,
         "expected `dtype` to be torch.float32, bfloat16 or float16, got torch.int8; cast the result afterwards"),
        ({"mean": torch.zeros(3)}, ValueError,
         "expected both `mean` and `std` or neither, got `mean` without `std`; pass ones"),
        ({"std": torch.ones(3)}, ValueError,
         "expected both `mean` and `std` or neither, got `std` without `mean`; pass zeros"),
        ({"mean": torch.zeros(3), "std": torch.ones(1)}, ValueError,
         "expected `std` of shape (3,), one per channel, got (1,)"),
        ({"mean": torch.zeros(3, dtype=torch.int64), "std": torch.ones(3)}, TypeError,
         "expected `mean` of a float type, got torch.int64; use mean.float()"),
        ({"backend": "numba"}, ValueError,
         "expected `backend` to be None or one of ('triton', 'cpu', 'reference'), got 'numba'"),
    ],
)  # fmt: skip
def test_refusals_of_fourier_perturb(change, error, message):
    arguments = {"images": IMAGES, "frequencies": FREQUENCIES, "signs": ONES, "eps": 1.0, "phase": 0.0, "clip": True}
    with refuses(error, message):
        fourier_perturb(**{**arguments, **change})


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"image_ids": torch.zeros(2, 1, dtype=torch.int64)}, ValueError,
         "expected `image_ids` of shape (n,), one per image, got (2, 1)"),
        ({"shape": (2, 3, 4, 5)}, ValueError,
         "expected `shape` to be (c, h, w), got (2, 3, 4, 5); leave out the batch axis"),
        ({"seed": 2**64}, ValueError,
         "expected `seed` to be an integer from 0 to 2**64 - 1, got 18446744073709551616"),
        ({"domain": -1}, ValueError, "expected `domain` to be an integer from 0 to 2**15 - 1, got -1"),
        ({"shape": (65537, 4, 5)}, ValueError,
         "expected at most 65536 channels, got 65537: random numbers know no more"),
        ({"seed": 0.5}, ValueError, "expected `seed` to be an integer from 0 to 2**64 - 1, got 0.5"),
    ],
)  # fmt: skip
def test_refusals_of_fourier_signs(change, error, message):
    arguments = {"image_ids": torch.arange(2), "frequencies": FREQUENCIES, "shape": (3, 4, 5), "seed": 0}
    with refuses(error, message):
        fourier_signs(**{**arguments, **change})


@pytest.mark.skipif(INTERPRETED, reason="TRITON_INTERPRET is set here")
def test_triton_says_why_it_cannot_run_on_a_cpu():
    pytest.importorskip("triton")
    message = (
        "expected tensors on 'cuda' for backend='triton', got 'cpu'; move them with .cuda(), or set TRITON_INTERPRET=1 "
        "before triton is first imported to interpret the kernel on the CPU"
    )
    with refuses(RuntimeError, message):
        fourier_perturb(IMAGES, FREQUENCIES, ONES, eps=1.0, phase=0.0, clip=True, backend="triton")


def test_cpu_refuses_other_devices():
    with refuses(RuntimeError, "expected tensors on 'cpu' for backend='cpu', got 'meta'; move them with .cpu()"):
        fourier_signs(torch.arange(2).to("meta"), FREQUENCIES.to("meta"), (3, 4, 5), seed=0, backend="cpu")


# ------------------------------------------------------------------ operators
@pytest.mark.parametrize("case", [CASES[5], CASES[10], CASES[17]], ids=str)
def test_opcheck_of_fourier_perturb(case):
    (images, frequencies, signs), k = case.inputs(1)
    arguments = (images, frequencies, signs, k["eps"], k["phase"], k["clip"], k.get("mean"), k.get("std"), k["dtype"])
    torch.library.opcheck(torch.ops.fastfreq.fourier_perturb.default, (*arguments, k["channels_last"]))


def test_opcheck_of_fourier_signs():
    torch.library.opcheck(torch.ops.fastfreq.fourier_signs.default, (torch.arange(3), FREQUENCIES, (3, 8, 9), -5, 7))


def call(images, frequencies, ids, mean, std):
    return 2 * fourier_perturb(
        images, frequencies, PhiloxSigns(2**63 + 1, ids), eps=1.0, phase=0.7, clip=True, mean=mean, std=std,
        dtype=torch.bfloat16, channels_last=True,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # inductor's own, on its first import in 2.13
@pytest.mark.parametrize(
    "compiler, dynamic",
    [
        ("aot_eager", False),
        ("aot_eager", True),
        pytest.param(
            "inductor",
            False,
            marks=[pytest.mark.slow, pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")],
        ),
    ],
)
def test_compiles_as_one_graph(compiler, dynamic):
    compiled = torch.compile(call, fullgraph=True, backend=compiler, dynamic=dynamic)
    for n in (2, 3):
        (images, frequencies, _), k = Case("", n=n, h=9, w=12).inputs(1)
        arguments = (images, frequencies, torch.arange(n), k["mean"], k["std"])
        out = compiled(*arguments)
        assert torch.equal(out, call(*arguments))
        assert out.is_contiguous(memory_format=torch.channels_last)


def test_import_is_light():
    code = "import sys, fastfreq_kernels; print('triton' in sys.modules, 'matplotlib' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


# ------------------------------------------------------------------ on a GPU
@pytest.fixture
def cuda():
    if not torch.cuda.is_available() or INTERPRETED:
        pytest.skip("no CUDA device")
    return "cuda"


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gpu_equals_the_float64_reference(case, cuda):
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    arguments, keywords = case.inputs(seed, cuda)
    out = fourier_perturb(*arguments, backend="triton", **keywords)
    assert_matches_reference(out, *arguments, **keywords)


@pytest.mark.gpu
def test_gpu_signs_agree_bit_for_bit(cuda):
    ids, frequencies = torch.arange(2**32 - 50, 2**32 + 50), torch.randint(-500, 500, (60, 2))
    for seed in (0, 1, 2**63 + 7):
        here = fourier_signs(ids, frequencies, (3, 224, 200), seed=seed)
        there = fourier_signs(ids.to(cuda), frequencies.to(cuda), (3, 224, 200), seed=seed)
        assert torch.equal(here, there.cpu())


@pytest.mark.gpu
def test_gpu_is_never_waited_for(cuda):
    arguments, keywords = CASES[5].inputs(1, cuda)
    ids = torch.arange(2, device=cuda)
    call(arguments[0], arguments[1], ids, keywords["mean"], keywords["std"])
    torch.cuda.set_sync_debug_mode("error")
    try:
        call(arguments[0], arguments[1], ids, keywords["mean"], keywords["std"])
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("channels_last", [False, True])
def test_gpu_beyond_two_to_the_31_elements(channels_last, cuda):
    n, f, side = 64, 229, 224  # 2.2e9 elements
    case = Case("", n=n, f=f, h=side, w=side, dtype=torch.bfloat16, channels_last=channels_last)
    (images, frequencies, signs), keywords = case.inputs(1, cuda)
    out = fourier_perturb(images, frequencies, signs, **keywords)
    assert out.numel() > 2**31
    for k in (0, f // 2, f - 2, f - 1):
        rows = slice(k, k + 1)
        assert_matches_reference(out[k * n : (k + 1) * n], images, frequencies[rows], signs[rows], **keywords)
