from __future__ import annotations

import dataclasses

import fastfreq_kernels as kernels
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastfreq as ff
from fastfreq.vocabulary import fourier
from tests.in_place import InPlace


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
    np.testing.assert_array_equal(result.classes, np.unique(labels))
    assert result.per_class.shape == (len(result.classes), rings.max() + 1)
    for row, label in enumerate(result.classes):
        np.testing.assert_allclose(result.per_class[row], shares[labels.numpy() == label].mean(axis=0), rtol=1e-3)


def test_maps_per_class_are_those_of_the_classs_own_images(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=9, shape=(3, 9, 12))
    result = ff.gradient_heatmap(net, images, labels, size=(5, 7), class_maps=True, batch_size=4)
    assert result.class_maps.shape == (len(result.classes), 5, 7) and result.class_count.sum() == 9
    for row, label in enumerate(result.classes):
        own = labels == int(label)
        alone = ff.gradient_heatmap(net, images[own], labels[own], size=(5, 7))
        np.testing.assert_allclose(result.class_maps[row], alone.power, rtol=1e-4, atol=1e-12)
    halves = [ff.gradient_heatmap(net, images, labels, size=(5, 7), class_maps=True, shard=(i, 2)) for i in range(2)]
    np.testing.assert_allclose((halves[0] + halves[1]).class_maps, result.class_maps, rtol=1e-4, atol=1e-12)
    plain = ff.gradient_heatmap(net, images, labels, size=(5, 7), shard=(1, 2))
    with pytest.raises(ValueError, match="class_maps=True"):
        _ = plain.class_maps
    with pytest.raises(ValueError, match="the same with_class_maps"):
        _ = halves[0] + plain


def error_by_hand(net, images, labels, frequencies, convention, *, seed):
    """(f,) error under each wave on its own, without clipping."""
    shape = tuple(images.shape[1:])
    of = frequencies * (0 if convention.common else 1)
    signs = kernels.fourier_signs(
        torch.arange(len(images)), torch.from_numpy(of), shape, seed=seed, signs=convention.signs
    )
    errors = []
    for k, sign in zip(frequencies, signs, strict=True):
        bearer = tuple(int(v) for v in convention.oriented(k, shape[1:]))
        wave = torch.from_numpy(fourier.basis_image(bearer, shape[1:], convention.phase)).float()
        with torch.inference_mode():
            errors.append((net(images + sign[..., None, None] * wave).argmax(dim=1) != labels).double().mean().item())
    return np.array(errors)


@pytest.mark.parametrize("convention", ["rai", "fhmap", "image", "common"])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 7, 10)], ids=str)
def test_the_prediction_is_exact_for_a_linear_model(convention, shape):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 4)).eval()
    images = torch.rand(15, *shape) * 0.2 + 0.4
    labels = net(images).argmax(dim=1)
    chosen = ff.CONVENTIONS["fhmap" if convention == "fhmap" else "rai"].replace(common=convention == "common")
    if convention == "image":
        chosen = chosen.replace(signs="image", phase=1.0, phase_of="canonical")
    predicted = ff.gradient_heatmap(net, images, labels, eps=1.0, margins=3, convention=chosen, seed=5)
    measured = predicted.arrange(error_by_hand(net, images, labels, predicted.frequencies, chosen, seed=5))
    assert 0 < measured.mean() < 1
    np.testing.assert_array_equal(predicted.predicted_error, measured)
    assert predicted.rank_correlation(measured) == pytest.approx(1)


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


def test_results_of_two_models_and_the_same_images_twice_do_not_merge(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=9)
    first, second = (ff.gradient_heatmap(net, images, labels, eps=1.0, shard=(i, 2)) for i in range(2))
    whole = ff.gradient_heatmap(net, images, labels, eps=1.0)
    merged = second + first
    np.testing.assert_array_equal(merged.predicted_error, whole.predicted_error)
    np.testing.assert_allclose(merged.power, whole.power, rtol=1e-5)
    other = ff.gradient_heatmap(make_net(seed=1), images, labels, eps=1.0, shard=(1, 2))
    with pytest.raises(ValueError, match="of one model, these have different weights"):
        _ = first + other
    for again in (first, whole):
        with pytest.raises(ValueError, match="different images"):
            _ = first + again
    for changed in ({}, {"eps": 1.0, "margins": 2}):
        with pytest.raises(ValueError, match="the same (eps|margins)"):
            _ = first + ff.gradient_heatmap(net, images, labels, shard=(1, 2), **changed)


def test_a_model_that_changes_its_input_in_place_gives_the_same(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=7)
    kept = images.clone()
    there, fresh = (
        ff.gradient_heatmap(InPlace(net, b).eval(), images, labels, eps=1.0, margins=2) for b in (True, False)
    )
    np.testing.assert_array_equal(there.power, fresh.power)
    np.testing.assert_array_equal(there.predicted_error, fresh.predicted_error)
    assert torch.equal(images, kept)


