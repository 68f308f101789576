"""Batched singular value decompositions against NumPy's LAPACK in complex128 and closed forms."""

import fastfreq_kernels as kernels
import numpy as np
import pytest
import torch

SHAPES = [(1, 1), (3, 5), (7, 2), (16, 16), (33, 17)]


def batch(m, n, kind="random", count=9):
    rng = np.random.default_rng(m * 100 + n)
    A = rng.standard_normal((count, m, n)) + 1j * rng.standard_normal((count, m, n))
    if kind == "zero":
        A[:] = 0
    if kind == "rank one":
        A = A[:, :, :1] @ A[:, :1, :]
    return torch.from_numpy(A)


@pytest.mark.parametrize("backend", ["cpu", "reference", None])
@pytest.mark.parametrize("kind", ["random", "zero", "rank one"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_decomposes(shape, kind, backend):
    A = batch(*shape, kind)
    u, s, vh = kernels.channel_svd(A, backend=backend)
    truth = np.linalg.svd(A.numpy(), compute_uv=False)
    np.testing.assert_allclose(s, truth, atol=1e-12 * max(1, truth.max()))
    np.testing.assert_allclose((u * s[:, None]) @ vh, A, atol=1e-12 * max(1, truth.max()))
    np.testing.assert_allclose(
        u.mH @ u, np.broadcast_to(np.eye(min(shape)), u.mH.shape[:-1] + (min(shape),)), atol=1e-12
    )
    np.testing.assert_allclose(
        kernels.channel_singular_values(A, backend=backend), truth, atol=1e-12 * max(1, truth.max())
    )


def test_leading_axes_an_empty_batch_and_real_matrices():
    A = batch(3, 4, count=6).reshape(2, 3, 3, 4)
    torch.testing.assert_close(kernels.channel_singular_values(A)[1, 2], torch.linalg.svdvals(A[1, 2]))
    assert kernels.channel_singular_values(A[:0]).shape == (0, 3, 3)
    torch.testing.assert_close(kernels.channel_svd(A.real)[1], torch.linalg.svdvals(A.real))


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
        (torch.zeros(3, 3), "triton", RuntimeError, "no Triton kernel"),
    ],
)
def test_refusals(matrices, backend, error, message):
    with pytest.raises(error, match=message):
        kernels.channel_svd(matrices, backend=backend)
