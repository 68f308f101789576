"""Largest singular values, their gradients, vectors, projections and bounds, against dense matrices and the layers."""

import copy

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import fastfreq as ff
from fastfreq.layers import _largest as module
from fastfreq.layers.symbols import conv_symbols_of


def circular(*shape, seed=0, **keywords):
    torch.manual_seed(seed)
    return nn.Conv2d(*shape, padding=1, padding_mode="circular", bias=False, **keywords).double()


def dense(layer, channels, size):
    n = channels * int(np.prod(size))
    with torch.no_grad():
        out = layer(torch.eye(n, dtype=torch.float64).reshape(n, channels, *size))
    return out.reshape(n, -1).T.numpy()


@pytest.fixture(params=["all values", "matrices", "float32", "bfloat16"])
def route(request, monkeypatch):
    monkeypatch.setattr(module, "DIRECT", 10**9 if request.param == "all values" else 0)
    if request.param != "matrices":
        monkeypatch.setattr(module, "FEW_BYTES", 0)
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda _device: request.param == "bfloat16")
    return request.param


@pytest.mark.parametrize(
    ("keywords", "size"), [({}, (6, 8)), ({"groups": 2}, (4, 10)), ({"stride": 2}, (6, 8)), ({"stride": 2}, (4, 10))]
)
def test_spectral_norm_is_that_of_the_dense_matrix(keywords, size, route):
    layer = circular(4, 6, 3, **keywords)
    truth = np.linalg.norm(dense(layer, 4, size), 2)
    assert abs(float(ff.spectral_norm(layer, input_size=size).detach()) / truth - 1) < 1e-9


def test_gradient_is_that_of_finite_differences(route):
    layer = circular(2, 3, 3)

    def norm(weight):
        other = circular(2, 3, 3)
        del other.weight  # a parameter would be a leaf of its own
        other.weight = weight
        return ff.spectral_norm(other, input_size=(5, 6))

    # along one direction of all weights: any one of them that is wrong shows
    assert torch.autograd.gradcheck(norm, layer.weight.detach().clone().requires_grad_(), atol=1e-6, fast_mode=True)


def test_norms_of_large_layers_by_lanczos_equal_those_of_all_values():
    torch.manual_seed(0)
    layer = nn.Conv2d(192, 180, 3, padding=1, padding_mode="circular")
    truth = ff.singular_values(layer, input_size=(4, 5)).norm
    assert abs(float(ff.spectral_norm(layer, input_size=(4, 5)).detach()) / truth - 1) < 1e-6
    twice = [float(ff.spectral_norm(layer, input_size=(4, 5)).detach()) for _ in range(2)]
    assert twice[0] == twice[1]


def planted(dtype, gap, seed=0):
    """7 x 5 taps on a 7 x 5 grid: two frequencies a relative `gap` apart at the top, the others 1e-3 below."""
    rng = np.random.default_rng(seed)
    rows, columns = 24, 20
    symbols = np.fft.fft2(rng.normal(size=(7, 5, rows, columns)), axes=(0, 1))  # of real taps
    u, _, vh = np.linalg.svd(symbols, full_matrices=False)
    values = np.tile(np.linspace(1 - 1e-3, 0.2, columns), (7, 5, 1))
    values[:, :, 1] = 1 - 2e-3
    for k, value in (((2, 1), 1.0), ((3, 4), 1 - gap)):
        values[k][0] = values[-k[0], -k[1]][0] = value
    taps = np.fft.ifft2((u * values[..., None, :]) @ vh, axes=(0, 1))
    assert np.abs(taps.imag).max() < 1e-12
    layer = nn.Conv2d(columns, rows, (7, 5), padding=(3, 2), padding_mode="circular", bias=False).to(dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(taps.real).permute(2, 3, 0, 1))
    return layer


