"""Eigenvalues of packed Hermitian matrices against LAPACK in complex128 and closed forms.

The Triton kernels' cases run natively where there is a GPU, and in Triton's interpreter in a process of their own.
"""

import os
import subprocess
import sys

import fastfreq_kernels as kernels
import numpy as np
import pytest
import torch
from fastfreq_kernels import _configs, _hermitian
from fastfreq_kernels.hermitian_eigenvalues import _cpu

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BACKENDS = ["triton"] if INTERPRETED else ["cpu"]
EPS = {torch.float64: 2e-16, torch.float32: 1e-7}
KINDS = ["random", "zero", "diagonal", "rank one", "degenerate", "graded", "nearly flat"]


# sides below, at and above a power of two, to which tiles are filled
UNLIKE = [(c, dtype) for c in (1, 3, 8, 16, 17, 33) for dtype in EPS]
if INTERPRETED:
    UNLIKE = [(1, torch.float64), (3, torch.float64), (3, torch.float32), (16, torch.float32), (17, torch.float64)]


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


def check(matrices, dtype, backend="cpu", device="cpu"):
    packed = _hermitian.pack(torch.from_numpy(matrices.astype(np.complex128)))
    out = kernels.hermitian_eigenvalues(packed.to(device, dtype), backend=backend).cpu()
    truth = np.linalg.eigvalsh(matrices)[:, ::-1]
    scale = np.abs(truth).max(axis=1, keepdims=True)
    scale[scale == 0] = 1
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
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("c", [1, 2, 3, 5, 16, 33])
def test_agrees_with_lapack(c, kind, dtype, route):
    check(hermitian(c, 37, kind), dtype)  # 37: no multiple of any number of lanes


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("c", "dtype"), UNLIKE)
def test_unlike_matrices_in_one_batch(c, dtype, backend):
    # the interpreter takes a second for each of a large side
    few = {1: ["random", "zero"], 16: ["rank one"], 17: ["nearly flat"]} if INTERPRETED else {}
    kinds = few.get(c, KINDS)
    check(np.concatenate([hermitian(c, 1, kind) for kind in kinds]), dtype, backend)


@pytest.mark.parametrize("c", [64, 129])
def test_larger_matrices(c, route):
    check(hermitian(c, 9, "random"), torch.float64)


def test_the_laplacian_of_a_ring():
    c = 31
    ring = 2 * np.eye(c) - np.roll(np.eye(c), 1, 0) - np.roll(np.eye(c), -1, 0)
    packed = torch.from_numpy(ring).tril().expand(8, c, c)
    truth = np.sort(2 - 2 * np.cos(2 * np.pi * np.arange(c) / c))[::-1]
    np.testing.assert_allclose(kernels.hermitian_eigenvalues(packed)[3], truth, atol=1e-14)


@pytest.fixture
def in_memory(monkeypatch):
    """Whatever their side, matrices are reduced by the kernel of those too large for registers."""
    monkeypatch.setattr(_configs, "EIGENVALUES_LARGEST_SIDE", dict.fromkeys(EPS, 0))


needs_interpreter = pytest.mark.skipif(not INTERPRETED, reason="in test_triton_kernels_under_the_interpreter")


@needs_interpreter
@pytest.mark.usefixtures("in_memory")
@pytest.mark.parametrize(
    ("c", "kinds", "dtype"),
    [
        (1, ["random", "zero"], torch.float64),
        (2, KINDS, torch.float32),
        (5, KINDS, torch.float64),
        (8, ["graded"], torch.float32),
        (17, ["rank one"], torch.float64),
    ],
)
def test_triton_in_memory(c, kinds, dtype):
    check(np.concatenate([hermitian(c, 1, kind) for kind in kinds]), dtype, "triton")


@needs_interpreter
def test_triton_gives_the_same_bits_however_many_programs_share_a_matrix(monkeypatch):
    from fastfreq_kernels.hermitian_eigenvalues import _triton_memory

    monkeypatch.setitem(_configs._REDUCTION[torch.float64], 32, (16, 8, 1, 1))
    packed = _hermitian.pack(torch.from_numpy(hermitian(17, 1, "random")))
    found = []
    for how in ({}, {"programs": 2, "wait": False}):
        form, launches = _triton_memory.launches(packed, keep=True, **how)
        for launch in launches:
            launch()
        found.append(form)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


# rows, columns, warps, programs on a multiprocessor, updates held back
HELD = {
    16: (8, 8, 1, 1, 2),
    32: (16, 16, 1, 1, 4),
    64: (64, 64, 4, 1, 4),
    128: (128, 128, 4, 1, 8),
    256: (256, 256, 4, 1, 4),
}