class Small(nn.Module):
    """Runs out of memory where more images than `most` are differentiated."""

    def __init__(self, net, most):
        super().__init__()
        self.net, self.most = net, most

    def forward(self, x):
        if x.requires_grad and len(x) > self.most:
            raise torch.OutOfMemoryError("too many")
        return self.net(x)


def test_batches_are_halved_when_memory_runs_out(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=11)
    whole = ff.gradient_heatmap(net, images, labels, eps=1.0, class_maps=True)
    found = ff.gradient_heatmap(Small(net, 3).eval(), images, labels, eps=1.0, class_maps=True, batch_size=11)
    np.testing.assert_array_equal(found.predicted_error, whole.predicted_error)
    np.testing.assert_array_equal(found.classes, whole.classes)
    for name in ("power", "radial", "per_class", "class_maps"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), rtol=1e-4, atol=1e-9)


def test_it_runs_inside_inference_mode(make_net, make_images):
    net = make_net()
    expected = ff.gradient_heatmap(net, *make_images(net, n=5), eps=1.0)
    with torch.inference_mode():
        images, labels = make_images(net, n=5)
        images, labels = images + 0, labels + 0
        assert images.is_inference() and labels.is_inference()
        found = ff.gradient_heatmap(net, images, labels, eps=1.0)
    np.testing.assert_array_equal(found.power, expected.power)
    np.testing.assert_array_equal(found.predicted_error, expected.predicted_error)


def test_one_backward_pass_finds_every_frequency(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=8)
    calls = []

    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            if x.requires_grad:
                calls.append(len(x))
            return self.net(x)

    ff.gradient_heatmap(Counted().eval(), images, labels, eps=1.0, batch_size=4)
    assert calls == [4, 4]


def test_tables_files_of_both_formats_and_the_picture(make_net, make_images, tmp_path):
    net = make_net()
    result = ff.gradient_heatmap(net, *make_images(net, n=6), eps=1.0, size=(5, 7), class_maps=True)
    table = result.table()
    assert len(table) == len(result.frequencies) == 18
    at = next(row for row in table if (row["ky"], row["kx"]) == (1, 2))
    assert at["power"] == result.power[3, 5] and at["predicted_error"] == result.predicted_error[3, 5]
    assert sum(row["share of the power"] for row in result.summary()) == pytest.approx(1)
    assert len(result.plot().axes) == 5  # three panels, two colour bars
    with pytest.raises(ValueError, match="no `ax`"):
        result.plot(ax=result.plot().axes[0])
    result.save(tmp_path / "new.npz")
    np.testing.assert_array_equal(ff.load(tmp_path / "new.npz").class_maps, result.class_maps)

    header = {
        "convention": dataclasses.asdict(result.convention), "shape": [3, 11, 14], "size": [5, 7], "count": 6,
        "eps": 1.0, "seed": 0, "clean_wrong": 2, "details": {"model": "Net"},
    }  # fmt: skip
    counts = np.zeros(5, np.int64)
    counts[result.classes] = result.class_count
    arrays = {
        "power_sum": result.power_sum.value.T, "power_squares": result.power_squares.value,
        "ring_sum": result.ring_sum.value, "class_power": np.zeros((5, result.ring_sum.shape[0])),
        "class_count": counts, "class_map_sum": np.zeros((0, 18)), "predicted_wrong": result.predicted_wrong.counts,
    }  # fmt: skip
    arrays["class_power"][result.classes] = result.class_ring_sum.value
    old = type(result).from_format_1(header, arrays)
    for name in ("power", "radial", "per_class", "predicted_error", "classes", "class_count"):
        np.testing.assert_array_equal(getattr(old, name), getattr(result, name))
    assert old.clean_error == 2 / 6 and old.model is None
    with pytest.raises(ValueError, match="expected"):
        _ = old + old


def test_refusals(make_net, make_images):
    net = make_net()
    images, labels = make_images(net)
    with pytest.raises(ValueError, match="none was asked for; call gradient_heatmap"):
        _ = ff.gradient_heatmap(net, images, labels).predicted_error
    with pytest.raises(ValueError, match="positive `margins`"):
        ff.gradient_heatmap(net, images, labels, margins=0)
    with pytest.raises(ValueError, match="'fp16', in which gradients"):
        ff.gradient_heatmap(net, images, labels, precision="fp16")
    with pytest.raises(ValueError, match="compile=False"):
        ff.gradient_heatmap(net, images, labels, compile=True)
    with pytest.raises(ValueError, match="measured map of"):
        ff.gradient_heatmap(net, images, labels).rank_correlation(np.zeros((2, 2)))
    net.head.bias.data[2] = float("nan")
    with pytest.raises(FloatingPointError, match="for image 0"):
        ff.gradient_heatmap(net, images, labels)