@pytest.mark.parametrize(
    ("gap", "seed"), [(1e-6, 0), (0.0, 1), *(pytest.param(gap, 2, marks=pytest.mark.slow) for gap in (1e-6, 0.0))]
)
def test_the_larger_of_two_frequencies_that_nearly_tie_is_found(route, gap, seed):
    layer = planted(torch.float64, gap, seed)
    norm = ff.spectral_norm(layer, input_size=(7, 5))
    assert abs(float(norm.detach()) - 1) < 1e-8


def test_a_smaller_tolerance_is_reached_by_float32_weights_too(route):
    torch.manual_seed(0)
    layer = nn.Conv2d(20, 24, 3, padding=1, padding_mode="circular", bias=False)
    truth = ff.singular_values(layer, input_size=(6, 7), accuracy="exact").norm
    assert abs(float(ff.spectral_norm(layer, input_size=(6, 7), rtol=1e-10).detach()) / truth - 1) < 1e-7


def test_near_ties_in_float32(route):
    layer = planted(torch.float32, 1e-6)
    symbols = conv_symbols_of(layer, input_size=(7, 5))
    taps = symbols.taps.detach().double()
    truth = ff.kernels.conv_symbols(taps, symbols.offsets, symbols.frequencies, grid=symbols.grid)
    truth = np.linalg.svd(truth.numpy(), compute_uv=False).max()
    assert abs(float(ff.spectral_norm(layer, input_size=(7, 5)).detach()) / truth - 1) < 2e-7


def test_frequencies_that_all_share_one_value(route):
    layer = circular(5, 7, 3)
    with torch.no_grad():
        layer.weight[:, :, 1, 1] *= 2
        layer.weight.copy_(layer.weight * (torch.arange(9) == 4).reshape(3, 3))
    truth = np.linalg.norm(layer.weight[:, :, 1, 1].detach().numpy(), 2)
    assert abs(float(ff.spectral_norm(layer, input_size=(6, 7)).detach()) / truth - 1) < 1e-9


@pytest.mark.parametrize("factor", [1e-37, 1e38])  # the ends of float32
def test_weights_of_any_scale(route, factor):
    layer = circular(5, 7, 3).float()
    before = float(ff.spectral_norm(layer, input_size=(6, 7)).detach())
    with torch.no_grad():
        layer.weight *= factor
    assert abs(float(ff.spectral_norm(layer, input_size=(6, 7)).detach()) / (before * factor) - 1) < 1e-6


def near_orthogonal(shape, noise, seed, *, delta):
    """A layer whose matrices are all near isometries, and its norm by LAPACK in float64."""
    rng = np.random.default_rng(seed)
    outputs, inputs = shape
    q = np.linalg.qr(rng.standard_normal((max(shape), min(shape))))[0]
    weight = noise * rng.standard_normal((outputs, inputs, 3, 3)) / np.sqrt(9 * max(shape))
    if delta:
        weight[:, :, 1, 1] += q if outputs >= inputs else q.T
    else:  # as torch.nn.init.orthogonal_: rows of the flat weight
        wide = np.linalg.qr(rng.standard_normal((9 * inputs, outputs)))[0].T
        weight += wide.reshape(outputs, inputs, 3, 3)
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="circular", bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
    return layer


