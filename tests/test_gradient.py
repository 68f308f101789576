from __future__ import annotations

import fastfreq_kernels as kernels
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastfreq as ff
from fastfreq.vocabulary import fourier


def test_power_is_that_of_each_channels_gradient(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=6, shape=(3, 9, 12))
    result = ff.gradient_heatmap(net, images, labels, batch_size=4)
    pixels = images.clone().requires_grad_(True)
    F.cross_entropy(net(pixels), labels, reduction="sum").backward()
    spectrum = np.abs(np.fft.fftshift(np.fft.fft2(pixels.grad.numpy(), norm="ortho"), axes=(-2, -1))) ** 2
    np.testing.assert_allclose(result.channel_power, spectrum.mean(axis=0), rtol=1e-3, atol=1e-12)
    np.testing.assert_allclose(result.power, spectrum.mean(axis=0).sum(axis=0), rtol=1e-3, atol=1e-12)
    low, high = result.interval()
    assert (low <= result.power).all() and (result.power <= high).all()

    total = spectrum.sum(axis=1)
    rings = fourier.ring(fourier.centred_grid((9, 12)), (9, 12))
    shares = np.stack([total[:, rings == r].sum(axis=1) for r in range(rings.max() + 1)], axis=1)
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(result.radial, shares.mean(axis=0), rtol=1e-3)
    assert result.radial.sum() == pytest.approx(1)
    for label in np.unique(labels):
        np.testing.assert_allclose(result.per_class[label], shares[labels.numpy() == label].mean(axis=0), rtol=1e-3)


def test_maps_per_class_are_those_of_the_classs_own_images(make_net, make_images, tmp_path):
    net = make_net()
    images, labels = make_images(net, n=9, shape=(3, 9, 12))
    result = ff.gradient_heatmap(net, images, labels, size=(5, 7), class_maps=True, batch_size=4)
    for label in range(5):
        own = labels == label
        if own.any():
            alone = ff.gradient_heatmap(net, images[own], labels[own], size=(5, 7))
            np.testing.assert_allclose(result.class_maps[label], alone.power, rtol=1e-4, atol=1e-12)
        else:
            assert np.isnan(result.class_maps[label]).all()
    halves = [ff.gradient_heatmap(net, images, labels, size=(5, 7), class_maps=True, shard=(i, 2)) for i in range(2)]
    (halves[0] + halves[1]).save(tmp_path / "sum.npz")
    np.testing.assert_allclose(ff.load(tmp_path / "sum.npz").class_maps, result.class_maps, rtol=1e-4, atol=1e-12)
    with pytest.raises(ValueError, match="class_maps=True"):
        _ = ff.gradient_heatmap(net, images, labels).class_maps


@pytest.mark.parametrize("convention", ["rai", "fhmap"])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 7, 10)], ids=str)
def test_the_prediction_is_exact_for_a_linear_model(convention, shape):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 4)).eval()
    images = torch.rand(15, *shape) * 0.2 + 0.4
    labels = net(images).argmax(dim=1)
    predicted = ff.gradient_heatmap(net, images, labels, eps=1.0, margins=3, convention=convention, seed=5)
    clipless = ff.CONVENTIONS[convention].replace(clip=False)
    measured = ff.heatmap(net, images, labels, eps=1.0, convention=clipless, seed=5)
    assert 0 < measured.error.mean() < 1
    np.testing.assert_array_equal(predicted.predicted_error, measured.error)
    assert predicted.rank_correlation(measured.error) == pytest.approx(1)


def test_an_impulse_gradient_is_flat_and_a_wave_is_one_pair():
    class Reads(nn.Module):
        """Two logits whose difference is the inner product with a pattern."""

        def __init__(self, pattern):
            super().__init__()
            self.pattern = nn.Parameter(pattern)

        def forward(self, x):
            z = (x * self.pattern).sum(dim=(1, 2, 3))
            return torch.stack([z, -z], dim=1)

    impulse = torch.zeros(1, 9, 9)
    impulse[0, 3, 4] = 1
    images, labels = torch.rand(2, 1, 9, 9), torch.tensor([0, 1])
    flat = ff.gradient_heatmap(Reads(impulse).eval(), images, labels).power
    np.testing.assert_allclose(flat, flat[0, 0], rtol=1e-4)
    wave = torch.from_numpy(fourier.basis_image((2, -1), (9, 9), 0.3)).float()[None]
    one = ff.gradient_heatmap(Reads(wave).eval(), images, labels).power
    lit = {tuple(k - 4) for k in np.argwhere(one > 1e-6 * one.max())}
    assert lit == {(2, -1), (-2, 1)}


def test_shards_merge_and_files_come_back(make_net, make_images, tmp_path):
    net = make_net()
    images, labels = make_images(net, n=9)
    whole = ff.gradient_heatmap(net, images, labels, eps=1.0)
    merged = ff.gradient_heatmap(net, images, labels, eps=1.0, shard=(0, 2)) + ff.gradient_heatmap(
        net, images, labels, eps=1.0, shard=(1, 2)
    )
    np.testing.assert_allclose(merged.power, whole.power, rtol=1e-5)
    np.testing.assert_array_equal(merged.predicted_error, whole.predicted_error)
    merged.save(tmp_path / "gradient.npz")
    back = ff.load(tmp_path / "gradient.npz")
    np.testing.assert_array_equal(back.power, merged.power)
    assert back.eps == 1.0 and back.convention == merged.convention
    with pytest.raises(ValueError, match="the same eps"):
        merged + ff.gradient_heatmap(net, images, labels)


def test_forward_passes_are_counted(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=8)
    calls = []

    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            calls.append(len(x))
            return self.net(x)

    ff.gradient_heatmap(Counted().eval(), images, labels, eps=1.0, batch_size=4)
    assert sum(calls) == 8  # one forward pass per image; every frequency comes from its backward pass


def test_refusals(make_net, make_images):
    net = make_net()
    images, labels = make_images(net)
    with pytest.raises(ValueError, match="none was asked for; call gradient_heatmap"):
        _ = ff.gradient_heatmap(net, images, labels).predicted_error
    with pytest.raises(ValueError, match="positive `margins`"):
        ff.gradient_heatmap(net, images, labels, margins=0)
    with pytest.raises(ValueError, match="measured map of"):
        ff.gradient_heatmap(net, images, labels).rank_correlation(np.zeros((2, 2)))
    assert kernels.fourier_signs is not None
