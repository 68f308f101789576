"""Eigenvalues of packed Hermitian matrices against LAPACK in complex128 and closed forms."""

import subprocess
import sys

import fastfreq_kernels as kernels
import numpy as np
import pytest
import torch
from fastfreq_kernels import _hermitian
from fastfreq_kernels.hermitian_eigenvalues import _cpu

EPS = {torch.float64: 2e-16, torch.float32: 1e-7}


def hermitian(c, n, kind, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, c, c)) + 1j * rng.standard_normal((n, c, c))
    if kind == "random":
        return A + A.conj().swapaxes(1, 2)
    if kind == "zero":
        return np.zeros((n, c, c))
    if kind == "diagonal":
        return np.stack([np.diag(rng.standard_normal(c)) for _ in range(n)])
    if kind == "rank one":
        return A[:, :, :1] @ A[:, :, :1].conj().swapaxes(1, 2)
    Q = np.linalg.qr(A)[0]
    if kind == "nearly flat":  # float32 sees a multiple of the identity plus its own rounding
        return np.eye(c) + 1e-8 * (A + A.conj().swapaxes(1, 2))
    spectrum = {"degenerate": np.repeat([1.0, 2.0], [c - c // 2, c // 2]), "graded": np.logspace(0, -16, c)}[kind]
    return (Q * spectrum) @ Q.conj().swapaxes(1, 2)


def check(matrices, dtype, backend="cpu"):
    packed = _hermitian.pack(torch.from_numpy(matrices.astype(np.complex128)))
    out = kernels.hermitian_eigenvalues(packed.to(dtype), backend=backend)
    truth = np.linalg.eigvalsh(matrices)[:, ::-1]
    scale = np.abs(truth).max(axis=1, keepdims=True) + (truth == 0).all()
    assert out.dtype == dtype and out.shape == truth.shape
    worst = (np.abs(out.numpy() - truth) / scale).max()
    assert worst <= (12 + matrices.shape[-1]) * EPS[dtype], worst
    assert (np.diff(out.numpy(), axis=1) <= 0).all()


@pytest.fixture(params=["compiled", "lapack"])
def route(request, monkeypatch):
    if request.param == "compiled":
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(_cpu, "_compiled", lambda: None)


@pytest.mark.parametrize("dtype", EPS, ids=str)
@pytest.mark.parametrize("kind", ["random", "zero", "diagonal", "rank one", "degenerate", "graded", "nearly flat"])
@pytest.mark.parametrize("c", [1, 2, 3, 5, 16, 33])
def test_agrees_with_lapack(c, kind, dtype, route):
    check(hermitian(c, 37, kind), dtype)  # 37: no multiple of any number of lanes


@pytest.mark.parametrize("c", [64, 129])
def test_larger_matrices(c, route):
    check(hermitian(c, 9, "random"), torch.float64)


def test_the_laplacian_of_a_ring():
    c = 31
    ring = 2 * np.eye(c) - np.roll(np.eye(c), 1, 0) - np.roll(np.eye(c), -1, 0)
    packed = torch.from_numpy(ring).tril().expand(8, c, c)
    truth = np.sort(2 - 2 * np.cos(2 * np.pi * np.arange(c) / c))[::-1]
    np.testing.assert_allclose(kernels.hermitian_eigenvalues(packed)[3], truth, atol=1e-14)


@pytest.mark.parametrize("scale", [1e-18, 1e18])
def test_any_scale(scale, route):
    matrices = hermitian(7, 12, "random")
    packed = _hermitian.pack(torch.from_numpy(matrices * scale)).float()
    out = kernels.hermitian_eigenvalues(packed).double() / scale
    np.testing.assert_allclose(out, np.linalg.eigvalsh(matrices)[:, ::-1], atol=2e-6 * np.abs(matrices).sum(1).max())


def test_each_answer_is_its_own_matrix_and_no_lane_sees_another():
    pytest.importorskip("numba")
    packed = _hermitian.pack(torch.from_numpy(hermitian(9, 70, "random")))
    packed[::7] *= 1e-9
    together = kernels.hermitian_eigenvalues(packed)
    shuffled = torch.randperm(70, generator=torch.Generator().manual_seed(0))
    assert torch.equal(kernels.hermitian_eigenvalues(packed[shuffled]), together[shuffled])


def test_leading_axes_and_an_empty_batch():
    packed = torch.rand(2, 0, 3, 4, 4)
    assert kernels.hermitian_eigenvalues(packed).shape == (2, 0, 3, 4)
    packed = torch.rand(2, 8, 4, 4)
    assert torch.equal(kernels.hermitian_eigenvalues(packed)[1], kernels.hermitian_eigenvalues(packed[1]))


def test_packing_is_its_own_inverse():
    matrices = torch.from_numpy(hermitian(5, 3, "random"))
    torch.testing.assert_close(_hermitian.unpack(_hermitian.pack(matrices)), matrices)


def test_gradients_go_through_the_reference():
    packed = _hermitian.pack(torch.from_numpy(hermitian(4, 2, "random"))).requires_grad_()
    assert torch.autograd.gradcheck(kernels.hermitian_eigenvalues, packed)


def test_operator_passes_torch_checks_and_compiles_in_one_graph():
    packed = torch.rand(5, 4, 4)
    torch.library.opcheck(torch.ops.fastfreq.hermitian_eigenvalues.default, (packed,))
    compiled = torch.compile(kernels.hermitian_eigenvalues, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(packed), kernels.hermitian_eigenvalues(packed))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(value, route):
    packed = torch.rand(40, 6, 6)
    packed[23, 3, 1] = value
    with pytest.raises(ValueError, match="expected finite matrices"):
        kernels.hermitian_eigenvalues(packed)


@pytest.mark.parametrize(
    ("packed", "error", "message"),
    [
        (torch.zeros(3, 4, 5), ValueError, r"shape \(..., c, c\), got \(3, 4, 5\)"),
        (torch.zeros(3, 4, 4, dtype=torch.cfloat), TypeError, "float32 or float64, got torch.complex64"),
    ],
)
def test_refusals(packed, error, message):
    with pytest.raises(error, match=message):
        kernels.hermitian_eigenvalues(packed)


def test_without_numba_lapack_answers_after_one_warning():
    code = (
        "import sys, warnings, torch; sys.modules['numba'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n == 'numba' else find(n, *a)\n"
        "import fastfreq_kernels as k\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    first = k.hermitian_eigenvalues(torch.eye(3).expand(9, 3, 3))\n"
        "    k.hermitian_eigenvalues(torch.rand(9, 3, 3))\n"
        "print(len(seen), 'fastfreq[cpu]' in str(seen[0].message), float(first.sum()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1", "True", "27.0"]