def lapack_norm(layer, size):
    taps = layer.weight.detach().double().numpy()
    ky, kx = np.indices((size[0], size[1] // 2 + 1)).reshape(2, -1)
    waves = [np.exp(2j * np.pi * np.outer(k, range(3)) / n) for k, n in zip((ky, kx), size, strict=True)]
    symbols = np.einsum("oiyx,fy,fx->foi", taps, *waves, optimize=True)
    return np.linalg.svd(symbols, compute_uv=False).max()


@pytest.mark.parametrize(("shape", "delta"), [((24, 17), True), ((17, 24), True), ((20, 20), True), ((24, 8), False)])
def test_near_orthogonal_layers(shape, delta, route):
    for noise in [0, 1e-5, 1e-2]:
        layer = near_orthogonal(shape, noise, 0, delta=delta)
        norm = float(ff.spectral_norm(layer, input_size=(6, 7)).detach())
        assert abs(norm / lapack_norm(layer, (6, 7)) - 1) < 5e-7, noise


@pytest.mark.parametrize("c", [24, pytest.param(170, marks=pytest.mark.slow)])
def test_the_identity_ties_at_all_frequencies(c, route):
    layer = nn.Conv2d(c, c, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight)
    assert float(ff.spectral_norm(layer, input_size=(9, 8)).detach()) == 1


def test_layers_with_many_more_inputs_than_outputs_and_the_other_way_round(route):
    for shape in [(40, 5), (5, 40)]:
        layer = circular(*shape, 3)
        truth = ff.singular_values(layer, input_size=(5, 6), accuracy="exact").norm
        assert abs(float(ff.spectral_norm(layer, input_size=(5, 6)).detach()) / truth - 1) < 1e-9


def test_where_lanczos_does_not_decide_all_values_do(monkeypatch):
    monkeypatch.setattr(module, "DIRECT", 0)
    monkeypatch.setattr(module, "FEW_BYTES", 0)
    monkeypatch.setattr(module, "_STEPS", 4)
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda _device: False)
    for keywords in ({}, {"groups": 2}, {"stride": 2}):
        layer = circular(48, 60, 3, **keywords)
        truth = ff.singular_values(layer, input_size=(6, 8), accuracy="exact").norm
        assert abs(float(ff.spectral_norm(layer, input_size=(6, 8)).detach()) / truth - 1) < 1e-12


def test_constant_taps_that_bfloat16_rounds_all_one_way(monkeypatch):
    monkeypatch.setattr(module, "DIRECT", 0)
    monkeypatch.setattr(module, "FEW_BYTES", 0)
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda _device: True)
    for seed in range(3):
        taps = 1 + 4e-3 * np.random.default_rng(seed).standard_normal((3, 3))
        taps[0] *= -1
        layer = nn.Conv2d(20, 20, 3, padding=1, padding_mode="circular", bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(np.broadcast_to(taps, (20, 20, 3, 3)).copy()))
        norm = float(ff.spectral_norm(layer, input_size=(24, 25)).detach())
        assert abs(norm / lapack_norm(layer, (24, 25)) - 1) < 5e-7


@pytest.mark.slow
def test_two_hundred_near_orthogonal_layers():
    rng = np.random.default_rng(0)
    for seed in range(200):
        shape = tuple(int(c) for c in rng.integers(16, 257, 2))
        if seed % 4 == 0:
            shape = tuple(int(c) for c in rng.choice([192, 256], 2))
        size = tuple(int(n) for n in rng.integers(4, 10, 2))
        layer = near_orthogonal(shape, rng.choice([0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2]), seed, delta=seed % 3 > 0)
        norm = float(ff.spectral_norm(layer, input_size=size).detach())
        assert abs(norm / lapack_norm(layer, size) - 1) < 5e-7, (seed, shape, size)


def test_strided_kernels_smaller_than_the_stride(route):
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 5, 1, stride=2, bias=False).double()
    norm = ff.spectral_norm(layer, input_size=(6, 8))
    assert abs(float(norm.detach()) / np.linalg.norm(layer.weight[:, :, 0, 0].detach().numpy(), 2) - 1) < 1e-9
    (gradient,) = torch.autograd.grad(norm, layer.weight)
    u, _, vh = np.linalg.svd(layer.weight[:, :, 0, 0].detach().numpy())
    np.testing.assert_allclose(gradient[:, :, 0, 0].numpy(), np.outer(u[:, 0], vh[0]), atol=1e-4)


def test_a_zero_layer_and_a_rank_one_layer(route):
    layer = circular(3, 3, 3)
    with torch.no_grad():
        layer.weight.zero_()
    norm = ff.spectral_norm(layer, input_size=(5, 5))
    assert float(norm.detach()) == 0
    norm.backward()
    with torch.no_grad():
        layer.weight[1, 2, 1, 1] = 3.0
    assert abs(float(ff.spectral_norm(layer, input_size=(5, 5)).detach()) - 3) < 1e-12