@pytest.fixture
def held_back(in_memory, monkeypatch):
    """Whatever their side, matrices are reduced with the updates of several steps held back."""
    for dtype in EPS:
        for side, tile in HELD.items():
            monkeypatch.setitem(_configs._REDUCTION[dtype], side, tile)


@needs_interpreter
@pytest.mark.usefixtures("held_back")
@pytest.mark.parametrize(
    ("c", "kinds", "dtype"),
    [
        (1, ["random", "zero"], torch.float64),
        (2, ["random", "rank one"], torch.float32),
        (5, ["zero", "rank one", "degenerate", "graded"], torch.float64),
        (9, ["random"], torch.float32),
    ],
)
def test_triton_with_updates_held_back(c, kinds, dtype):
    check(np.concatenate([hermitian(c, 1, kind) for kind in kinds]), dtype, "triton")


@needs_interpreter
def test_triton_holding_updates_back_gives_the_same_bits_however_many_programs_share_a_matrix():
    from fastfreq_kernels.hermitian_eigenvalues import _triton_memory

    matrix = hermitian(11, 1, "random")
    packed, tile = _hermitian.pack(torch.from_numpy(matrix)), _configs.ReductionTile(16, *HELD[16])
    found = []
    for how in ({"programs": 1}, {"programs": 2, "wait": False}):
        form, launches = _triton_memory.launches(packed, keep=True, tile=tile, **how)
        for launch in launches:
            launch()
        found.append(form)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    phases = torch.view_as_complex(found[0].phases[0])[:-1]
    T = (found[0].diagonal[0].diag() + (found[0].squares[0, :-1].sqrt() * phases).diag(-1)).numpy()
    T += np.tril(T, -1).conj().T
    for x in reversed(torch.complex(*found[0].reflectors[0].unbind(1)).numpy()):
        T = T - 2 * np.outer(x, x.conj() @ T) / max(np.linalg.norm(x) ** 2, 1e-300)
        T = T - 2 * np.outer(T @ x, x.conj()) / max(np.linalg.norm(x) ** 2, 1e-300)
    np.testing.assert_allclose(float(found[0].scales[0]) * T, matrix[0], atol=1e-13)


@needs_interpreter
def test_triton_takes_larger_sides_to_memory(monkeypatch):
    monkeypatch.setitem(_configs.EIGENVALUES_LARGEST_SIDE, torch.float32, 4)
    check(hermitian(6, 1, "random"), torch.float32, "triton")


