from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.optimize import isotonic_regression
from torch import nn

import fastfreq as ff
from fastfreq.core import channels
from fastfreq.inputs import critical_band
from fastfreq.vocabulary import fourier

SHAPES = [(16, 16), (15, 22), (33, 20)]


def half(masks, width):
    return torch.from_numpy(masks[..., : width // 2 + 1])


class OneBand(nn.Module):
    """Two classes told apart by the sign of one cosine pattern's coefficient."""

    def __init__(self, frequency, shape, channels=3):
        super().__init__()
        pattern = torch.from_numpy(fourier.basis_image(frequency, shape, math.pi / 4)).float()
        self.pattern = nn.Parameter(pattern.expand(channels, *shape).contiguous() / channels)

    def forward(self, x):
        z = (x * self.pattern).sum(dim=(1, 2, 3))
        return torch.stack([z, -z], dim=1)


def planted(frequency, shape, n=80, spread=0.5, seed=0):
    """Images whose coefficient of the pattern is positive for class 0, negative for class 1."""
    net = OneBand(frequency, shape).eval()
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, 2, n))
    size = torch.from_numpy(rng.uniform(0.2, 1, n)).float() * spread
    wave = net.pattern.detach()[0] * 3
    images = 0.5 + (size * (1 - 2 * labels))[:, None, None, None] * wave.expand(n, 3, *shape)
    return net, images, labels


# ---------------------------------------------------------------- bands and noise
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_octaves_cover_every_frequency_but_zero_once(shape):
    centres = critical_band.octave_centres(shape)
    masks = critical_band.octave_masks(shape, centres)
    grid = np.stack(np.meshgrid(np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), indexing="ij"), axis=-1)
    radius = min(shape) * np.hypot(grid[..., 0], grid[..., 1])
    lowest = centres[0] / math.sqrt(2)
    np.testing.assert_array_equal(masks.sum(axis=0), radius > lowest * (1 + 1e-12))
    assert centres[-1] == min(shape) / 2 and centres[0] >= 1
    for mask, centre in zip(masks, centres, strict=True):
        assert radius[mask].min() >= centre / math.sqrt(2) and radius[mask].max() <= centre * math.sqrt(2) * (1 + 1e-12)


def test_the_papers_seven_bands():
    np.testing.assert_allclose(critical_band.octave_centres((224, 224)), 1.75 * 2.0 ** np.arange(7))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_noise_has_the_stated_deviation_and_energy_only_in_its_band(shape):
    masks = critical_band.octave_masks(shape, critical_band.octave_centres(shape))
    noise = (
        critical_band.octave_noise(torch.arange(5), half(masks, shape[1]), seed=3, channels=2, shape=shape)
        .double()
        .numpy()
    )
    np.testing.assert_allclose(noise.std(axis=(-2, -1)), 1, rtol=1e-6)
    np.testing.assert_allclose(noise.mean(axis=(-2, -1)), 0, atol=1e-6)
    energy = np.abs(np.fft.fft2(noise, norm="ortho")) ** 2
    for band, mask in zip(energy, masks, strict=True):
        assert band[..., ~mask].max() < 1e-10 * band[..., mask].mean()


def test_noise_is_gaussian_and_independent_between_images_channels_and_seeds():
    shape = (32, 33)
    masks = critical_band.octave_masks(shape, np.array([16.0]))
    ids = torch.tensor([0, 7, 2**40])
    noise = [
        critical_band.octave_noise(ids, half(masks, 33), seed=s, channels=2, shape=shape)[0].reshape(6, -1)
        for s in (0, 1)
    ]
    both = torch.cat(noise).double().numpy()
    correlation = np.corrcoef(both) - np.eye(len(both))
    assert np.abs(correlation).max() < 0.15  # 12 rows of some 900 free values
    assert abs((both**4).mean() - 3) < 0.2
    alone = critical_band.octave_noise(ids[1:2], half(masks, 33), seed=0, channels=2, shape=shape)[0].reshape(2, -1)
    torch.testing.assert_close(alone, noise[0][2:4])