def test_all_layers_of_a_model_and_weight_normalised_ones():
    torch.manual_seed(0)
    net = nn.Sequential(weight_norm(nn.Conv2d(3, 5, 3, padding=1)), nn.ReLU(), nn.Conv2d(5, 4, 1), nn.Flatten())
    norms = ff.layers.spectral_norms(net, input_size=(3, 6, 7))
    truth = ff.singular_values(net, input_size=(3, 6, 7)).norms
    assert norms.keys() == truth.keys()
    for name, norm in norms.items():
        assert abs(float(norm.detach()) / truth[name] - 1) < 1e-6


def test_a_layer_that_one_norm_does_not_describe_is_refused_by_name():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return self.conv(nn.functional.max_pool2d(self.conv(x), 2))

    class Doubled(nn.Conv2d):
        def forward(self, input):
            return super().forward(input) ** 2

    with pytest.raises(ValueError, match="'conv at 3 x 4' .* a further input size; its row is for 6 x 8"):
        ff.layers.spectral_norms(Twice(), input_size=(3, 6, 8))
    with pytest.raises(ValueError, match="'0' .* its weight alone is not what it applies"):
        ff.layers.spectral_norms(nn.Sequential(Doubled(3, 3, 3, padding=1)), input_size=(3, 6, 8))


def test_power_iteration_through_autograd_on_the_layer_finds_the_same_norm():
    layer = circular(3, 5, 3)
    x = torch.randn(1, 3, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for _ in range(500):
        x = (x / x.norm()).requires_grad_()
        half = 0.5 * layer(x).square().sum()
        (x,) = torch.autograd.grad(half, x)
    assert abs(float(x.norm().sqrt()) / float(ff.spectral_norm(layer, input_size=(6, 7)).detach()) - 1) < 1e-6


# ---------------------------------------------------------------- upper bounds
BOUNDED = [
    (lambda: nn.Conv2d(5, 8, 3, padding=1), 1.01),
    (lambda: nn.Conv2d(5, 8, (7, 2), padding=(3, 0)), 1.01),
    (lambda: nn.Conv2d(4, 6, 5, padding=2, stride=2), 1.01),
    (lambda: nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2), 1.01),
    (lambda: nn.Conv2d(6, 12, 3, padding=1, groups=6), 1.01),
    (lambda: nn.Conv2d(6, 6, 3, padding=1, stride=2, groups=6, padding_mode="circular"), 1.01),
    (lambda: nn.Conv1d(7, 3, 5, padding=2), 1.005),
    (lambda: nn.Conv3d(2, 3, 3, padding=1), 1.061),
    (lambda: nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1), 1.01),
    (lambda: nn.Conv2d(9, 5, 1), 1 + 1e-6),
]


@pytest.mark.parametrize(("make", "looseness"), BOUNDED, ids=[str(make()) for make, _ in BOUNDED])
@pytest.mark.parametrize("n", [6, 42])
def test_bounds_are_never_below_the_norm_nor_far_above(make, looseness, n):
    for seed in range(3) if n == 6 else (0, 2):
        torch.manual_seed(seed)
        layer = make()
        size = (n, n + 2)[: layer.weight.ndim - 2] if layer.weight.ndim < 5 else (min(n, 10),) * 3
        if seed == 2:  # one wave alone, between the frequencies of the grid: where samples are farthest below
            with torch.no_grad():
                places = torch.stack(torch.meshgrid(*map(torch.arange, layer.kernel_size), indexing="ij")).float()
                layer.weight.copy_(
                    torch.cos(
                        (places * (0.43 + torch.arange(len(places)).reshape(-1, *[1] * len(places)))).sum(0)
                    ).expand_as(layer.weight)
                )
        bound = float(ff.spectral_norm(layer, input_size=size, accuracy="bound").detach())
        norm = ff.singular_values(layer, input_size=size, accuracy="exact").norm
        assert norm <= bound <= looseness * max(norm, 1e-30) * (1.2 if n == 6 else 1.006)
        if n == 6:
            assert float(ff.layers.zero_padded_norm(layer.double(), input_size=size).detach()) <= bound


