"""What layers keep: planted bottlenecks found again, spectra against dense matrices, bounds that must hold."""

import math

import numpy as np
import pytest
import torch
from reproductions.wen2024_training import band_pass
from torch import nn

import fastfreq as ff
from fastfreq.layers.bottleneck import bottleneck
from fastfreq.layers.bottleneck_result import _modes
from fastfreq.layers.cyclic import CyclicConv, CyclicNet, pooling_eigenvalues
from fastfreq.layers.ranks import (
    decay_schedule,
    jacobian_symbols,
    kept_values,
    representation_cost,
    squared_parameter_norm,
)
from fastfreq.layers.singular_values import singular_values
from fastfreq.plots.bottleneck import describe_kept
from fastfreq.report import write_report

pytestmark = pytest.mark.usefixtures("one_thread")


def every_frequency(grid):
    return np.argwhere(np.ones(grid, dtype=bool))


def cyclic_net(channels, size, *, beta=0.0, strides=None, seed=0, bias=0.3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = CyclicNet(channels, size, beta=beta, strides=strides).double()
        for layer in net.convolutions:
            nn.init.normal_(layer.weight, std=1.5 / math.sqrt(layer.weight[0].numel()))
            nn.init.normal_(layer.bias, std=bias)
    return net.eval()


def dense(layer, channels, size):
    """A linear layer as a matrix, by its action on unit images."""
    n = channels * math.prod(size)
    with torch.no_grad():
        unit = torch.eye(n, dtype=torch.float64).reshape(n, channels, *size)
        return (layer(unit) - layer(torch.zeros_like(unit))).reshape(n, -1).T.numpy()


@pytest.mark.parametrize(
    ("size", "beta", "stride"), [((7,), 0.5, 1), ((5, 3), 1.0, 1), ((4, 6), 0.25, 2), ((9, 3), 0.5, 3)]
)
def test_spectrum_is_that_of_the_dense_matrix(size, beta, stride):
    net = cyclic_net([2, 3], size, beta=beta, strides=[stride])
    result = bottleneck(net, input_size=(2, *size), accuracy="exact")
    values = np.sort(result.spectrum["layers.0"].values.reshape(-1))[::-1]
    expected = np.linalg.svd(dense(net, 2, size), compute_uv=False)
    np.testing.assert_allclose(values[: len(expected)], expected, atol=1e-12)


def test_forward_is_convolution_of_the_pooled_image():
    net = cyclic_net([2, 3], (5, 4), beta=0.3)
    x = torch.randn(2, 5, 4, dtype=torch.float64).numpy()
    shifts = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    pooled = 0.7 * x + 0.3 * sum(np.roll(x, shift, axis=(1, 2)) for shift in shifts) / 9
    layer = net.convolutions[0]
    expected = np.zeros((3, 5, 4))
    for i in range(5):
        for j in range(4):
            seen = np.roll(pooled, (-i, -j), axis=(1, 2))
            expected[:, i, j] = np.einsum("ochw,chw->o", layer.weight.detach().numpy(), seen)
    expected += layer.bias.detach().numpy()[:, None, None]
    with torch.no_grad():
        np.testing.assert_allclose(net(torch.from_numpy(x)[None])[0].numpy(), expected, atol=1e-12)


def planted_layer(rng, layer, noise):
    """Plant random kept directions in a CyclicConv; what is kept at each frequency of its coarse grid, signed."""
    a, b = layer.weight.shape[:2]
    s, grid = layer.stride, tuple(n // layer.stride for n in layer.size)
    columns = b * s ** len(grid)
    pooling = pooling_eigenvalues(every_frequency(layer.size), layer.size, layer.beta).reshape(layer.size)
    symbols, kept = np.zeros((*grid, a, columns), complex), {}
    for _ in range(rng.integers(1, 4)):
        k = tuple(int(rng.integers(n)) for n in grid)
        twin = tuple(-i % n for i, n in zip(k, grid, strict=True))
        rank = int(rng.integers(1, min(a, columns) + 1))
        parts = rng.standard_normal((2, 2, max(a, columns), rank))
        vectors = [
            np.linalg.qr((p[0] + 1j * p[1] * (k != twin))[:m])[0] for p, m in zip(parts, (a, columns), strict=True)
        ]
        symbols[k] = vectors[0] * rng.uniform(0.5, 1.5, rank) @ vectors[1].conj().T
        symbols[twin] = symbols[k].conj()
        for one in (k, twin):
            kept[tuple((i + n // 2) % n - n // 2 for i, n in zip(one, grid, strict=True))] = rank
    axes = tuple(range(len(grid)))
    symbols += noise * random_symbols(rng, symbols.shape, axes)
    taps = np.fft.fftn(symbols, axes=axes, norm="forward").real  # y[i] = sum_j W_j x[s i + j]: W_o = mean_k A(k) e^-iko
    taps = taps.reshape(*grid, a, b, *[s] * len(grid))
    order = [len(grid), len(grid) + 1, *[axis for d in axes for axis in (d, len(grid) + 2 + d)]]
    weight = taps.transpose(order).reshape(a, b, *layer.size)
    image = tuple(range(2, weight.ndim))
    weight = np.fft.ifftn(np.fft.fftn(weight, axes=image) / pooling, axes=image).real
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
    return kept


def random_symbols(rng, shape, axes):
    """Symbols of a random real filter whose spectral norm is 1."""
    symbols = np.fft.fftn(rng.standard_normal(shape), axes=axes)
    return symbols / np.linalg.norm(symbols, ord=2, axis=(-2, -1)).max()


def test_planted_bottlenecks_are_found_exactly():
    sizes = [(7,), (12,), (5, 3), (4, 6), (8, 4), (3, 5, 2), (9, 6)]
    for seed in range(100):
        rng = np.random.default_rng(seed)
        size = sizes[seed % len(sizes)]
        divisors = [s for s in (1, 2, 3) if all(n % s == 0 for n in size)]
        stride = int(rng.choice(divisors))
        channels = [int(c) for c in rng.integers(2, 6, size=3)]
        beta = float(rng.uniform(0, 0.5))
        net = CyclicNet(channels, size, beta=beta, strides=[1, stride]).double()
        planted = [planted_layer(rng, layer, noise=0.5e-3) for layer in net.convolutions]
        result = bottleneck(net, input_size=(channels[0], *size))
        for name, expected in zip(result.layers, planted, strict=True):
            kept = result.kept[name]
            assert result.kept_frequencies(name) == expected, (seed, name)
            assert kept.found
            assert kept.gap > 100


def test_gap_rule_on_spectra_known_by_hand():
    kept = kept_values(np.array([[1.1, 0.9, 0.3], [1.0, 0.3, 0.25]]))
    assert kept.counts.tolist() == [2, 1]
    assert (kept.gap, kept.margin, kept.found) == (pytest.approx(3), pytest.approx(0.3), True)
    assert kept.threshold == pytest.approx(math.sqrt(0.27))
    scaled = kept_values(1e-6 * np.array([[1.1, 0.9, 0.3], [1.0, 0.3, 0.25]]))
    assert scaled.counts.tolist() == [2, 1]
    isometry = kept_values(np.ones((4, 3)))
    assert (isometry.counts.tolist(), isometry.gap, isometry.found) == ([3] * 4, 1.0, False)
    assert kept_values(np.zeros((2, 3))).counts.tolist() == [0, 0]
    assert kept_values(np.array([[2.0, 0.0]])).gap == math.inf
    with pytest.raises(ValueError, match="none negative"):
        kept_values(np.array([[1.0, math.nan]]))
    with pytest.raises(ValueError, match="`floor`"):
        kept_values(np.ones((2, 2)), floor=0)


def test_margin_is_what_the_weights_may_change(seed=3):
    rng = np.random.default_rng(seed)
    matrices = rng.standard_normal((4, 5, 5)) * [[[1.0]], [[1.0]], [[0.02]], [[0.02]]]
    kept = kept_values(np.linalg.svd(matrices, compute_uv=False))
    for _ in range(20):
        change = rng.standard_normal(matrices.shape)
        change *= 0.999 * kept.margin / np.linalg.norm(change, ord=2, axis=(1, 2)).max()
        values = np.linalg.svd(matrices + change, compute_uv=False)
        count = int(kept.counts.sum())
        assert np.sort(values.reshape(-1))[::-1][count - 1] > np.sort(values.reshape(-1))[::-1][count]
    assert kept.found


def test_jacobian_symbols_are_the_dense_jacobian():
    net = cyclic_net([2, 4, 3], (3, 4), beta=0.25)
    constant = torch.tensor([0.4, -0.2])
    x = constant.double().reshape(1, 2, 1, 1).expand(1, 2, 3, 4).clone()
    jacobian = torch.autograd.functional.jacobian(net, x).reshape(3 * 12, 2 * 12).numpy()
    symbols = jacobian_symbols(net, constant)
    values = np.sort(np.linalg.svd(symbols, compute_uv=False).reshape(-1))[::-1]
    expected = np.linalg.svd(jacobian, compute_uv=False)[: len(values)]
    np.testing.assert_allclose(values, expected, atol=1e-12)
    fourier = np.kron(np.kron(np.eye(2), np.fft.fft(np.eye(3))), np.fft.fft(np.eye(4)))
    back = np.kron(np.kron(np.eye(3), np.fft.ifft(np.eye(3))), np.fft.ifft(np.eye(4)))
    blocks = np.linalg.inv(back) @ jacobian @ np.linalg.inv(fourier)
    np.testing.assert_allclose(blocks.reshape(3, 12, 2, 12)[:, 7, :, 7], symbols[7], atol=1e-12)


def test_the_lower_bound_holds_for_every_network():
    rng = np.random.default_rng(11)
    shares = []
    for seed in range(60):
        depth = int(rng.integers(2, 7))
        channels = [2, *rng.integers(2, 6, size=depth - 1).tolist(), 3]
        net = cyclic_net(channels, ((5,), (3, 4))[seed % 2], beta=float(rng.choice([0, 0.25, 0.5, 0.9])), seed=seed)
        result = bottleneck(net, input_size=(2, *net.size))
        cost = representation_cost(net, result, torch.from_numpy(rng.standard_normal(2)))
        assert cost.squared_parameter_norm == pytest.approx(squared_parameter_norm(net).item())
        shares.append(cost.lower_bound / cost.weight_norm)
        assert min(cost.distances) >= 0
        assert sum(cost.distances) <= cost.distance_bound + 1e-9
    assert 0 < max(shares) <= 1


def test_the_lower_bound_is_met_by_orthogonal_layers():
    net = CyclicNet([3, 3, 3], (4, 5), beta=0.0).double()
    with torch.no_grad():
        for layer in net.convolutions:
            layer.weight.zero_()
            layer.weight[:, :, 0, 0] = torch.eye(3)
            layer.bias.fill_(0)
    cost = representation_cost(net, bottleneck(net, input_size=(3, 4, 5)), torch.ones(3))
    assert cost.lower_bound == pytest.approx(cost.weight_norm)
    assert (cost.r0, cost.r1, cost.upper_rate) == (pytest.approx(3), pytest.approx(0), pytest.approx(3))
    assert cost.constant == pytest.approx(0)
    assert cost.rank_cbn == 60
    assert sum(cost.distances) == pytest.approx(0, abs=1e-9)
    assert cost.distance_bound == pytest.approx(0, abs=1e-9)


def test_distances_are_those_to_the_nearest_isometry_of_that_rank():
    net = cyclic_net([2, 3, 2], (3, 5), beta=0.25, seed=4)
    cost = representation_cost(net, bottleneck(net, input_size=(2, 3, 5)))
    ranks = kept_values(np.linalg.svd(jacobian_symbols(net), compute_uv=False)).counts
    pooling = pooling_eigenvalues(every_frequency((3, 5)), (3, 5), 0.25)
    for layer, distance in zip(net.convolutions, cost.distances, strict=True):
        operator = np.conj(np.fft.fft2(layer.weight.detach().numpy())).transpose(2, 3, 0, 1)
        expected = 0.0
        for matrix, m, k in zip(operator.reshape(15, *operator.shape[2:]), pooling, ranks, strict=True):
            left, _, right = np.linalg.svd(m * matrix)
            expected += np.square(np.abs(m * matrix - left[:, :k] @ right[:k])).sum() / m**2
        assert distance == pytest.approx(expected / 15)


def test_decay_grows_then_stays():
    values = [decay_schedule(step, 100, decay=0.3) for step in (0, 25, 50, 100)]
    np.testing.assert_allclose(values, [0.003, 0.03, 0.3, 0.3])
    assert decay_schedule(0, 10, decay=0.3, start=1) == 0.3
    for step, steps, decay, start in ((11, 10, 1, 0.1), (0, 0, 1, 0.1), (0, 9, -1, 0.1), (0, 9, 1, 0)):
        with pytest.raises(ValueError, match="expected a"):
            decay_schedule(step, steps, decay=decay, start=start)


def test_squared_parameter_norm_is_weight_decay():
    """One step of SGD on lambda ||theta||^2 is one step of its weight decay 2 lambda."""
    layers = [nn.Linear(3, 2), nn.Linear(3, 2)]
    layers[1].load_state_dict(layers[0].state_dict())
    first = torch.optim.SGD(layers[0].parameters(), lr=0.1)
    (0.05 * squared_parameter_norm(layers[0])).backward()
    first.step()
    second = torch.optim.SGD(layers[1].parameters(), lr=0.1, weight_decay=0.1)
    (0 * squared_parameter_norm(layers[1])).backward()
    second.step()
    torch.testing.assert_close(layers[0].weight, layers[1].weight)
    with pytest.raises(ValueError, match="with parameters"):
        squared_parameter_norm(nn.ReLU())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [21, 22])
def test_trained_network_meets_the_published_toy(seed):
    net, error = band_pass(seed=seed)
    result = bottleneck(net, input_size=(1, 16))
    assert error < 1e-3
    assert result.network_kept == {(0,): 2, (-1,): 1, (1,): 1}
    for name in result.middle:
        values = result.spectrum[name].values
        assert values[0, 1] >= 0.85
        assert values[1, 0] >= 0.85
        assert values[0, 2] <= 0.4
        assert values[2:-1].max() <= 0.75
    cost = representation_cost(net, result)
    assert cost.lower_bound <= cost.weight_norm
    assert cost.depth * cost.upper_rate <= cost.squared_parameter_norm
    low = pooling_eigenvalues(np.array([[1]]), (16,), 0.5)[0]
    assert result.rank_cbn == pytest.approx(2 + 2 / low**2)
    assert cost.r0 == pytest.approx((1 + 2 / low**2) / 16)


def test_real_network_with_stride_and_batch_norm(make_net, tmp_path):
    net = make_net()
    result = bottleneck(net, input_size=(3, 8, 12))
    assert result.layers == ["stem", "body"]
    assert result.spectrum["body"].grid == (5, 7)  # 8 x 12 and the zeros that the layer pads with, by stride 2
    folded = singular_values(net, input_size=(3, 8, 12), fold_batch_norm=True)
    for name in result.layers:
        np.testing.assert_array_equal(result.spectrum[name].distinct, folded[name].distinct)
    rows = result.table()
    assert rows[0]["kept"] <= rows[0]["of"]
    assert rows[0]["weight_norm"] == pytest.approx(net.stem.weight.square().sum().item())
    result.save(tmp_path / "kept.npz")
    again = ff.load(tmp_path / "kept.npz")
    assert repr(again.table()) == repr(rows)
    assert again.network_kept == result.network_kept


def test_most_frequent_count_by_hand():
    """Four layers, three frequencies: a tie goes to the smaller count, a grid without the frequency has no vote."""
    assert _modes(np.array([[1, 2, -1], [1, 3, 4], [0, 3, -1], [0, 3, 5]])).tolist() == [0, 3, 4]


def test_refusals(make_net):
    with pytest.raises(ValueError, match="model with convolutions"):
        bottleneck(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), input_size=(1, 2, 2))
    with pytest.raises(ValueError, match="expected a model, got one convolution"):
        bottleneck(nn.Conv2d(2, 2, 3, padding_mode="circular", padding=1), input_size=(4, 4))
    with pytest.raises(ValueError, match="`input_size`"):
        bottleneck(cyclic_net([2, 3], (5,)), input_size=(2, 6))
    with pytest.raises(ValueError, match="one grid"):
        net = cyclic_net([2, 3], (4,), strides=[2])
        representation_cost(net, bottleneck(net, input_size=(2, 4)))
    with pytest.raises(ValueError, match="`beta`"):
        CyclicConv(1, 1, (4,), beta=1.5)
    with pytest.raises(ValueError, match="stride 2 divides"):
        CyclicConv(1, 1, (5,), stride=2)


def planted_net():
    rng = np.random.default_rng(4)
    net = CyclicNet([3, 3, 3, 3, 3], (5, 7), beta=0.25).double()
    for layer in net.convolutions:
        rng = np.random.default_rng(4)  # the same frequencies in every layer
        planted_layer(rng, layer, noise=0.5e-3)
    return net


def test_plot_says_what_is_kept():
    result = bottleneck(planted_net(), input_size=(3, 5, 7))
    figure = result.plot()
    caption = figure.get_supxlabel()
    assert describe_kept(result.network_kept) in caption.replace("\n", " ")
    strips, counts = figure.axes[0], figure.axes[1]
    assert [label.get_text() for label in strips.get_xticklabels()] == result.layers
    assert sum(int(text.get_text()) for text in counts.texts) == sum(result.network_kept.values())
    bars = [line.get_ydata()[0] for line in strips.lines]
    assert bars == [result.kept[name].threshold for name in result.layers]


def test_plot_without_a_gap_says_so(make_net):
    figure = bottleneck(make_net(), input_size=(3, 9, 6)).plot()
    assert "No layer here has such a gap" in figure.get_supxlabel().replace("\n", " ")


def test_kept_in_words():
    assert describe_kept({(0, 0): 6}) == "6 channels at (0, 0)"
    assert (
        describe_kept({(0, 0): 2, (0, -1): 1, (0, 1): 1, (-2, 0): 3})
        == "2 channels at (0, 0), 1 at ±(0, 1), 3 at (-2, 0)"
    )
    assert describe_kept({}) == "nothing"


def test_what_is_left_out_stands_on_the_page_by_name(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"))
    net = nn.Sequential(net, nn.Flatten(), nn.Linear(4 * 8 * 8, 2)).eval()
    result = bottleneck(net, input_size=(3, 8, 8))
    assert "input_size=(3, 8, 8)" in repr(result) and "()" not in repr(result)
    assert any(name == "0.2" for name, _, _ in result.skipped)
    page = write_report({"net": result}, tmp_path / "page.html").read_text()
    for name, _, reason in result.skipped:
        assert f"<td>{name}</td>" in page and reason.split(";")[0][:30] in page