@pytest.mark.slow
@needs_interpreter
@pytest.mark.usefixtures("in_memory")
@pytest.mark.parametrize("dtype", EPS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("c", [16, 33, 64, 100, 128, 130, 200, 256])
@pytest.mark.parametrize("how", ["at once", "held back"])
def test_triton_at_every_size(c, kind, dtype, how, request):
    if how == "held back":
        request.getfixturevalue("held_back")
    matrices = hermitian(c, 1, kind)
    packed = _hermitian.pack(torch.from_numpy(matrices.astype(np.complex128))).to(dtype)
    out, truth = kernels.hermitian_eigenvalues(packed, backend="triton"), np.linalg.eigvalsh(matrices)[:, ::-1]
    worst = np.abs(out.numpy() - truth).max() / max(np.abs(truth).max(), 1e-300)
    print(f"{kind} side {c} {dtype}: {worst:.2g} of the largest")
    assert worst <= {torch.float64: 1e-13, torch.float32: 2e-6}[dtype]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", EPS, ids=str)
def test_pivots_that_are_zero(dtype, backend):
    """Those of a path without weights at x = 0, where bisection starts, and of the same beside itself."""
    path = np.eye(6, k=1) + np.eye(6, k=-1)
    both = np.kron(np.eye(2), path[:3, :3])
    check(np.stack([path, both, np.abs(path) * 3]), dtype, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_largest_alone(backend):
    packed = _hermitian.pack(torch.from_numpy(hermitian(6, 3, "random")))
    every = kernels.hermitian_eigenvalues(packed, backend=backend)
    assert torch.equal(kernels.hermitian_eigenvalues(packed, count=2, backend=backend), every[:, :2])


def test_dilation_has_the_singular_values():
    rng = np.random.default_rng(1)
    A = rng.standard_normal((3, 5, 4)) + 1j * rng.standard_normal((3, 5, 4))
    for matrices in (A, A.real):
        packed = _hermitian.dilation(torch.from_numpy(matrices.copy()))
        truth = np.linalg.svd(matrices, compute_uv=False)
        found = kernels.hermitian_eigenvalues(packed, count=4)
        np.testing.assert_allclose(found, truth, atol=1e-14 * truth.max())


def test_too_large_for_a_gpu_is_the_hosts(monkeypatch):
    """Not the vendor's solver, which takes matrices one by one."""
    _triton = pytest.importorskip("fastfreq_kernels.hermitian_eigenvalues._triton")
    monkeypatch.setattr(_configs, "EIGENVALUES_LARGEST_SIDE", dict.fromkeys(EPS, 3))
    monkeypatch.setattr(_configs, "REDUCTION_LARGEST_SIDE", 5)
    packed = _hermitian.pack(torch.from_numpy(hermitian(6, 9, "random")))
    assert [_configs.eigenvalues_route(c, torch.float64) for c in (3, 4, 6)] == ["registers", "memory", "host"]
    assert torch.equal(_triton.eigenvalues(packed, 6), kernels.hermitian_eigenvalues(packed, backend="cpu"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [1e-18, 1e18])
def test_any_scale(scale, backend):
    matrices = hermitian(7, 4, "random")
    packed = _hermitian.pack(torch.from_numpy(matrices * scale)).float()
    out = kernels.hermitian_eigenvalues(packed, backend=backend).double() / scale
    np.testing.assert_allclose(out, np.linalg.eigvalsh(matrices)[:, ::-1], atol=2e-6 * np.abs(matrices).sum(1).max())


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_answer_is_its_own_matrix_and_no_lane_sees_another(backend):
    pytest.importorskip("numba")
    n, c = (9, 5) if INTERPRETED else (70, 9)  # more than one block of lanes each
    packed = _hermitian.pack(torch.from_numpy(hermitian(c, n, "random")))
    packed[::7] *= 1e-9
    together = kernels.hermitian_eigenvalues(packed, backend=backend)
    shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    shuffled = shuffled[:4] if INTERPRETED else shuffled
    assert torch.equal(kernels.hermitian_eigenvalues(packed[shuffled], backend=backend), together[shuffled])


@pytest.mark.parametrize("backend", BACKENDS)
def test_leading_axes_strides_and_an_empty_batch(backend):
    packed = torch.rand(2, 0, 3, 4, 4)
    assert kernels.hermitian_eigenvalues(packed, backend=backend).shape == (2, 0, 3, 4)
    packed = torch.rand(2, 3 if INTERPRETED else 8, 4, 4)
    both = kernels.hermitian_eigenvalues(packed, backend=backend)
    assert torch.equal(both[1], kernels.hermitian_eigenvalues(packed[1], backend=backend))
    transposed = packed.mT.contiguous().mT
    assert torch.equal(both, kernels.hermitian_eigenvalues(transposed, backend=backend))


def test_packing_is_its_own_inverse():
    matrices = torch.from_numpy(hermitian(5, 3, "random"))
    torch.testing.assert_close(_hermitian.unpack(_hermitian.pack(matrices)), matrices)


def test_gradients_go_through_the_reference():
    packed = _hermitian.pack(torch.from_numpy(hermitian(4, 2, "random"))).requires_grad_()
    assert torch.autograd.gradcheck(kernels.hermitian_eigenvalues, packed)


def test_operator_passes_torch_checks_and_compiles_in_one_graph():
    packed = torch.rand(5, 4, 4)
    torch.library.opcheck(torch.ops.fastfreq.hermitian_eigenvalues.default, (packed, 3))
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


@pytest.mark.parametrize("count", [0, 4])
def test_a_count_of_what_is_not_there_is_refused(count):
    with pytest.raises(ValueError, match=f"`count` from 1 to 3, the side of the matrices, got {count}"):
        kernels.hermitian_eigenvalues(torch.eye(3), count=count)


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


@pytest.mark.skipif(INTERPRETED, reason="is this run")
def test_triton_kernels_under_the_interpreter(run_under_the_interpreter):
    run_under_the_interpreter(__file__)


@needs_interpreter
@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize("side", [64, 0], ids=["registers", "memory"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_no_number_from_triton(value, side, monkeypatch):
    monkeypatch.setattr(_configs, "EIGENVALUES_LARGEST_SIDE", dict.fromkeys(EPS, side))
    packed = torch.rand(3, 6, 6)
    packed[1, 3, 1] = value
    out = kernels.hermitian_eigenvalues(packed, backend="triton")  # a GPU is not waited for, so nothing is refused
    assert out.isnan().all(dim=1).tolist() == [False, True, False]


# ------------------------------------------------------------------ on a GPU
@pytest.mark.gpu
@pytest.mark.parametrize("dtype", EPS, ids=str)
@pytest.mark.parametrize("c", [1, 3, 16, 33, 64, 100, 128, 130, 256, 300, 512])
def test_gpu_agrees_with_lapack(c, dtype):
    if not torch.cuda.is_available() or INTERPRETED:
        pytest.skip("no CUDA device")
    check(np.concatenate([hermitian(c, 40, kind) for kind in KINDS]), dtype, "triton", "cuda")