def any_layer(rng, seed):
    """A small convolution of any kind, one in two with a wave of its own at any frequency, and an input size."""
    d = int(rng.choice([1, 2, 2, 2, 3]))
    groups = int(rng.choice([1, 1, 2, 3]))
    kernel = tuple(int(k) for k in rng.integers(1, 4 if d == 3 else 6, d))
    stride, dilation = (tuple(int(s) for s in rng.choice([1, 1, 2, 3], d)) for _ in range(2))
    size = tuple(int(n) * s for n, s in zip(rng.integers(3, 8 if d == 3 else 30, d), stride, strict=True))
    padding = tuple((k - 1) * step // 2 for k, step in zip(kernel, dilation, strict=True))
    names = ["ConvTranspose", "Conv"]
    kind = names[int(rng.integers(5) > 0)]
    mode = {"padding_mode": "circular"} if kind == "Conv" and rng.random() < 0.5 else {}
    torch.manual_seed(seed)
    layer = getattr(nn, f"{kind}{d}d")(
        groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4)), kernel, stride=stride, dilation=dilation,
        padding=padding, groups=groups, bias=False, **mode,
    )  # fmt: skip
    places = torch.stack(torch.meshgrid(*map(torch.arange, kernel), indexing="ij")).double()
    wave = torch.cos((places * torch.tensor(rng.uniform(0, 2 * np.pi, d)).reshape(-1, *[1] * d)).sum(dim=0))
    with torch.no_grad():
        match int(rng.integers(4)):
            case 0:
                layer.weight.copy_(wave.expand_as(layer.weight))
            case 1:
                layer.weight.mul_(0.1)[0, 0] += wave
    return (layer.double() if rng.random() < 0.5 else layer), size


@pytest.mark.parametrize("cases", [50, pytest.param(10_000, marks=pytest.mark.slow)])
def test_bounds_of_random_layers_are_never_below(cases):
    rng = np.random.default_rng(cases)
    seen, largest = 0, {1: 1.0, 2: 1.0, 3: 1.0}
    for seed in range(cases):
        layer, size = any_layer(rng, seed)
        try:
            norm = ff.singular_values(layer, input_size=size, accuracy="exact").norm
        except ValueError:  # circular padding that repeats a part of the output
            continue
        bound = float(ff.spectral_norm(layer, input_size=size, accuracy="bound").detach())
        assert norm <= bound, (seed, layer, size)
        seen += 1
        if norm:
            largest[len(size)] = max(largest[len(size)], bound / norm)
    assert seen > 0.7 * cases
    assert largest[1] < 1.1 and largest[2] < 1.1 and largest[3] < 1.3, largest  # small grids may miss the largest


def test_bounds_are_near_the_largest_of_all_frequencies_and_skip_most_of_them(monkeypatch):
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 5, 3, padding=1, bias=False).double()
    with torch.no_grad():
        y, x = torch.meshgrid(torch.arange(3.0), torch.arange(3.0), indexing="ij")
        layer.weight.mul_(0.3)[1, 2] += torch.cos(0.7 * y + 2.3 * x)
    looked_at = []
    values = module.group_values
    monkeypatch.setattr(module, "group_values", lambda at: looked_at.append(len(at.frequencies)) or values(at))
    bound = float(ff.spectral_norm(layer, input_size=(300, 300), accuracy="bound").detach())
    assert sum(looked_at) < 200  # of 512
    largest = ff.singular_values(layer, input_size=(300, 300)).norm  # of all frequencies by at most 2e-4 more
    assert largest <= bound <= 1.01 * largest


