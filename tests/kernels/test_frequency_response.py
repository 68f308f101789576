"""`frequency_response`: NumPy's dense sums in float64 at hostile points and frequencies, whichever way they go.

The Triton kernel's cases run natively where there is a GPU, and in Triton's interpreter in a process of their own.
"""

import importlib
import itertools
import os
import warnings

import numpy as np
import pytest
import torch
from fastfreq_kernels import frequency_response, simd
from fastfreq_kernels.frequency_response import _cpu, _lines

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BACKENDS = ["triton"] if INTERPRETED else ["reference", "cpu"]
EPS = {torch.float32: 1.2e-7, torch.float64: 2.3e-16}
ONE = {1: [1.0], 2: [0.6, 0.8], 3: [0.48, -0.6, 0.64]}


def truth_of(points, values, frequencies):
    """The definition in NumPy; phases as products of float64 numbers."""
    phases = points.double().numpy() @ frequencies.double().numpy().T
    return np.exp(-2j * np.pi * (phases - np.round(phases))).T @ values.double().numpy()


def error_of(response, points, values, frequencies):
    """Largest error in eps of the sum of |values|, beyond what float64 phases are themselves off by."""
    scale = values.double().abs().sum(dim=0).numpy() + 1e-300
    reach = float((frequencies.double().abs() @ points.double().abs().amax(dim=0)).max()) if len(points) else 0.0
    off = np.abs(response.numpy() - truth_of(points, values, frequencies)) / scale
    return (off.max() - 40 * reach * 2.3e-16) / EPS[values.dtype]