# ---------------------------------------------------------------- accuracy
@pytest.mark.parametrize("shape", [(3, 12, 12), (1, 11, 14)], ids=str)
def test_accuracy_is_that_of_the_noisy_images(make_net, make_images, shape):
    net = make_net(channels=shape[0])
    images, labels = make_images(net, n=9, shape=shape)
    result = ff.critical_band_masking(net, images, labels, deviations=(0.3, 0.1), seed=5, contrast=0.7, mean=0.4)
    masks = critical_band.octave_masks(shape[1:], result.bands)
    noise = critical_band.octave_noise(
        torch.arange(9), half(masks, shape[2]), seed=5, channels=1, shape=shape[1:]
    ).double()
    base = (images.double() - images.double().mean(dim=(1, 2, 3), keepdim=True)) * 0.7 + 0.4
    right = np.empty((len(result.bands), 2))
    for b, d in np.ndindex(right.shape):
        moved = (base + result.deviations[d] * noise[b]).clamp(0, 1).float()
        with torch.inference_mode():
            right[b, d] = (net(moved).argmax(dim=1) == labels).double().mean()
    np.testing.assert_allclose(result.accuracy, right)
    assert 0 < right.mean() < 1 and (result.deviations == [0.1, 0.3]).all()
    assert (result.effective_deviation <= result.deviations * (1 + 1e-6)).all()
    assert (result.effective_deviation[:, 1] < 0.29).all()  # clipping takes some of the larger noise


def test_one_seed_gives_one_answer_whatever_the_batches_and_shards(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=11)
    whole = ff.critical_band_masking(net, images, labels, deviations=(0.1, 0.3), chromatic=True)
    for size in (4, 1000):
        other = ff.critical_band_masking(net, images, labels, deviations=(0.1, 0.3), chromatic=True, batch_size=size)
        np.testing.assert_array_equal(other.wrong, whole.wrong)
    shards = [
        ff.critical_band_masking(net, images, labels, deviations=(0.1, 0.3), chromatic=True, shard=(i, 3))
        for i in (2, 0, 1)
    ]
    merged = shards[0] + shards[1] + shards[2]
    np.testing.assert_array_equal(merged.wrong, whole.wrong)
    np.testing.assert_array_equal(merged.clean_wrong, whole.clean_wrong)
    np.testing.assert_allclose(merged.left, whole.left, rtol=1e-6)
    with pytest.raises(ValueError, match="some image ids are in both"):
        merged + whole
    with pytest.raises(ValueError, match="same chromatic"):
        merged + ff.critical_band_masking(net, images, labels, deviations=(0.1, 0.3))


# ---------------------------------------------------------------- thresholds and channel
@pytest.mark.parametrize(("frequency", "shape"), [((0, 4), (32, 32)), ((6, 6), (31, 42)), ((11, 0), (32, 32))], ids=str)
@pytest.mark.parametrize("scale", ["octaves", "gain"])
def test_a_network_that_uses_one_band_is_found(frequency, shape, scale):
    net, images, labels = planted(frequency, shape)
    result = ff.critical_band_masking(net, images, labels, deviations=0.02 * 2.0 ** np.arange(5), clip=False)
    assert result.clean_accuracy == 1
    radius = float(fourier.radius(np.array(frequency), shape))
    band = int(np.argmin(np.abs(np.log2(result.bands / radius))))
    assert (np.delete(result.accuracy, band, axis=0) == 1).all() and result.accuracy[band, -1] < 0.75
    channel = result.channel(criterion=0.8, scale=scale)
    assert abs(math.log2(channel.centre.value / radius)) <= 0.5
    assert channel.bandwidth.value <= 2
    assert channel.centre.low <= channel.centre.value <= channel.centre.high
    found = result.thresholds(criterion=0.8)
    assert np.isinf(np.delete(found.deviation, band)).all()
    assert found.low[band] <= found.deviation[band] <= found.high[band]
    assert channel.peak.value == pytest.approx(1 / found.deviation[band], rel=0.5)


def test_the_isotonic_fit_is_scipys():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 6))
    expected = np.stack([isotonic_regression(row, increasing=False).x for row in values])
    np.testing.assert_allclose(channels._isotonic(values), expected, atol=1e-12)


def test_thresholds_are_interpolated_in_the_logarithm():
    accuracy = np.array([[1, 1, 0.75, 0.25, 0], [0.9, 0.8, 0.7, 0.6, 0.6], [0.9, 0.1, 0, 0, 0], [0.6, 0.5, 0.4, 0, 0]])
    found = channels._crossings(accuracy[None], np.array([0.02, 0.04, 0.08, 0.16]), 0.5)[0]
    np.testing.assert_allclose(found, [0.04 * math.sqrt(2), math.inf, 0.01, 0.02])