def test_bounds_do_not_depend_on_the_image():
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 8, 3, padding=1, dilation=(1, 2), stride=(2, 1))
    bounds = {float(ff.spectral_norm(layer, input_size=(n, n), accuracy="bound").detach()) for n in (40, 41, 200)}
    assert len(bounds) == 1


def test_the_norm_of_the_kernel_as_a_tensor_is_no_bound_where_it_is_sought_from_below():
    """Of a wave and three weaker pulses alternating maximisation finds a pulse: too little by a tenth."""
    weight = torch.zeros(5, 5, 3, 3, dtype=torch.float64)
    weight[0, 0] = 1.0  # as a tensor 3, as a convolution 9
    for i, (y, x) in enumerate([(0, 0), (1, 1), (2, 2), (0, 2)], start=1):
        weight[i, i, y, x] = 2.7  # as a tensor 2.7: a local maximum, and 3 times that is 8.1
    layer = nn.Conv2d(5, 5, 3, padding=1, bias=False).double()
    layer.weight = nn.Parameter(weight)
    vectors = [np.eye(5)[1], np.eye(5)[1], np.eye(3)[0], np.eye(3)[0]]
    for _ in range(20):
        for axis in range(4):
            others = [v for i, v in enumerate(vectors) if i != axis]
            product = np.einsum(
                np.moveaxis(weight.numpy(), axis, 0), [0, 1, 2, 3], others[0], [1], others[1], [2], others[2], [3], [0]
            )
            vectors[axis] = product / np.linalg.norm(product)
    found = 3 * np.linalg.norm(product)
    assert abs(found - 8.1) < 1e-9
    assert 9 <= float(ff.spectral_norm(layer, input_size=(32, 32), accuracy="bound").detach()) <= 9 * 1.01


def test_gradients_of_bounds_and_other_accuracies():
    layer = circular(3, 4, 3)
    bound = ff.spectral_norm(layer, input_size=(40, 40), accuracy="bound")
    (gradient,) = torch.autograd.grad(bound, layer.weight)
    assert abs(float((gradient * layer.weight.detach()).sum() / bound.detach()) - 1) < 1e-9
    assert set(ff.layers.spectral_norms(nn.Sequential(layer.float()), input_size=(3, 8, 8), accuracy="bound")) == {"0"}
    with pytest.raises(ValueError, match="'high' .* or 'bound'"):
        ff.spectral_norm(layer, input_size=(6, 6), accuracy="exact")


# ---------------------------------------------------------------- zero padding
@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
@pytest.mark.parametrize("stride", [1, 2])
def test_exact_norm_as_the_layer_pads(mode, stride):
    torch.manual_seed(1)
    layer = nn.Conv2d(3, 4, 3, padding=1, stride=stride, padding_mode=mode, bias=False).double()
    norm = ff.layers.zero_padded_norm(layer, input_size=(7, 6))
    assert abs(float(norm.detach()) / np.linalg.norm(dense(layer, 3, (7, 6)), 2) - 1) < 1e-9
    if mode == "zeros":
        assert float(norm.detach()) <= ff.singular_values(layer, input_size=(7, 6)).norm


