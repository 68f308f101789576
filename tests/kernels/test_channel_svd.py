"""Batched singular value decompositions against NumPy's LAPACK in complex128 and closed forms.

The Triton kernel's cases run natively where there is a GPU, and in Triton's interpreter in a process of their own.
"""

import os
import sys

import fastfreq_kernels as kernels
import numpy as np
import pytest
import torch
from fastfreq_kernels.channel_svd import _cpu

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
SHAPES = [(1, 1), (3, 5), (7, 2), (16, 16), (33, 17)]
EPS = {torch.complex128: 2.3e-16, torch.complex64: 1.2e-7}


def batch(m, n, kind="random", count=1 if INTERPRETED else 9):
    rng = np.random.default_rng(m * 100 + n)
    A = rng.standard_normal((count, m, n)) + 1j * rng.standard_normal((count, m, n))
    if kind == "zero":
        A[:] = 0
    if kind == "rank one":
        A = A[:, :, :1] @ A[:, :1, :]
    if kind == "equal":
        A = np.linalg.qr(A)[0] if m >= n else np.linalg.qr(A.swapaxes(1, 2))[0].swapaxes(1, 2)
    if kind == "a column of zeros":
        A[..., n // 2] = 0
    return torch.from_numpy(A)


@pytest.mark.parametrize("backend", ["triton"] if INTERPRETED else ["cpu", "reference", None])
@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        *((shape, "random") for shape in ([*SHAPES[:3], (17, 9)] if INTERPRETED else SHAPES)),
        *((shape, kind) for kind in ("zero", "rank one", "equal", "a column of zeros") for shape in [(3, 5), (7, 4)]),
    ],
)  # in the interpreter one of 33 rows takes seconds
def test_decomposes(shape, kind, backend):
    A = batch(*shape, kind)
    u, s, vh = kernels.channel_svd(A, backend=backend)
    truth = np.linalg.svd(A.numpy(), compute_uv=False)
    np.testing.assert_allclose(s, truth, atol=1e-12 * max(1, truth.max()))
    np.testing.assert_allclose((u * s[:, None]) @ vh, A, atol=1e-12 * max(1, truth.max()))
    np.testing.assert_allclose(
        u.mH @ u, np.broadcast_to(np.eye(min(shape)), u.mH.shape[:-1] + (min(shape),)), atol=1e-12
    )


@pytest.mark.parametrize("backend", ["triton"] if INTERPRETED else ["cpu"])
@pytest.mark.parametrize("shape", [(5, 3), (3, 6), (1, 3)] if INTERPRETED else [(9, 6), (5, 12), (1, 3)], ids=str)
@pytest.mark.parametrize("dtype", EPS, ids=str)
def test_both_precisions_and_real_matrices(shape, dtype, backend):
    for A in (batch(*shape).to(dtype), batch(*shape).real.to(dtype.to_real())):
        u, s, vh = kernels.channel_svd(A, backend=backend)
        assert (u.dtype, s.dtype, vh.dtype) == (A.dtype, dtype.to_real(), A.dtype)
        assert not vh.is_conj()
        truth = np.linalg.svd(A.to(torch.complex128).numpy(), compute_uv=False)
        np.testing.assert_allclose(s, truth, rtol=64 * EPS[dtype])
        torch.testing.assert_close((u * s[:, None]) @ vh, A, rtol=0, atol=64 * EPS[dtype] * float(truth.max()))
        assert torch.equal(kernels.channel_svd(A.mT.contiguous().mT, backend=backend)[1], s)


@pytest.mark.parametrize("backend", ["triton"] if INTERPRETED else ["cpu"])
def test_leading_axes_and_an_empty_batch(backend):
    A = batch(3, 4, count=6).reshape(2, 3, 3, 4)
    s = kernels.channel_singular_values(A, backend=backend)
    torch.testing.assert_close(s, torch.linalg.svdvals(A))
    assert [x.shape for x in kernels.channel_svd(A[:0], backend=backend)] == [(0, 3, 3, 3), (0, 3, 3), (0, 3, 3, 4)]


