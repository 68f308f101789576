"""Symbols and Gram matrices of convolutions against NumPy's FFT and complex products.

The Triton kernels' cases run natively where there is a GPU, and in Triton's interpreter in a process of their own.
"""

import os

import fastfreq_kernels as kernels
import numpy as np
import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
EPS = {torch.float64: 2e-16, torch.float32: 1e-7}


def convolution(seed, g=1, kernel=(3, 3), a=4, b=5, dtype=torch.float64):
    rng = np.random.default_rng(seed)
    t = int(np.prod(kernel))
    offsets = torch.from_numpy(np.stack(np.unravel_index(np.arange(t), kernel), axis=1))
    return torch.from_numpy(rng.standard_normal((g, t, a, b))).to(dtype), offsets


def all_frequencies(grid):
    return torch.cartesian_prod(*(torch.arange(n) for n in grid)).reshape(-1, len(grid))


def unpack(packed):
    packed = packed.numpy()
    below = np.tril(packed, -1) + 1j * np.triu(packed, 1).swapaxes(-1, -2)
    diagonal = np.einsum("...ii->...i", packed)[..., None] * np.eye(packed.shape[-1])
    return below + np.conj(below.swapaxes(-1, -2)) + diagonal


CASES = [
    {"grid": (8, 8)},
    {"grid": (7, 10), "a": 5, "b": 3, "kernel": (2, 3)},
    {"grid": (4, 3), "kernel": (7, 5), "a": 2, "b": 2},  # larger than the grid: wraps
    {"grid": (9,), "kernel": (4,), "a": 1, "b": 6},
    {"grid": (4, 3, 5), "kernel": (3, 2, 3), "a": 3, "b": 2},
    {"grid": (6, 5), "g": 4, "a": 1, "b": 1},
    {"grid": (1, 1), "a": 3, "b": 3},
    {"grid": (2, 2), "a": 3, "b": 7},
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("backend", ["triton"] if INTERPRETED else ["cpu", "reference"])
def test_symbols_are_the_fourier_transform_of_the_wrapped_kernel(case, backend):
    grid = case["grid"]
    taps, offsets = convolution(1, **{k: v for k, v in case.items() if k != "grid"})
    wrapped = np.zeros((*grid, *taps.shape[:1], *taps.shape[2:]))
    for j, offset in enumerate(offsets.numpy()):
        wrapped[tuple(offset % grid)] += taps[:, j].numpy()
    axes = tuple(range(len(grid)))
    # exp(+2 pi i), so the inverse transform without its factor
    truth = np.fft.ifftn(wrapped, axes=axes, norm="forward").reshape(-1, *wrapped.shape[len(grid) :]).swapaxes(0, 1)
    out = kernels.conv_symbols(taps, offsets, all_frequencies(grid), grid=grid, backend=backend)
    np.testing.assert_allclose(out.numpy(), truth, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("route", ["autocorrelation", "products"])
@pytest.mark.parametrize("backend", ["triton"] if INTERPRETED else ["cpu", "reference"])
def test_gram_matrices_of_the_smaller_side(case, backend, route, monkeypatch):
    from fastfreq_kernels.conv_gram import _cpu

    grid = case["grid"]
    taps, offsets = convolution(2, **{k: v for k, v in case.items() if k != "grid"})
    frequencies = all_frequencies(grid) - 3  # of any sign
    monkeypatch.setattr(_cpu, "autocorrelation_is_cheaper", lambda *_: route == "autocorrelation")
    packed = kernels.conv_gram(taps, offsets, frequencies, grid=grid, backend=backend)
    A = kernels.conv_symbols(taps, offsets, frequencies, grid=grid, backend="reference").numpy()
    adjoint = np.conj(A.swapaxes(-1, -2))
    truth = A @ adjoint if A.shape[-2] <= A.shape[-1] else adjoint @ A
    np.testing.assert_allclose(unpack(packed), truth, atol=1e-11)


@pytest.mark.parametrize("dtype", EPS, ids=str)
@pytest.mark.parametrize("backend", ["triton"] if INTERPRETED else ["cpu"])
def test_several_tiles_and_any_strides(dtype, backend):
    taps, offsets = convolution(6, g=2, a=45, b=37, kernel=(2, 2), dtype=dtype)
    taps = taps.mT.contiguous().mT
    frequencies = all_frequencies((5, 4))[3:]
    arguments = {"offsets": offsets, "frequencies": frequencies, "grid": (5, 4)}
    out = kernels.conv_symbols(taps, **arguments, backend=backend)
    truth = kernels.conv_symbols(taps.double(), **arguments, backend="reference")
    torch.testing.assert_close(out.to(truth.dtype), truth, rtol=0, atol=16 * EPS[dtype] * float(truth.abs().max()))
    packed = kernels.conv_gram(taps, **arguments, backend=backend)
    truth = kernels.conv_gram(taps.double(), **arguments, backend="reference")
    assert packed.dtype == dtype
    torch.testing.assert_close(packed.double(), truth, rtol=0, atol=16 * EPS[dtype] * float(truth.abs().max()))


@pytest.mark.parametrize("backend", ["triton"] if INTERPRETED else ["cpu", "reference"])
def test_no_frequencies(backend):
    taps, offsets = convolution(7)
    none = all_frequencies((4, 4))[:0]
    assert kernels.conv_symbols(taps, offsets, none, grid=(4, 4), backend=backend).shape == (1, 0, 4, 5)
    assert kernels.conv_gram(taps, offsets, none, grid=(4, 4), backend=backend).shape == (1, 0, 4, 4)


def test_phases_of_a_huge_grid_lose_nothing():
    taps, offsets = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.tensor([[2**20 + 1]])
    k, n = 10**6 + 3, 2**21
    turns = k * (2**20 + 1) % n / n
    out = kernels.conv_symbols(taps, offsets, torch.tensor([[k]]), grid=(n,))
    assert abs(complex(out) - np.exp(2j * np.pi * turns)) < 1e-15


def test_gradients_reach_the_taps():
    taps, offsets = convolution(3, a=2, b=3)
    taps.requires_grad_()
    frequencies = all_frequencies((4, 5))[:6]
    assert torch.autograd.gradcheck(lambda w: kernels.conv_gram(w, offsets, frequencies, grid=(4, 5)), taps)
    with pytest.raises(RuntimeError, match="do not require grad for backend='cpu'"):
        kernels.conv_gram(taps, offsets, frequencies, grid=(4, 5), backend="cpu")


@pytest.mark.parametrize("operation", [kernels.conv_symbols, kernels.conv_gram])
def test_operators_pass_torch_checks_and_compile_in_one_graph(operation):
    taps, offsets = convolution(4, g=2)
    frequencies = all_frequencies((4, 4))
    registered = getattr(torch.ops.fastfreq, operation.__name__).default
    torch.library.opcheck(registered, (taps, offsets, frequencies, [4, 4]))
    compiled = torch.compile(lambda w: operation(w, offsets, frequencies, grid=(4, 4)), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(taps), operation(taps, offsets, frequencies, grid=(4, 4)))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"taps": torch.zeros(9, 4, 5)}, ValueError, r"expected `taps` of shape \(g, t, a, b\), got \(9, 4, 5\)"),
        ({"taps": torch.zeros(1, 9, 4, 5, dtype=torch.cfloat)}, TypeError, "float32 or float64, got torch.complex64"),
        ({"offsets": torch.zeros(8, 2, dtype=torch.long)}, ValueError, r"expected `offsets` of shape \(9, 2\)"),
        ({"frequencies": torch.zeros(3, 2)}, TypeError, "torch.int64"),
        ({"grid": (4, 0)}, ValueError, "positive sides"),
    ],
)
def test_refusals(change, error, message):
    taps, offsets = convolution(5)
    arguments = {"taps": taps, "offsets": offsets, "frequencies": all_frequencies((4, 4)), "grid": (4, 4), **change}
    with pytest.raises(error, match=message):
        kernels.conv_gram(**arguments)


