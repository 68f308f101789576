"""`gram_iteration`: never below LAPACK's largest singular value, and the Schatten norm that it should be.

The Triton kernel's cases run natively where there is a GPU, and in Triton's interpreter in a process of their own.
"""

import os

import numpy as np
import pytest
import torch
from fastfreq_kernels import gram_iteration

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BACKENDS = ["triton"] if INTERPRETED else ["reference", "cpu"]
EPS = {torch.complex128: 2.3e-16, torch.complex64: 1.2e-7, torch.float64: 2.3e-16, torch.float32: 1.2e-7}
KINDS = ["random", "unitary", "rank one", "graded", "two equal"]
SHAPES = [(5, 5), (1, 1), (3, 7), (9, 2), (17, 17), (33, 40)]


def tolerance(m, n, dtype):
    """What the bound may be above the exact one: rounding, as it is guaranteed and not as it happens."""
    return 8 * (max(m, n) + 16) * min(m, n) * EPS[dtype]


def matrices_of(kind, m, n, *, real, count=2 if INTERPRETED else 6):
    rng = np.random.default_rng(m * n)
    M = rng.standard_normal((count, m, n)) + (0 if real else 1j * rng.standard_normal((count, m, n)))
    if kind == "random":
        return M
    U, s, V = np.linalg.svd(M, full_matrices=False)
    r = s.shape[1]
    s = {
        "unitary": np.ones(r),
        "rank one": np.eye(r)[0],
        "graded": np.logspace(0, -12, r),
        "two equal": np.where(np.arange(r) < 2, 1.0, 0.3),
    }[kind]
    return (U * s) @ V


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", EPS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_is_the_schatten_norm_from_above(shape, dtype, backend):
    made = [matrices_of(kind, *shape, real=not dtype.is_complex) for kind in KINDS]
    matrices = torch.from_numpy(np.concatenate(made)).to(dtype)
    values = np.linalg.svd(matrices.to(torch.complex128).numpy(), compute_uv=False)
    for iterations in (2, 4) if INTERPRETED else (0, 1, 3, 8, 20):
        bound = gram_iteration(matrices, iterations=iterations, backend=backend)
        assert bound.dtype == dtype.to_real() and bound.shape == (len(matrices),)
        top = values[:, 0]
        p = 2.0 ** (iterations + 1)
        schatten = top * ((values / top[:, None]) ** p).sum(axis=1) ** (1 / p)
        assert (bound.double().numpy() >= top).all()
        np.testing.assert_allclose(bound.double(), schatten, rtol=tolerance(*shape, dtype))


@pytest.mark.parametrize("backend", BACKENDS)
def test_bounds_shrink_towards_the_norm(backend):
    matrices = torch.from_numpy(matrices_of("unitary", 16, 16, real=False))
    for iterations in (1, 2, 4, 7):
        bound = gram_iteration(matrices, iterations=iterations, backend=backend)
        np.testing.assert_allclose(bound, 16 ** (2.0 ** -(iterations + 1)), rtol=tolerance(16, 16, torch.float64))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_any_scale(dtype, sign, backend):
    scale = 10.0 ** (sign * (36 if dtype == torch.complex64 else 300))
    matrices = torch.from_numpy(matrices_of("random", 5, 4, real=False)).to(dtype)
    expected = gram_iteration(matrices, iterations=6, backend=backend)
    bound = gram_iteration(matrices * scale, iterations=6, backend=backend) / scale
    torch.testing.assert_close(bound, expected, rtol=tolerance(5, 4, dtype), atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_zero_leading_axes_and_empty_batches(backend):
    matrices = torch.from_numpy(matrices_of("random", 3, 4, real=True, count=6)).reshape(2, 3, 3, 4)
    matrices[1, 2] = 0
    bound = gram_iteration(matrices, iterations=3, backend=backend)
    assert bound.shape == (2, 3) and bound[1, 2] == 0 and (bound > 0).sum() == 5
    torch.testing.assert_close(gram_iteration(matrices[1], iterations=3, backend=backend), bound[1])
    assert gram_iteration(matrices[:0], iterations=3, backend=backend).shape == (0, 3)
    assert gram_iteration(matrices[0, 0], iterations=3, backend=backend).shape == ()


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_gradients(dtype):
    matrices = torch.from_numpy(matrices_of("random", 4, 3, real=not dtype.is_complex, count=2)).requires_grad_()
    assert torch.autograd.gradcheck(lambda M: gram_iteration(M, iterations=4), matrices)
    gram_iteration(matrices, iterations=12).sum().backward()
    U, _, V = torch.linalg.svd(matrices.detach())
    torch.testing.assert_close(matrices.grad, U[..., :1] @ V[..., :1, :], rtol=0, atol=1e-8)
    zero = torch.zeros(3, 3, dtype=dtype, requires_grad=True)
    gram_iteration(zero, iterations=3).backward()
    assert not zero.grad.any()
    with pytest.raises(RuntimeError, match="do not require grad for backend='cpu'"):
        gram_iteration(matrices, iterations=4, backend="cpu")


@pytest.mark.parametrize(
    ("matrices", "iterations", "error", "message"),
    [
        (torch.zeros(4), 3, ValueError, r"shape \(..., m, n\), neither of them 0, got \(4,\)"),
        (torch.zeros(2, 0, 3), 3, ValueError, r"neither of them 0, got \(2, 0, 3\)"),
        (torch.zeros(2, 3, 3).half(), 3, TypeError, "complex128, got torch.float16"),
        (torch.zeros(2, 3, 3), -1, ValueError, "expected `iterations` of at least 0, got -1"),
        (torch.full((2, 3, 3), torch.nan), 3, ValueError, "expected finite matrices"),
        (torch.full((2, 3, 3), torch.inf), 3, ValueError, "expected finite matrices"),
    ],
)
def test_refusals(matrices, iterations, error, message):
    with pytest.raises(error, match=message):
        gram_iteration(matrices, iterations=iterations)


def test_operator_passes_torch_checks_and_compiles_in_one_graph():
    matrices = torch.rand(3, 4, 5, dtype=torch.complex64)
    torch.library.opcheck(torch.ops.fastfreq.gram_iteration.default, (matrices, 4))
    compiled = torch.compile(lambda M: gram_iteration(M, iterations=4), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(matrices), gram_iteration(matrices, iterations=4))


@pytest.mark.skipif(INTERPRETED, reason="is this run")
def test_triton_kernels_under_the_interpreter(run_under_the_interpreter):
    run_under_the_interpreter(__file__)


# ------------------------------------------------------------------ on a GPU
@pytest.mark.gpu
@pytest.mark.parametrize("dtype", EPS, ids=str)
@pytest.mark.parametrize("shape", [(64, 64), (33, 100), (130, 65)], ids=str)
def test_gpu_equals_the_reference(shape, dtype):
    if not torch.cuda.is_available() or INTERPRETED:
        pytest.skip("no CUDA device")
    matrices = torch.from_numpy(matrices_of("random", *shape, real=not dtype.is_complex, count=70)).to(dtype)
    expected = gram_iteration(matrices, iterations=6, backend="reference")
    bound = gram_iteration(matrices.cuda(), iterations=6, backend="triton").cpu()
    torch.testing.assert_close(bound, expected, rtol=tolerance(*shape, dtype), atol=0)