@pytest.mark.skipif(not INTERPRETED, reason="in test_triton_kernels_under_the_interpreter")
@pytest.mark.parametrize("shape", [(7, 7), (13, 6), (5, 9)], ids=str)
def test_triton_finds_small_values_of_graded_columns_to_relative_accuracy(shape):
    m, n = shape
    powers = 10.0 ** -torch.randperm(min(shape), generator=torch.Generator().manual_seed(0))
    A = batch(m, n)
    A = (A * powers if m >= n else A * powers[:, None]).to(torch.complex64)
    truth = np.linalg.svd(A.to(torch.complex128).numpy(), compute_uv=False)  # right to 1e-16 of the largest
    by_lapack = torch.linalg.svdvals(A).numpy()
    assert np.abs(by_lapack / truth - 1).max() > 256 * EPS[torch.complex64]  # what is not asked of Jacobi only
    u, s, vh = kernels.channel_svd(A, backend="triton")
    np.testing.assert_allclose(s, truth, rtol=32 * EPS[torch.complex64])
    torch.testing.assert_close(u.mH @ u, torch.eye(min(shape)).expand_as(u.mH @ u).to(u.dtype), rtol=0, atol=1e-5)
    torch.testing.assert_close((u * s[:, None]) @ vh, A, rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", ["triton"] if INTERPRETED else ["cpu"])
@pytest.mark.parametrize("scale", [1e-36, 1e36])
def test_any_scale(scale, backend):
    A = batch(6, 5).to(torch.complex64)
    s = kernels.channel_singular_values(A * scale, backend=backend) / scale
    torch.testing.assert_close(s, kernels.channel_singular_values(A, backend=backend), rtol=1e-5, atol=0)


def test_gradients_of_values_are_those_of_finite_differences():
    A = batch(3, 4, count=2).requires_grad_()
    assert torch.autograd.gradcheck(kernels.channel_singular_values, A)


@pytest.mark.parametrize(
    "A", [torch.eye(3, dtype=torch.cdouble), torch.zeros(3, 2, dtype=torch.cdouble)], ids=["equal", "zero"]
)
def test_gradients_at_equal_and_zero_values_are_subgradients(A):
    A = A.clone().requires_grad_()
    kernels.channel_singular_values(A).sum().backward()
    assert torch.isfinite(A.grad).all()
    assert torch.linalg.matrix_norm(A.grad, 2) <= 1 + 1e-12  # of the nuclear norm


def test_gradients_of_the_largest_value_go_uphill():
    A = batch(4, 4, count=1).requires_grad_()
    kernels.channel_singular_values(A)[..., 0].sum().backward()
    u, _, vh = kernels.channel_svd(A.detach())
    torch.testing.assert_close(A.grad, u[..., :1] @ vh[..., :1, :])


@pytest.mark.parametrize(
    ("matrices", "backend", "error", "message"),
    [
        (torch.zeros(3), None, ValueError, r"shape \(..., m, n\)"),
        (torch.zeros(3, 3, dtype=torch.half), None, TypeError, "got torch.float16"),
        (torch.full((2, 3, 3), torch.nan), None, ValueError, "expected finite matrices"),
        (torch.zeros(3, 3), "numba", ValueError, "expected `backend` to be None or one of"),
    ],
)
def test_refusals(matrices, backend, error, message):
    with pytest.raises(error, match=message):
        kernels.channel_svd(matrices, backend=backend)


@pytest.mark.skipif(INTERPRETED, reason="is this run")
def test_triton_kernels_under_the_interpreter(run_under_the_interpreter):
    run_under_the_interpreter(__file__)


def test_opcheck():
    torch.library.opcheck(torch.ops.fastfreq.channel_svd.default, (torch.rand(3, 4, 2, dtype=torch.cfloat),))


# ------------------------------------------------------------------ on a GPU
@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["random", "zero", "rank one", "equal", "a column of zeros"])
@pytest.mark.parametrize("dtype", EPS, ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, (64, 64), (40, 64), (64, 5), (70, 20)], ids=str)
def test_gpu_decomposes(shape, dtype, kind):
    if not torch.cuda.is_available() or INTERPRETED:
        pytest.skip("no CUDA device")
    A = batch(*shape, kind, count=40).to(dtype)
    u, s, vh = (x.cpu() for x in kernels.channel_svd(A.cuda(), backend="triton"))
    truth = torch.linalg.svdvals(A.to(torch.complex128))
    allowed = 512 * EPS[dtype]
    scale = max(1.0, float(truth.max()))
    torch.testing.assert_close(s.double(), truth, rtol=0, atol=allowed * scale)
    torch.testing.assert_close((u * s[:, None]) @ vh, A, rtol=0, atol=allowed * scale)
    eye = torch.eye(min(shape), dtype=dtype).expand(len(A), -1, -1)
    torch.testing.assert_close(u.mH @ u, eye, rtol=0, atol=allowed)
    torch.testing.assert_close(vh @ vh.mH, eye, rtol=0, atol=allowed)


@pytest.mark.parametrize("shape", [(1, 9, 5, 4), (2, 4, 3, 7), (1, 1, 1, 1)])
def test_values_of_a_convolution_are_those_of_its_matrices(shape, monkeypatch):
    generator = torch.Generator().manual_seed(3)
    taps = torch.randn(shape, generator=generator, dtype=torch.float64)
    offsets = torch.randint(-4, 5, (shape[1], 2), generator=generator)
    frequencies = torch.cartesian_prod(torch.arange(7), torch.arange(5))
    monkeypatch.setattr(sys.modules["fastfreq_kernels.channel_svd"], "_CACHED", 1000)  # several parts in each thread
    values = kernels.conv_singular_values(taps, offsets, frequencies, grid=(7, 5))
    angle = 2 * np.pi * (frequencies.numpy() / np.array([7, 5])) @ offsets.numpy().T
    matrices = np.einsum("ft,gtab->gfab", np.exp(1j * angle), taps.numpy())
    np.testing.assert_allclose(values, np.linalg.svd(matrices, compute_uv=False), atol=1e-13 * shape[1])