def problem(n, m, d, dtype, *, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    points = torch.from_numpy(spread * rng.standard_normal((n, d))).to(dtype)
    return points, torch.from_numpy(rng.standard_normal((n, m))).to(dtype)


def grid(*axes):
    return torch.cartesian_prod(*axes).view(-1, len(axes)).double()


def integers(first, count):
    return torch.arange(first, first + count, dtype=torch.float64)


FREQUENCIES = {
    "one": torch.tensor([[0.37]]),
    "any": torch.from_numpy(np.random.default_rng(1).uniform(-40, 40, (37, 1))),
    "line": integers(0, 61)[:, None].double(),
    "line both ways": (integers(-20, 41)[:, None] / 3).double(),
    "line far from zero": (integers(0, 33)[:, None] + 1000.25).double(),
    "line down": -(integers(3, 40)[:, None]).double(),
    "line in float32": torch.linspace(0, 3, 47, dtype=torch.float32)[:, None],
    "equal ones": torch.full((40, 1), 2.5),
    "direction": integers(0, 53)[:, None] * torch.tensor([ONE[2]], dtype=torch.float64),
    "grid": grid(integers(-5, 11), integers(-3, 8)),
    "grid off zero": grid(integers(0, 7) * 0.3 + 0.1, integers(-3, 9) * 0.7 + 0.05),
    "lines anywhere": torch.tensor([[0.0, 0.3], [1.7, -2.0], [5.0, 5.0]]).double().repeat_interleave(9, 0)
    + integers(0, 9).repeat(3)[:, None] * torch.tensor([[0.5, 0.25]]),
    "cube": grid(integers(-2, 4), integers(0, 5), integers(1, 3)),
    "any in 5-D": torch.from_numpy(np.random.default_rng(2).uniform(-3, 3, (19, 5))).float(),
}


@pytest.mark.parametrize("dtype", EPS, ids=str)
@pytest.mark.parametrize("name", FREQUENCIES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_the_dense_sums(name, dtype, backend):
    frequencies = FREQUENCIES[name]
    for n, m in ((1, 1), (3, 2)) if INTERPRETED else ((1, 1), (131, 5), (2, 17)):
        points, values = problem(n, m, frequencies.shape[1], dtype)
        response = frequency_response(points, values, frequencies, reduction="sum", backend=backend)
        assert response.shape == (len(frequencies), m) and response.dtype == dtype.to_complex()
        assert error_of(response, points, values, frequencies) <= 16


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", EPS, ids=str)
def test_more_points_and_frequencies_than_a_block(dtype, backend):
    n, K = (140, 70) if INTERPRETED else (3001, 523)
    points, values = problem(n, 6, 2, dtype)
    frequencies = torch.from_numpy(np.random.default_rng(3).uniform(-9, 9, (K, 2)))
    mean = frequency_response(points, values, frequencies, backend=backend)
    assert error_of(mean * n, points, values, frequencies) <= 16


@pytest.mark.parametrize("backend", BACKENDS)
def test_far_points_and_high_frequencies_keep_their_digits(backend):
    """Float32 products k x would be off by half a turn."""
    points, values = problem(53, 3, 2, torch.float32, spread=3000.0)
    frequencies = torch.from_numpy(np.random.default_rng(4).uniform(-4000, 4000, (29, 2))).float()
    response = frequency_response(points, values, frequencies, reduction="sum", backend=backend)
    assert error_of(response, points, values, frequencies) <= 16


@pytest.mark.parametrize("backend", BACKENDS)
def test_views_columns_that_are_not_finite_and_nothing_at_all(backend):
    points, values = problem(40, 6, 3, torch.float32)
    frequencies = FREQUENCIES["cube"].float()
    expected = frequency_response(points, values, frequencies, backend="reference")
    wide = torch.stack([points, points + 1], dim=2)[..., 0]
    strided = frequency_response(wide, values.T.contiguous().T, frequencies.T.contiguous().T, backend=backend)
    torch.testing.assert_close(strided, expected, rtol=0, atol=3e-6)
    some = frequency_response(points, values[:, ::2], frequencies, backend=backend)
    torch.testing.assert_close(some, expected[:, ::2], rtol=0, atol=3e-6)
    bad = values.clone()
    bad[7, 2], bad[9, 4] = torch.nan, torch.inf
    with np.errstate(invalid="ignore"):  # the interpreter's products are NumPy's
        found = frequency_response(points, bad, frequencies, backend=backend)
    assert not torch.isfinite(torch.view_as_real(found)).all(dim=(0, 2))[[2, 4]].any()
    torch.testing.assert_close(found[:, [0, 1, 3, 5]], expected[:, [0, 1, 3, 5]], rtol=0, atol=3e-6)
    for n, m, K in ((0, 2, 3), (4, 0, 3), (4, 2, 0)):
        none = frequency_response(points[:n], values[:n, :m], frequencies[:K], reduction="sum", backend=backend)
        assert none.shape == (K, m) and none.dtype == torch.complex64 and not none.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pure_wave_is_one_number(backend):
    """On even points the transform of cos(2 pi 3 x) is half at 3 and -3 and nothing at other integers."""
    points = torch.arange(64, dtype=torch.float64)[:, None] / 64
    response = frequency_response(
        points, torch.cos(6 * torch.pi * points), integers(-6, 13)[:, None].double(), backend=backend
    )
    expected = torch.tensor([0.5 if abs(k) == 3 else 0.0 for k in range(-6, 7)], dtype=torch.complex128)
    torch.testing.assert_close(response[:, 0], expected, rtol=0, atol=1e-14)


# ------------------------------------------------------------------ ways on a CPU
@pytest.fixture(scope="module")
def code():
    pytest.importorskip("numba")
    return simd.compiled("frequency_response", "")


@pytest.mark.parametrize("dtype", EPS, ids=str)
@pytest.mark.parametrize(
    "name", [name for name in FREQUENCIES if name not in ("one", "any", "line in float32", "any in 5-D")]
)
def test_cpu_every_way_gives_the_same(name, dtype, code):
    """Sums, spreading and finufft: the cheapest is taken, which no answer may show."""
    frequencies = FREQUENCIES[name].double()
    n, m = 1500, 3
    points, values = problem(n, m, frequencies.shape[1], dtype)
    reach, allowed = points.abs().amax(dim=0).double(), _lines.TURNS[dtype]
    lines = _lines.lines_of(frequencies, reach, allowed)
    zero = _lines.from_zero([lines], reach, allowed)
    ways = [_cpu.by_sums(code, points, values, frequencies)]
    ways += [_cpu.by_lines(code, points, values, lines, start) for start in {zero[0] if zero else None, None}]
    grid_axes = _lines.grid_of(lines, reach, allowed)
    assert (grid_axes is None) == (name == "lines anywhere")
    if importlib.util.find_spec("finufft") is not None and grid_axes is not None:
        first = _lines.from_zero(grid_axes, reach, allowed)
        ways += [_cpu._by_finufft.sums(points, values, grid_axes, each) for each in (None, first)]
    for way in ways:
        assert error_of(way, points, values, frequencies) <= 16


@pytest.mark.parametrize("dtype", EPS, ids=str)
def test_cpu_grids_hold_for_a_single_value_and_for_blocks(dtype):
    """A single value shows what a position's rounding costs; 40,001 points are three blocks, 19 outputs two groups."""
    pytest.importorskip("finufft")
    k = grid(integers(-32, 64), integers(-32, 64))
    for n, m in ((1, 3), (40_001, 19)):
        points, values = problem(n, m, 2, dtype, spread=30.0)
        reach, allowed = points.abs().amax(dim=0).double(), _lines.TURNS[dtype]
        axes = _lines.grid_of(_lines.lines_of(k, reach, allowed), reach, allowed)
        some = slice(None) if n == 1 else slice(0, None, 97)
        for first in (_lines.from_zero(axes, reach, allowed), None):
            found = _cpu._by_finufft.sums(points, values, axes, first)[some]
            assert error_of(found, points, values, k[some]) <= 16


@pytest.mark.parametrize("m", [1, 4, 5])
def test_cpu_two_outputs_in_one_transform_leave_each_other_alone(m):
    """One 10^9 times as large as the other, one that is nothing, one that is no number; grids beside zero, too."""
    pytest.importorskip("finufft")
    axis, other = torch.arange(-5, 4, dtype=torch.float64), torch.arange(-3, 8, dtype=torch.float64) * 0.5
    k = torch.cartesian_prod(axis, other)
    points, values = problem(900, m, 2, torch.float64)
    values *= torch.tensor([1e9, 1.0, 0.0, 1e-12, 3.0], dtype=torch.float64)[:m]
    reach, allowed = points.abs().amax(dim=0), _lines.TURNS[torch.float64]
    grid = _lines.grid_of(_lines.lines_of(k, reach, allowed), reach, allowed)
    first = _lines.from_zero(grid, reach, allowed)
    assert first == [-5, -3] and _cpu._by_finufft.symmetric(grid, first) == [5, 7]
    assert _cpu._by_finufft.symmetric(grid, [1, 1]) is None  # four times as many modes
    expected = frequency_response(points, values, k, reduction="sum", backend="reference")
    for column in range(m):
        bad = values.clone()
        if m > 1:
            bad[17, column] = torch.nan
        found = _cpu._by_finufft.sums(points, bad, grid, first)
        for i in range(m):
            if m > 1 and i == column:
                assert not torch.isfinite(torch.view_as_real(found[:, i])).any()
            else:
                off = (found[:, i] - expected[:, i]).abs().max()
                assert off <= 1e-13 * values[:, i].abs().sum()


def test_cpu_lines_are_found_only_where_they_are(code):
    del code
    reach, allowed = torch.ones(1, dtype=torch.float64), _lines.TURNS[torch.float32]
    even = integers(0, 50)[:, None].double()
    assert _lines.lines_of(even, reach, allowed).count == 50
    moved = even.clone()
    moved[20] += 1e-7
    assert _lines.lines_of(moved, reach, allowed) is None
    assert _lines.lines_of(moved, reach / 10, allowed).count == 50  # points so near that no phase moves
    assert _lines.lines_of(torch.linspace(0, 9, 50)[:, None].double(), reach, allowed) is None
    assert _lines.lines_of(even[:1], reach, allowed) is None
    assert _lines.lines_of(torch.cat([even, even + 0.5])[:-1], reach, allowed) is None
    assert _lines.lines_of(torch.cat([even, even + 0.5]), reach, allowed).count == 50


def test_cpu_phases_that_overflow_are_no_numbers(code):
    del code
    points, values = problem(50, 1, 1, torch.float64)
    response = frequency_response(points * 1e200, values, integers(1, 60)[:, None] * 1e200)
    assert torch.isnan(torch.view_as_real(response)).all()


def test_cpu_more_outputs_than_a_grid_has_columns(code):
    points, values = problem(300, 150, 1, torch.float32)
    line = FREQUENCIES["line"]
    lines = _lines.lines_of(line, points.abs().amax(dim=0).double(), _lines.TURNS[torch.float32])
    assert error_of(_cpu.by_lines(code, points, values, lines, 0), points, values, line) <= 16


def test_cpu_bits_do_not_depend_on_threads(code):
    del code
    threads, answers = torch.get_num_threads(), []
    points, values = problem(20_000, 3, 1, torch.float32)
    large = grid(integers(-20, 41), integers(-20, 41))
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        answers.append([frequency_response(points, values, FREQUENCIES[name]) for name in ("any", "line")])
        answers[-1].append(frequency_response(points.repeat(2, 2), values.repeat(2, 6), large))  # by finufft
    torch.set_num_threads(threads)
    for first, other in itertools.product(answers[:1], answers[1:]):
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("finufft", [False, True])
def test_cpu_without_numba(monkeypatch, finufft):
    if finufft:
        pytest.importorskip("finufft")
    monkeypatch.setattr(simd, "compiled", lambda *_: None)
    monkeypatch.setattr(_cpu, "_FINUFFT", finufft)
    for name, dtype in itertools.product(("any", "line", "grid off zero"), EPS):
        points, values = problem(131, 2, FREQUENCIES[name].shape[1], dtype)
        response = frequency_response(points, values, FREQUENCIES[name], reduction="sum")
        assert error_of(response, points, values, FREQUENCIES[name]) <= 16


# ------------------------------------------------------------------ gradients
def test_gradients():
    points, values = problem(7, 2, 2, torch.float64)
    frequencies = torch.from_numpy(np.random.default_rng(5).uniform(-2, 2, (5, 2)))
    inputs = [tensor.requires_grad_() for tensor in (points, values, frequencies)]
    for reduction in ("mean", "sum"):

        def run(*given, reduction=reduction):
            return frequency_response(*given, reduction=reduction)

        assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


@pytest.mark.parametrize("name", ["any in 5-D", "grid", "direction"])
def test_gradients_are_those_of_the_reference(name):
    """In float32, with frequencies in float64, and through one input alone."""
    frequencies = FREQUENCIES[name]
    points, values = problem(300, 4, frequencies.shape[1], torch.float32)
    weights = torch.from_numpy(np.random.default_rng(6).standard_normal((len(frequencies), 4, 2))).float()

    def gradients(which, backend):
        given = [t.clone().requires_grad_(i in which) for i, t in enumerate((points, values, frequencies))]
        response = frequency_response(*given, reduction="sum", backend=backend)
        (torch.view_as_real(response) * weights).sum().backward()
        return [t.grad for t in given]

    expected = gradients((0, 1, 2), "reference")
    for which in ((0,), (1,), (2,), (0, 1, 2)):
        for i, found in enumerate(gradients(which, "cpu")):
            assert (found is None) == (i not in which)
            if found is not None:
                torch.testing.assert_close(found, expected[i], rtol=0, atol=2e-6 * float(expected[i].abs().max()))


def test_gradient_needs_no_matrix_of_all_waves():
    """30,000 points and 2,000 frequencies: 480 MB of complex64 waves, forward and backward in a tenth of it."""
    pytest.importorskip("numba")
    resource = pytest.importorskip("resource")
    points, values = problem(30_000, 1, 1, torch.float32)
    values.requires_grad_()
    frequencies = torch.from_numpy(np.random.default_rng(7).uniform(-9, 9, (2000, 1)))
    frequency_response(points[:10], values[:10], frequencies)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    frequency_response(points, values, frequencies).abs().sum().backward()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 48_000  # KiB
    assert values.grad.abs().sum() > 0


# ------------------------------------------------------------------ refusals
P, V, K = torch.zeros(5, 2), torch.zeros(5, 3), torch.zeros(4, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((P[:, 0], V, K), ValueError, r"`points` of shape \(n, d\).*got \(5,\); use points\[:, None\]"),
        ((P[:, :0], V, K), ValueError, r"`points` of shape \(n, d\)"),
        ((P, V[:, 0], K), ValueError, r"`values` of shape \(5, m\).*use values\[:, None\]"),
        ((P, V[:4], K), ValueError, r"a row per point, got \(4, 3\)"),
        ((P, V, K[:, :1]), ValueError, r"`frequencies` of shape \(K, 2\).*got \(4, 1\)"),
        ((P.half(), V.half(), K), TypeError, "use values.float"),
        ((P, torch.complex(V, V), K), TypeError, "real and imaginary parts as columns"),
        ((P.double(), V, K), TypeError, "`points` of torch.float32, as the values are, got torch.float64"),
        ((P, V, K.long()), TypeError, "`frequencies` of float32 or float64, got torch.int64"),
        ((P, V, K.to("meta")), ValueError, "`frequencies` on cpu, where the values are, got meta"),
        ((P[:0], V[:0], K), ValueError, "at least one point to average over"),
        ((P * torch.nan, V, K), ValueError, "finite `points`"),
        ((P, V, K + torch.inf), ValueError, "finite `frequencies`"),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=message):
        frequency_response(*arguments)


def test_unknown_reduction():
    with pytest.raises(ValueError, match="one of .'mean', 'sum'., got 'median'"):
        frequency_response(P, V, K, reduction="median")


def test_operator_passes_torch_checks_and_compiles_in_one_graph():
    points, values = problem(20, 2, 1, torch.float32)
    line = FREQUENCIES["line"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.library.opcheck(
            torch.ops.fastfreq.frequency_response.default, (points, values.clone().requires_grad_(), line, True)
        )
    compiled = torch.compile(lambda *given: frequency_response(*given), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(points, values, line), frequency_response(points, values, line))


@pytest.mark.skipif(INTERPRETED, reason="is this run")
def test_triton_kernels_under_the_interpreter(run_under_the_interpreter):
    run_under_the_interpreter(__file__)


# ------------------------------------------------------------------ on a GPU
@pytest.mark.gpu
@pytest.mark.parametrize("dtype", EPS, ids=str)
@pytest.mark.parametrize("shape", [(60_000, 10, 256, 1), (5001, 33, 77, 3)], ids=str)
def test_gpu_equals_the_dense_sums(shape, dtype):
    if not torch.cuda.is_available() or INTERPRETED:
        pytest.skip("no CUDA device")
    n, m, count, d = shape
    points, values = problem(n, m, d, dtype)
    frequencies = torch.from_numpy(np.random.default_rng(8).uniform(-99, 99, (count, d))).to(dtype)
    given = [tensor.cuda() for tensor in (points, values, frequencies)]
    response = frequency_response(*given, reduction="sum", backend="triton").cpu()
    assert error_of(response, points, values, frequencies) <= 16