@pytest.mark.parametrize(("scale", "bias"), [(1e-12, 1.0), (1e-2, 10.0), (1e30, 1.0)])
def test_a_bias_takes_no_part_in_the_exact_norm(scale, bias):
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3, padding=1)
    with torch.no_grad():
        layer.weight.mul_(scale)
        layer.bias.fill_(bias)
    plain = nn.Conv2d(3, 4, 3, padding=1, bias=False).double()
    plain.weight = nn.Parameter(layer.weight.detach().double())
    truth = np.linalg.norm(dense(plain, 3, (6, 7)), 2)
    norm = ff.layers.zero_padded_norm(layer, input_size=(6, 7))
    assert abs(float(norm.detach()) / truth - 1) < 2e-7
    norm.backward()
    assert layer.bias.grad is None
    # the norm is homogeneous: its gradient times the weight is itself
    assert abs(float((layer.weight.grad * layer.weight.detach()).sum()) / truth - 1) < 1e-5


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(5, 7, (3, 5), padding="same", groups=1, dilation=(1, 2)),
        nn.Conv2d(4, 6, 3, padding=(2, 1), stride=2, groups=2, padding_mode="replicate"),
        nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1, output_padding=1),
        nn.Conv2d(6, 1, (4, 3), padding="same", padding_mode="circular"),
        nn.Conv2d(1, 3, 2, padding="same", padding_mode="reflect"),
    ],
    ids=str,
)
def test_exact_norms_of_every_kind_of_layer(layer):
    torch.manual_seed(3)
    nn.init.normal_(layer.weight)
    plain = copy.deepcopy(layer).double()
    plain.bias = None
    truth = np.linalg.norm(dense(plain, layer.in_channels, (9, 7)), 2)
    assert abs(float(ff.layers.zero_padded_norm(layer, input_size=(9, 7)).detach()) / truth - 1) < 2e-7


def test_exact_norms_converge_for_ordinary_weights():
    torch.manual_seed(4)
    layer = nn.Conv2d(3, 5, 3, padding=1).double()
    norm = float(ff.layers.zero_padded_norm(layer, input_size=(40, 24)).detach())
    matrix = sparse_matrix(layer.weight.detach().numpy(), (40, 24))
    assert abs(norm / sparse_norm(matrix) - 1) < 1e-9


def sparse_matrix(weight, size):
    """A zero-padded 3 x 3 convolution as a sparse matrix: Kronecker products of shifts."""
    shifts = [[scipy.sparse.eye(n, k=k, format="csr") for k in (-1, 0, 1)] for n in size]
    parts = [
        [sum(w[y, x] * scipy.sparse.kron(shifts[0][y], shifts[1][x]) for y in range(3) for x in range(3)) for w in row]
        for row in weight
    ]
    return scipy.sparse.bmat(parts, format="csr")


def sparse_norm(matrix):
    return float(scipy.sparse.linalg.svds(matrix, k=6, tol=1e-12, ncv=80, return_singular_vectors=False).max())


def test_the_exact_norm_of_near_isometries_and_of_the_identity():
    layer = nn.Conv2d(16, 16, 3, padding=1, bias=False).double()
    nn.init.dirac_(layer.weight)
    assert abs(float(ff.layers.zero_padded_norm(layer, input_size=(6, 5)).detach()) - 1) < 1e-14
    for noise in [1e-5, 1e-3]:
        noisy = near_orthogonal((16, 16), noise, 1, delta=True).double()
        noisy.padding_mode = "zeros"
        truth = np.linalg.norm(dense(noisy, 16, (6, 5)), 2)
        assert abs(float(ff.layers.zero_padded_norm(noisy, input_size=(6, 5)).detach()) / truth - 1) < 1e-9


def test_gradient_of_the_exact_norm():
    torch.manual_seed(1)
    layer = nn.Conv1d(2, 3, 3, padding=1).double()
    ff.layers.zero_padded_norm(layer, input_size=(6,)).backward()
    step = 1e-5
    with torch.no_grad():
        layer.weight[1, 0, 2] += step
        up = ff.layers.zero_padded_norm(layer, input_size=(6,))
        layer.weight[1, 0, 2] -= 2 * step
        down = ff.layers.zero_padded_norm(layer, input_size=(6,))
    assert abs(float((up - down) / (2 * step) - layer.weight.grad[1, 0, 2])) < 1e-6
    assert layer.bias.grad is None or not layer.bias.grad.any()


