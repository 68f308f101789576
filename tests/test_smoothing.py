"""Smoothness of kernels against SciPy's convolution, Fourier series and cosine transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import fft, signal
from torch import nn
from torch.nn.utils import parametrizations

import fastfreq as ff


def conv(weight):
    """A convolution with the given weight (out, in, h, w)."""
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
    return layer


@pytest.mark.parametrize("rho", [0.1, 1.0])
def test_smoothing_multiplies_every_frequency(rho):  # F4
    rng = np.random.default_rng(3)
    weight = np.zeros((4, 3, 7, 9))
    weight[..., 1:-1, 1:-1] = rng.normal(size=(4, 3, 5, 7))  # a rim of zeros: no boundary
    layer = conv(weight)
    for boundary in ("symm", "zero"):
        smoothed = ff.layers.smooth_kernels(layer, rho, boundary=boundary).weight.detach().numpy()
        u, v = (2 * np.pi * np.fft.fftfreq(n) for n in (32, 41))
        response = 1 + 2 * rho * (np.cos(u)[:, None] + np.cos(v)) + 4 * rho * np.cos(u)[:, None] * np.cos(v)
        before, after = (np.fft.fft2(w, s=(32, 41)) for w in (weight, smoothed))
        np.testing.assert_allclose(after, response * before, atol=1e-12)
        np.testing.assert_allclose(
            ff.layers.smoothing_response(np.stack(np.meshgrid(u, v, indexing="ij"), axis=-1), rho), response, atol=1e-14
        )
    np.testing.assert_array_equal(layer.weight.detach(), weight)


@pytest.mark.parametrize(("boundary", "scipy_boundary"), [("symm", "symm"), ("zero", "fill")])
@pytest.mark.parametrize("shape", [(3, 3), (1, 5), (1, 1), (2, 7)], ids=str)
def test_smoothing_is_the_published_convolution(boundary, scipy_boundary, shape):
    weight = np.random.default_rng(0).normal(size=(2, 3, *shape))
    mask = np.array([[0.3, 0.3, 0.3], [0.3, 1, 0.3], [0.3, 0.3, 0.3]])
    wanted = [[signal.convolve2d(w, mask, mode="same", boundary=scipy_boundary) for w in row] for row in weight]
    found = ff.layers.smooth_kernels(conv(weight), 0.3, boundary=boundary).weight.detach().numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-14)
    constant = conv(np.full((1, 1, *shape), 2.5))
    kept = ff.layers.smooth_kernels(constant, 0.3, normalise=True).weight.detach()
    np.testing.assert_allclose(kept, 2.5)


def test_layers_are_chosen_by_name(make_net):
    net = make_net()
    for layers, changed in (("first", {"stem"}), ("all", {"stem", "body"}), (["body"], {"body"})):
        smoothed = ff.layers.smooth_kernels(net, 0.5, layers=layers)
        differs = {n for n, p in net.named_parameters() if not torch.equal(p, smoothed.get_parameter(n))}
        assert differs == {f"{name}.weight" for name in changed}
    tied = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    tied[1].weight = tied[0].weight
    once = ff.layers.smooth_kernels(tied[0], 0.5).weight
    torch.testing.assert_close(ff.layers.smooth_kernels(tied, 0.5, layers="all")[1].weight, once)
    transposed = nn.ConvTranspose2d(2, 5, 3)
    assert ff.layers.smooth_kernels(transposed, 0.5).weight.shape == (2, 5, 3, 3)


def test_high_frequency_share_is_that_of_the_fourier_series():
    weight = np.random.default_rng(5).normal(size=(3, 2, 5, 3))
    weight[:, :, 2] += 3
    power = np.abs(np.fft.fft2(weight, s=(1000, 1000))) ** 2
    k = np.abs(np.fft.fftfreq(1000))
    for cutoff in (0.25, 0.11):
        edge = np.where(np.isclose(k, cutoff), 0.5, k < cutoff)  # a cell on the border belongs half to either side
        wanted = 1 - (power * edge[:, None] * edge).sum() / power.sum()
        found = ff.layers.kernel_high_frequency(conv(weight), cutoff=cutoff)
        assert found == {"Conv2d": pytest.approx(wanted, abs=3e-5)}
        assert ff.layers.kernel_high_frequency(conv(weight[..., :1, :1]), cutoff=cutoff)["Conv2d"] == pytest.approx(
            1 - (2 * cutoff) ** 2
        )


def test_smoothing_lowers_the_high_frequency_share(make_net):
    net = make_net()
    before, after = (
        ff.layers.kernel_high_frequency(m) for m in (net, ff.layers.smooth_kernels(net, 0.2, layers="all"))
    )
    assert list(before) == ["stem", "body"] and all(after[name] < before[name] for name in before)
    assert list(ff.layers.kernel_high_frequency(net, layers="first")) == ["stem"]
    assert np.isnan(ff.layers.kernel_high_frequency(conv(np.zeros((1, 1, 3, 3))))["Conv2d"])


@pytest.mark.parametrize("shape", [(3, 3), (5, 2), (1, 4)], ids=str)
def test_penalty_is_a_weighted_sum_of_cosine_coefficients(shape):
    weight = np.random.default_rng(1).normal(size=(4, 3, *shape))
    p, q = (np.arange(n) / n for n in shape)
    factor = 4 - 2 * np.cos(np.pi * p)[:, None] - 2 * np.cos(np.pi * q)
    wanted = (factor * fft.dctn(weight, axes=(2, 3), norm="ortho") ** 2).sum()
    assert ff.layers.KernelSmoothnessPenalty(conv(weight))().item() == pytest.approx(wanted)


def test_penalty_with_diagonals_counts_every_pair_once():
    weight = np.random.default_rng(2).normal(size=(1, 1, 3, 4))
    w = weight[0, 0]
    cells = list(np.ndindex(w.shape))
    wanted = sum(
        (w[a] - w[b]) ** 2
        for i, a in enumerate(cells)
        for b in cells[i + 1 :]
        if max(abs(a[0] - b[0]), abs(a[1] - b[1])) == 1
    )
    assert ff.layers.KernelSmoothnessPenalty(conv(weight), neighbours=8)().item() == pytest.approx(wanted)


def test_penalty_smooths_in_training(make_net):
    net = make_net()
    penalty = ff.layers.KernelSmoothnessPenalty(net, layers="all")
    before = ff.layers.kernel_high_frequency(net)
    start = penalty().item()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        penalty().backward()
        optimizer.step()
    after = ff.layers.kernel_high_frequency(net)
    assert penalty().item() < 0.5 * start and all(after[name] < before[name] for name in before)


def test_what_cannot_be_smoothed_is_refused(make_net):
    net = make_net()
    with pytest.raises(ValueError, match="such as stem, body; got \\['head'\\]"):
        ff.layers.smooth_kernels(net, 0.1, layers=["head"])
    with pytest.raises(ValueError, match="'first', 'all' or a list of names, got 'stem'"):
        ff.layers.smooth_kernels(net, 0.1, layers="stem")
    with pytest.raises(ValueError, match="Linear has none"):
        ff.layers.kernel_high_frequency(net.head)
    with pytest.raises(ValueError, match="`boundary` of"):
        ff.layers.smooth_kernels(net, 0.1, boundary="wrap")
    with pytest.raises(ValueError, match="finite `rho`"):
        ff.layers.smooth_kernels(net, float("nan"))
    with pytest.raises(ValueError, match="computed from others; remove"):
        ff.layers.smooth_kernels(parametrizations.weight_norm(nn.Conv2d(1, 1, 3)), 0.1)
    with pytest.raises(ValueError, match="`cutoff` between"):
        ff.layers.kernel_high_frequency(net, cutoff=0.5)
    with pytest.raises(ValueError, match="1 x 1 only"):
        ff.layers.KernelSmoothnessPenalty(nn.Sequential(nn.Conv2d(1, 2, 1)))
    with pytest.raises(ValueError, match="4 or 8"):
        ff.layers.KernelSmoothnessPenalty(net, neighbours=6)
