"""Eigenvectors of packed Hermitian matrices: residuals, orthogonality and values against LAPACK in complex128.

The Triton kernels' cases run natively where there is a GPU, and in Triton's interpreter in a process of their own.
"""

import os

import fastfreq_kernels as kernels
import numpy as np
import pytest
import torch
from fastfreq_kernels import _configs, _hermitian

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BACKENDS = ["triton"] if INTERPRETED else ["cpu"]
EPS = {torch.float64: 2e-16, torch.float32: 1e-7}
needs_interpreter = pytest.mark.skipif(not INTERPRETED, reason="in test_triton_kernels_under_the_interpreter")


def with_eigenvalues(values, seed=0):
    """A Hermitian matrix that has these."""
    rng = np.random.default_rng(seed)
    c = len(values)
    Q = np.linalg.qr(rng.standard_normal((c, c)) + 1j * rng.standard_normal((c, c)))[0]
    return (Q * values) @ Q.conj().T


def matrices(c):
    """Whose eigenvectors are hard to keep orthogonal, and easy ones."""
    every = np.arange(1, c + 1)
    return np.stack(
        [
            with_eigenvalues(np.random.default_rng(1).standard_normal(c)),
            np.zeros((c, c)),
            np.eye(c),
            with_eigenvalues(every <= 1),  # all others are zero
            with_eigenvalues(every % 3),  # three clusters
            with_eigenvalues(1 + 1e-13 * every),  # one that rounding fills
            with_eigenvalues(1 + 1e-8 * every),  # distances at which vectors lose half their digits
            with_eigenvalues(10.0 ** (-16 * every / c)),  # graded
            np.diag(every % 2),
            np.eye(c, k=1) + np.eye(c, k=-1),  # a path: real, zero on its diagonal
        ]
    )


def check(hermitian, dtype, count, backend, device="cpu"):
    packed = _hermitian.pack(torch.from_numpy(hermitian.astype(np.complex128))).to(dtype)
    values, vectors = (t.cpu() for t in kernels.hermitian_eigenvectors(packed.to(device), count=count, backend=backend))
    n, c, _ = hermitian.shape
    assert values.dtype == dtype and values.shape == (n, count) and vectors.shape == (n, c, count)
    assert vectors.dtype == dtype.to_complex()
    exact = _hermitian.unpack(packed.double())  # after rounding
    truth = torch.linalg.eigvalsh(exact).flip(-1)
    scale = truth.abs().amax(1).clamp_min(1e-300)
    allowed = (12 + c) * EPS[dtype]
    assert ((values - truth[:, :count]).abs().amax(1) / scale).max() <= allowed
    vectors = vectors.to(torch.complex128)
    residual = exact @ vectors - vectors * values[:, None]
    assert (residual.abs().amax((1, 2)) / scale).max() <= allowed
    assert (vectors.mH @ vectors - torch.eye(count)).abs().max() <= allowed


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("c", "count", "dtype"),
    [(1, 1, torch.float64), (2, 2, torch.float32), (5, 3, torch.float32), (5, 5, torch.float64)],
)
def test_agrees_with_lapack(c, count, dtype, backend):
    check(matrices(c), dtype, count, backend)


@needs_interpreter
def test_no_matrix_of_these_is_left_to_the_host_by_triton(monkeypatch):
    from fastfreq_kernels.hermitian_eigenvectors import _cpu

    monkeypatch.setattr(_cpu, "eigenvectors", lambda *_: pytest.fail("left to LAPACK"))
    check(matrices(7), torch.float64, 7, "triton")


@pytest.mark.slow
@needs_interpreter
@pytest.mark.parametrize("dtype", EPS, ids=str)
@pytest.mark.parametrize("c", [16, 33, 64, 130])
def test_triton_at_larger_sizes(c, dtype):
    check(matrices(c), dtype, c, "triton")


@needs_interpreter
def test_what_inverse_iteration_misses_is_lapacks(monkeypatch):
    """No matrix that was found does, so the limit is put where all miss it; Triton's own would differ by a phase."""
    from fastfreq_kernels.hermitian_eigenvectors import _triton

    monkeypatch.setattr(_triton, "_ALLOWED", -1.0)
    packed = _hermitian.pack(torch.from_numpy(matrices(4).astype(np.complex128)))
    ours, host = _triton.eigenvectors(packed, 3), kernels.hermitian_eigenvectors(packed, count=3, backend="cpu")
    torch.testing.assert_close(ours, host)


