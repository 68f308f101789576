"""Largest singular values, their gradients, vectors, projections and bounds, against dense matrices and the layers."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import fastfreq as ff
from fastfreq.layers import spectral_norms as module
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
    monkeypatch.setattr(module, "_DIRECT", 10**9 if request.param == "all values" else 0)
    if request.param != "matrices":
        monkeypatch.setattr(module, "_FEW_BYTES", 0)
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: request.param == "bfloat16")
    return request.param


@pytest.mark.parametrize("keywords", [{}, {"groups": 2}, {"stride": 2}, {"dilation": 1}], ids=str)
@pytest.mark.parametrize("size", [(6, 8), (4, 10)])
def test_spectral_norm_is_that_of_the_dense_matrix(keywords, size, route):
    layer = circular(4, 6, 3, **keywords)
    truth = np.linalg.norm(dense(layer, 4, size), 2)
    assert abs(float(ff.spectral_norm(layer, input_size=size).detach()) / truth - 1) < 1e-9


def test_gradient_is_that_of_finite_differences(route):
    layer = circular(3, 4, 3)

    def norm(weight):
        copy = circular(3, 4, 3)
        del copy.weight  # a parameter would be a leaf of its own
        copy.weight = weight
        return ff.spectral_norm(copy, input_size=(5, 6))

    assert torch.autograd.gradcheck(norm, layer.weight.detach().clone().requires_grad_(), atol=1e-6)


def test_norms_of_large_layers_by_lanczos_equal_those_of_all_values():
    torch.manual_seed(0)
    layer = nn.Conv2d(192, 180, 3, padding=1, padding_mode="circular")
    truth = ff.singular_values(layer, input_size=(6, 5)).norm
    assert abs(float(ff.spectral_norm(layer, input_size=(6, 5)).detach()) / truth - 1) < 1e-6
    twice = [float(ff.spectral_norm(layer, input_size=(6, 5)).detach()) for _ in range(2)]
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


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("gap", [1e-6, 0.0])
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


@pytest.mark.parametrize("factor", [1e-37, 1e-25, 1e18, 1e38])
def test_weights_of_any_scale(route, factor):
    layer = circular(5, 7, 3).float()
    before = float(ff.spectral_norm(layer, input_size=(6, 7)).detach())
    with torch.no_grad():
        layer.weight *= factor
    assert abs(float(ff.spectral_norm(layer, input_size=(6, 7)).detach()) / (before * factor) - 1) < 1e-6


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
    norms = ff.spectral_norms(net, input_size=(3, 6, 7))
    truth = ff.singular_values(net, input_size=(3, 6, 7)).norms
    assert norms.keys() == truth.keys()
    for name, norm in norms.items():
        assert abs(float(norm.detach()) / truth[name] - 1) < 1e-6


def test_power_iteration_through_autograd_on_the_layer_finds_the_same_norm():
    layer = circular(3, 5, 3)
    x = torch.randn(1, 3, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for _ in range(2000):
        x = (x / x.norm()).requires_grad_()
        half = 0.5 * layer(x).square().sum()
        (x,) = torch.autograd.grad(half, x)
    assert abs(float(x.norm().sqrt()) / float(ff.spectral_norm(layer, input_size=(6, 7)).detach()) - 1) < 1e-6


# ---------------------------------------------------------------- zero padding
@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
@pytest.mark.parametrize("stride", [1, 2])
def test_exact_norm_as_the_layer_pads(mode, stride):
    torch.manual_seed(1)
    layer = nn.Conv2d(3, 4, 3, padding=1, stride=stride, padding_mode=mode, bias=False).double()
    norm = ff.zero_padded_norm(layer, input_size=(7, 6))
    assert abs(float(norm.detach()) / np.linalg.norm(dense(layer, 3, (7, 6)), 2) - 1) < 1e-9
    if mode == "zeros":
        assert float(norm.detach()) <= ff.singular_values(layer, input_size=(7, 6)).norm


def test_gradient_of_the_exact_norm():
    torch.manual_seed(1)
    layer = nn.Conv1d(2, 3, 3, padding=1).double()
    ff.zero_padded_norm(layer, input_size=(6,)).backward()
    step = 1e-5
    with torch.no_grad():
        layer.weight[1, 0, 2] += step
        up = ff.zero_padded_norm(layer, input_size=(6,))
        layer.weight[1, 0, 2] -= 2 * step
        down = ff.zero_padded_norm(layer, input_size=(6,))
    assert abs(float((up - down) / (2 * step) - layer.weight.grad[1, 0, 2])) < 1e-6
    assert layer.bias.grad is None or not layer.bias.grad.any()


# ---------------------------------------------------------------- vectors
@pytest.mark.parametrize("keywords", [{}, {"groups": 2}, {"stride": 2}], ids=str)
def test_singular_images_are_what_the_layer_maps_to_each_other(keywords):
    layer = circular(4, 6, 3, **keywords)
    vectors = ff.singular_vectors(layer, input_size=(6, 8), k=3)
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
        ff.singular_vectors(circular(4, 6, 3), input_size=(6, 8), k=5)


# ---------------------------------------------------------------- projection
@pytest.mark.parametrize("keywords", [{}, {"groups": 2}, {"stride": 2}, {"padding_mode": "zeros"}], ids=str)
def test_clipped_layers_keep_the_bound_and_the_support(keywords):
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3, padding=1, **{"padding_mode": "circular", **keywords})
    before = ff.singular_values(layer, input_size=(6, 8)).norm
    clipped = ff.clip_singular_values(layer, input_size=(6, 8), bound=0.6 * before)
    after = ff.singular_values(clipped, input_size=(6, 8)).norm
    assert 0.99 * 0.6 * before <= after <= 0.6 * before
    assert clipped.weight.shape == layer.weight.shape and torch.equal(clipped.bias, layer.bias)
    assert ff.singular_values(layer, input_size=(6, 8)).norm == before
    # closer to the layer than scaling it down to the bound
    assert (clipped.weight - layer.weight).norm() < (0.6 * layer.weight - layer.weight).norm()


def test_a_layer_within_the_bound_comes_back_unchanged():
    layer = circular(3, 3, 3)
    assert torch.equal(ff.clip_singular_values(layer, input_size=(5, 5), bound=100.0).weight, layer.weight)


def test_kernels_larger_than_the_grid_are_clipped_too():
    torch.manual_seed(0)
    layer = nn.Conv1d(2, 2, 7, padding=3, padding_mode="circular", bias=False).double()
    before = ff.singular_values(layer, input_size=(4,)).norm
    clipped = ff.clip_singular_values(layer, input_size=(4,), bound=before / 2)
    assert ff.singular_values(clipped, input_size=(4,)).norm <= before / 2


# ---------------------------------------------------------------- penalty and bound
def test_the_penalty_pulls_norms_to_its_bound():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1))
    penalty = ff.SpectralPenalty(net, input_size=(3, 6, 6), bound=0.5)
    assert float(penalty().detach()) > 0
    optimiser = torch.optim.SGD(net.parameters(), lr=0.2)
    for _ in range(100):
        optimiser.zero_grad()
        penalty().backward()
        optimiser.step()
    assert max(float(norm.detach()) for norm in penalty.norms().values()) < 0.51


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.pool = nn.MaxPool2d(3, 2)
        self.head = nn.Linear(3, 2)
        nn.init.uniform_(self.norm.running_var, 0.5, 2.0)

    def forward(self, x):
        y = torch.relu(self.norm(self.conv(x)))
        return self.head(self.pool(x + y + y).mean(dim=(2, 3)))


def test_lipschitz_bound_of_a_residual_network():
    net = Residual().eval()
    result = ff.lipschitz_bound(net, input_size=(3, 8, 8))
    with torch.no_grad():
        conv = float(ff.spectral_norm(net.conv, input_size=(8, 8), batch_norm=net.norm))
        head = float(torch.linalg.matrix_norm(net.head.weight, 2))
    np.testing.assert_allclose(result.bound, (1 + 2 * conv) * 2 * head, rtol=1e-5)
    assert [row["layer"] for row in result.table()] == ["conv", "pool", "head"]
    x, y = torch.rand(64, 3, 8, 8), torch.rand(64, 3, 8, 8)
    with torch.no_grad():
        ratios = (net(x) - net(y)).flatten(1).norm(dim=1) / (x - y).flatten(1).norm(dim=1)
    assert float(ratios.max()) <= result.bound


def test_functions_without_a_known_constant_are_refused():
    with pytest.raises(ValueError, match="'1' is LayerNorm"):
        ff.lipschitz_bound(nn.Sequential(nn.Conv2d(3, 3, 1), nn.LayerNorm([3, 4, 4])), input_size=(3, 4, 4))


def test_symbols_take_gradients_through_singular_values():
    layer = circular(2, 3, 3)
    symbols = conv_symbols_of(layer, input_size=(4, 5))
    values = ff.kernels.channel_singular_values(
        ff.kernels.conv_symbols(symbols.taps, symbols.offsets, symbols.frequencies, grid=symbols.grid)
    )
    # sum of squares over all frequencies is grid times the squared norm of the weight: its gradient is known
    (symbols.multiplicity[:, None] * values[0].square()).sum().backward()
    torch.testing.assert_close(layer.weight.grad, 2 * 20 * layer.weight.detach())