@pytest.mark.skipif(INTERPRETED, reason="is this run")
def test_triton_kernels_under_the_interpreter(run_under_the_interpreter):
    run_under_the_interpreter(__file__)


# ------------------------------------------------------------------ on a GPU
@pytest.mark.gpu
@pytest.mark.parametrize("dtype", EPS, ids=str)
@pytest.mark.parametrize("shape", [(1, 64, 64), (1, 37, 130), (96, 1, 1), (3, 20, 7)], ids=str)
def test_gpu_equals_the_reference(shape, dtype):
    if not torch.cuda.is_available() or INTERPRETED:
        pytest.skip("no CUDA device")
    g, a, b = shape
    taps, offsets = convolution(8, g=g, a=a, b=b, dtype=dtype)
    frequencies = all_frequencies((33, 20))
    there = {"offsets": offsets.cuda(), "frequencies": frequencies.cuda(), "grid": (33, 20)}
    for operation in (kernels.conv_symbols, kernels.conv_gram):
        truth = operation(taps.double(), offsets, frequencies, grid=(33, 20), backend="reference")
        out = operation(taps.cuda(), **there, backend="triton").cpu()
        torch.testing.assert_close(out.to(truth.dtype), truth, rtol=0, atol=32 * EPS[dtype] * float(truth.abs().max()))