@pytest.fixture(params=["lanes", "rows", "lapack"])
def route(request, monkeypatch):
    if request.param == "lapack":
        monkeypatch.setattr(_cpu, "_compiled", lambda: None)
    else:
        pytest.importorskip("numba")
        monkeypatch.setattr(_cpu, "_TOGETHER", 1 << 30 if request.param == "lanes" else 0)
    return request.param


def planted(values, m, n, count):
    """Matrices with these singular values."""
    rng = np.random.default_rng(m * n)
    u, v = (
        np.linalg.qr(rng.standard_normal((count, s, s)) + 1j * rng.standard_normal((count, s, s)))[0] for s in (m, n)
    )
    return torch.from_numpy((u[:, :, : len(values)] * values) @ v[:, :, : len(values)].conj().swapaxes(1, 2))


SPECTRA = {
    "equal": lambda r: np.ones(r),
    "condition 1e6": lambda r: np.geomspace(1, 1e-6, r),
    "condition 1e16": lambda r: np.geomspace(1, 1e-16, r),
    "two clusters": lambda r: np.sort(np.where(np.arange(r) % 2, 1e-7, 1))[::-1],
    "half of the rank": lambda r: np.where(np.arange(r) < (r + 1) // 2, np.linspace(2, 1, r), 0),
    "zero": lambda r: np.zeros(r),
}


@pytest.mark.parametrize("spectrum", list(SPECTRA))
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (3, 5), (16, 16), (33, 40), (70, 70)], ids=str)
def test_planted_values_to_a_few_roundings_of_the_largest(shape, spectrum, route):
    values = SPECTRA[spectrum](min(shape))
    for dtype, eps in EPS.items():
        count = 37 if max(shape) < 20 else 9  # no multiple of any number of lanes
        s = kernels.channel_singular_values(planted(values, *shape, count).to(dtype))
        assert (s.diff(dim=1) <= 0).all() and (s >= 0).all()
        np.testing.assert_allclose(s, np.broadcast_to(values, s.shape), rtol=0, atol=200 * eps * values.max(initial=0))


def test_matrices_in_blocks_and_in_permuted_order(route):
    values = np.geomspace(1, 1e-9, 12)
    orders = np.random.default_rng(0).permuted(np.tile(np.arange(12), (40, 1)), axis=1)
    blocks = np.zeros((40, 12, 12), complex)
    for block, order in zip(blocks, orders, strict=True):
        block[np.arange(12), order] = values[order] * np.exp(1j * order)
    s = kernels.channel_singular_values(torch.from_numpy(blocks))
    np.testing.assert_allclose(s, np.broadcast_to(values, s.shape), rtol=0, atol=1e-14)


def test_no_lane_sees_another(route):
    A = torch.cat([planted(np.geomspace(1, 10.0**-p, 9), 9, 9, 8) for p in range(12)])
    A[::5] = torch.diag_embed(torch.arange(9.0) % 4).to(A.dtype)
    together = kernels.channel_singular_values(A)
    order = torch.randperm(len(A), generator=torch.Generator().manual_seed(0))
    assert torch.equal(kernels.channel_singular_values(A[order]), together[order])
    assert torch.equal(torch.cat([kernels.channel_singular_values(part) for part in A.split(12)]), together)


@pytest.mark.parametrize("scale", [1e-290, 1e-200, 1e290])
def test_any_scale_of_complex128(scale, route):
    A = batch(6, 5) * scale
    truth = np.linalg.svd(A.numpy() / scale, compute_uv=False)
    np.testing.assert_allclose(kernels.channel_singular_values(A) / scale, truth, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(1, 9, 20, 17), (2, 4, 3, 7), (1, 3, 64, 64)], ids=str)
def test_values_of_a_convolution_by_every_route(shape, route):
    generator = torch.Generator().manual_seed(3)
    taps = torch.randn(shape, generator=generator, dtype=torch.float64) * 1e-20
    offsets = torch.randint(-4, 5, (shape[1], 2), generator=generator)
    frequencies = torch.cartesian_prod(torch.arange(7), torch.arange(5))
    matrices = kernels.conv_symbols(taps, offsets, frequencies, grid=(7, 5)).numpy()
    truth = np.linalg.svd(matrices, compute_uv=False)
    values = kernels.conv_singular_values(taps, offsets, frequencies, grid=(7, 5))
    np.testing.assert_allclose(values, truth, rtol=0, atol=1e-14 * truth.max())
    single = kernels.conv_singular_values(taps.float(), offsets, frequencies, grid=(7, 5))
    np.testing.assert_allclose(single, truth, rtol=0, atol=2e-6 * truth.max())
    with pytest.raises(ValueError, match="expected finite"):
        kernels.conv_singular_values(taps * torch.nan, offsets, frequencies, grid=(7, 5))