# ---------------------------------------------------------------- vectors
@pytest.mark.parametrize("keywords", [{}, {"groups": 2}, {"stride": 2}], ids=str)
def test_singular_images_are_what_the_layer_maps_to_each_other(keywords):
    layer = circular(4, 6, 3, **keywords)
    vectors = ff.layers.singular_vectors(layer, input_size=(6, 8), k=3)
    assert vectors.exact
    for row in (0, 3, len(vectors.frequencies) - 1):
        for index in range(3):
            x, y = vectors.right_image(row, index), vectors.left_image(row, index)
            assert abs(float(torch.linalg.vector_norm(x)) - 1) < 1e-12
            for part in (torch.real, torch.imag):
                out = layer(part(x)[None])[0].detach()
                torch.testing.assert_close(out, vectors.values[row, index] * part(y), atol=1e-12, rtol=0)
    largest = ff.singular_values(layer, input_size=(6, 8), accuracy="exact").distinct[:, :3]
    np.testing.assert_allclose(vectors.values, largest, atol=1e-12)


def test_more_vectors_than_there_are_values_are_refused():
    with pytest.raises(ValueError, match="`k` from 1 to 4"):
        ff.layers.singular_vectors(circular(4, 6, 3), input_size=(6, 8), k=5)


# ---------------------------------------------------------------- projection
@pytest.mark.parametrize("keywords", [{}, {"groups": 2}, {"stride": 2}, {"padding_mode": "zeros"}], ids=str)
def test_clipped_layers_keep_the_bound_and_the_support(keywords):
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3, padding=1, **{"padding_mode": "circular", **keywords})
    before = ff.singular_values(layer, input_size=(6, 8)).norm
    clipped = ff.layers.clip_singular_values(layer, input_size=(6, 8), bound=0.6 * before)
    after = ff.singular_values(clipped, input_size=(6, 8)).norm
    assert 0.99 * 0.6 * before <= after <= 0.6 * before
    assert clipped.weight.shape == layer.weight.shape and torch.equal(clipped.bias, layer.bias)
    assert ff.singular_values(layer, input_size=(6, 8)).norm == before
    # closer to the layer than scaling it down to the bound
    assert (clipped.weight - layer.weight).norm() < (0.6 * layer.weight - layer.weight).norm()


def test_a_layer_within_the_bound_comes_back_unchanged():
    layer = circular(3, 3, 3)
    assert torch.equal(ff.layers.clip_singular_values(layer, input_size=(5, 5), bound=100.0).weight, layer.weight)


def test_kernels_larger_than_the_grid_are_clipped_too():
    torch.manual_seed(0)
    layer = nn.Conv1d(2, 2, 7, padding=3, padding_mode="circular", bias=False).double()
    before = ff.singular_values(layer, input_size=(4,)).norm
    clipped = ff.layers.clip_singular_values(layer, input_size=(4,), bound=before / 2)
    assert ff.singular_values(clipped, input_size=(4,)).norm <= before / 2


# ---------------------------------------------------------------- penalty
def test_the_penalty_pulls_norms_to_its_bound():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1))
    penalty = ff.layers.SpectralPenalty(net, input_size=(3, 6, 6), bound=0.5)
    assert float(penalty().detach()) > 0
    optimiser = torch.optim.SGD(net.parameters(), lr=0.2)
    for _ in range(100):
        optimiser.zero_grad()
        penalty().backward()
        optimiser.step()
    assert max(float(norm.detach()) for norm in penalty.norms().values()) < 0.51


def test_symbols_take_gradients_through_singular_values():
    layer = circular(2, 3, 3)
    symbols = conv_symbols_of(layer, input_size=(4, 5))
    values = ff.kernels.channel_singular_values(
        ff.kernels.conv_symbols(symbols.taps, symbols.offsets, symbols.frequencies, grid=symbols.grid)
    )
    # sum of squares over all frequencies is grid times the squared norm of the weight: its gradient is known
    (symbols.multiplicity[:, None] * values[0].square()).sum().backward()
    torch.testing.assert_close(layer.weight.grad, 2 * 20 * layer.weight.detach())