@needs_interpreter
def test_blocks_of_matrices_and_sides_for_the_host_change_nothing_for_triton(monkeypatch):
    packed = _hermitian.pack(torch.from_numpy(matrices(4)[:3].astype(np.complex128)))
    together = kernels.hermitian_eigenvectors(packed, backend="triton")
    monkeypatch.setattr(_configs, "INVERSE_BYTES", 1)
    one_by_one = kernels.hermitian_eigenvectors(packed, backend="triton")
    assert all(torch.equal(a, b) for a, b in zip(together, one_by_one, strict=True))
    monkeypatch.setattr(_configs, "REDUCTION_LARGEST_SIDE", 3)
    check(matrices(4), torch.float64, 2, "triton")


@needs_interpreter
@pytest.mark.filterwarnings("ignore:invalid value encountered", "ignore:divide by zero")
def test_what_is_not_finite_is_no_number_from_triton():
    packed = torch.rand(3, 4, 4)
    packed[1, 3, 1] = torch.inf
    values, vectors = kernels.hermitian_eigenvectors(packed, backend="triton")
    assert values.isnan().any(1).tolist() == vectors.isnan().flatten(1).any(1).tolist() == [False, True, False]


@pytest.mark.parametrize("backend", BACKENDS)
def test_leading_axes_and_an_empty_batch(backend):
    values, vectors = kernels.hermitian_eigenvectors(torch.rand(2, 0, 3, 4, 4), count=2, backend=backend)
    assert values.shape == (2, 0, 3, 2) and vectors.shape == (2, 0, 3, 4, 2)
    packed = torch.rand(2, 2, 3, 3)
    values, vectors = kernels.hermitian_eigenvectors(packed, backend=backend)
    again = kernels.hermitian_eigenvectors(packed[1], backend=backend)
    torch.testing.assert_close((values[1], vectors[1]), again)  # LAPACK rounds by where a matrix lies in memory


def test_gradients_go_through_the_reference():
    packed = _hermitian.pack(torch.from_numpy(matrices(4)[:1])).requires_grad_()
    torch.autograd.gradcheck(lambda p: kernels.hermitian_eigenvectors(p)[0], packed)


def test_operator_passes_torch_checks_and_compiles_in_one_graph():
    packed = torch.rand(5, 4, 4)
    torch.library.opcheck(torch.ops.fastfreq.hermitian_eigenvectors.default, (packed, 2))
    compiled = torch.compile(kernels.hermitian_eigenvectors, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(packed), kernels.hermitian_eigenvectors(packed))


@pytest.mark.parametrize(
    ("packed", "count", "error", "message"),
    [
        (torch.zeros(3, 4, 5), None, ValueError, r"shape \(..., c, c\), got \(3, 4, 5\)"),
        (torch.zeros(3, 3), 4, ValueError, "`count` from 1 to 3, the side of the matrices, got 4"),
        (torch.zeros(3, 3, dtype=torch.half), None, TypeError, "float32 or float64, got torch.float16"),
        (torch.full((3, 3), torch.nan), None, ValueError, "expected finite matrices"),
    ],
)
def test_refusals(packed, count, error, message):
    with pytest.raises(error, match=message):
        kernels.hermitian_eigenvectors(packed, count=count)


@pytest.mark.skipif(INTERPRETED, reason="is this run")
def test_triton_kernels_under_the_interpreter(run_under_the_interpreter):
    run_under_the_interpreter(__file__)


# ------------------------------------------------------------------ on a GPU
@pytest.mark.gpu
@pytest.mark.parametrize("dtype", EPS, ids=str)
@pytest.mark.parametrize("c", [1, 3, 16, 33, 64, 100, 256, 300])
def test_gpu_agrees_with_lapack(c, dtype):
    if not torch.cuda.is_available() or INTERPRETED:
        pytest.skip("no CUDA device")
    for count in {c, min(c, 8)}:
        check(matrices(c), dtype, count, "triton", "cuda")