@pytest.mark.parametrize(("centre", "width", "height"), [(8.0, 1.0, 3.0), (30.0, 4.0, 2.0), (5.3, 2.1, 1.5)])
def test_a_gaussian_is_recovered(centre, width, height):
    octaves = np.log2(1.75 * 2.0 ** np.arange(7))
    heights = height * 2.0 ** (-4 * np.square((octaves - math.log2(centre)) / width))  # half at width / 2
    fitted = channels._fit_gaussians(octaves, heights[None])[0]
    np.testing.assert_allclose(fitted, [centre, width, height], rtol=0.02)


def test_a_channel_beyond_the_bands_says_so():
    net, images, labels = planted((0, 7), (15, 15))
    result = ff.critical_band_masking(net, images, labels, bands=[2.0, 4.0, 8.0], deviations=(0.1, 0.2, 0.4))
    wrong = np.zeros((3, 3, 80), bool)
    wrong[:2, 2], wrong[2, 1:] = True, True  # sensitivity still rises, and ever faster, at the highest band
    for order, edge in ((slice(None), "upper"), (slice(None, None, -1), "lower"), ([0, 2, 1], None)):
        channel = dataclasses.replace(result, wrong=np.packbits(wrong[order], axis=2)).channel(samples=20)
        assert channel.edge == edge


def test_a_channel_predicts_its_own_thresholds():
    estimate = channels.Estimate(8.0, 8.0, 8.0)
    for scale in ("octaves", "gain"):
        channel = ff.Channel(estimate, channels.Estimate(2, 2, 2), channels.Estimate(50, 50, 50), scale, 0.16)
        at = channel.sensitivity([8.0, 16.0])
        assert at[0] == pytest.approx(50)
        assert at[1] == pytest.approx(25 if scale == "gain" else math.sqrt(50 / 0.16))


def test_what_is_wrong_is_refused(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=8)
    for arguments, message in (
        ({"bands": [0.3]}, "octave around 0.3 cycles per image holds none"),
        ({"bands": [-1.0]}, "positive centres"),
        ({"deviations": [0.0, 0.1]}, "positive `deviations`"),
        ({"deviations": []}, "positive `deviations`"),
        ({"contrast": 0.0}, "`contrast` above 0"),
        ({"mean": 1.5}, "`mean` in"),
        ({"batch_size": 0}, "positive `batch_size`"),
        ({"seed": -1}, "`seed` from 0"),
    ):
        with pytest.raises(ValueError, match=message):
            ff.critical_band_masking(net, images, labels, **arguments)
    with pytest.raises(ValueError, match="at least one image"):
        ff.critical_band_masking(net, [])
    quiet = ff.critical_band_masking(net, images, labels, deviations=[1e-6])
    with pytest.raises(ValueError, match="add larger `deviations`"):
        quiet.channel()
    with pytest.raises(ValueError, match="the accuracy without noise, 1.000, got 1"):
        quiet.thresholds(criterion=1.0)
    with torch.no_grad():
        net.head.bias[0] = math.nan
    with pytest.raises(FloatingPointError, match="NaN or infinity"):
        ff.critical_band_masking(net, images, labels)


def test_save_load_table_and_picture(tmp_path):
    net, images, labels = planted((0, 4), (16, 19))
    result = ff.critical_band_masking(net, images, labels, deviations=(0.05, 0.2, 0.4))
    result.save(tmp_path / "bands.npz")
    again = ff.load(tmp_path / "bands.npz")
    assert isinstance(again, ff.CriticalBandResult)
    np.testing.assert_array_equal(again.accuracy, result.accuracy)
    assert again.channel(criterion=0.8) == result.channel(criterion=0.8)
    table = result.to_dataframe()
    assert len(table) == result.accuracy.size
    assert ((table.accuracy_low <= table.accuracy) & (table.accuracy <= table.accuracy_high)).all()
    figure = result.plot(criterion=0.8)
    assert "octaves" in figure.axes[1].get_title() and "cycles per image" in figure.axes[1].get_xlabel()
    ff_plots = pytest.importorskip("fastfreq.plots")
    ff_plots.save_png(figure, tmp_path / "bands.png")
    assert (tmp_path / "bands.png").stat().st_size > 10_000
