from __future__ import annotations

import dataclasses
import math

import fastfreq_kernels as kernels
import numpy as np
import pytest
import torch
from scipy.optimize import isotonic_regression
from torch import nn

import fastfreq as ff
from fastfreq.inputs.critical_band import Channel, CriticalBand, Estimate, channel_fit
from fastfreq.inputs.critical_band import measurement as critical_band
from fastfreq.results.folds import Outcomes
from fastfreq.vocabulary.sums import ExactSum

SHAPES = [(16, 16), (15, 22), (33, 20)]


def radii(shape):
    """(h, w) cycles per shorter side, unshifted."""
    return min(shape) * np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None, :])


def octaves(shape):
    """(b, h, w) octaves about half the shorter side, its half ... down to 1, ascending: from integers, so exact.

    c^2 / 2 < min^2 (ky^2 / h^2 + kx^2 / w^2) <= 2 c^2 with c = min / 2^j.
    """
    h, w = shape
    ky, kx = np.rint(np.fft.fftfreq(h, 1 / h)).astype(int), np.rint(np.fft.fftfreq(w, 1 / w)).astype(int)
    square = (ky[:, None] * w) ** 2 + (kx[None, :] * h) ** 2
    j = np.arange(int(math.log2(min(shape))), 0, -1)[:, None, None]
    return (2 * square * 4**j > (h * w) ** 2) & (square * 4**j <= 2 * (h * w) ** 2)


def noise_of(ids, bands, channels, seed):
    """(b, n, channels, h, w) white Gaussian values, filtered by NumPy and scaled to unit deviation."""
    shape = bands.shape[1:]
    drawn = kernels.gaussian_noise(torch.as_tensor(ids), (channels, *shape), seed=seed, domain=2)
    white = drawn.double().numpy()
    noise = np.fft.ifft2(np.fft.fft2(white) * bands[:, None, None]).real
    return noise / noise.std(axis=(-2, -1), keepdims=True)


class OneBand(nn.Module):
    """Two classes told apart by the sign of one cosine pattern's coefficient."""

    def __init__(self, frequency, shape, channels=3):
        super().__init__()
        y, x = np.indices(shape)
        turns = frequency[0] * y / shape[0] + frequency[1] * x / shape[1]
        wave = math.sqrt(2 / math.prod(shape)) * np.cos(2 * np.pi * turns + np.pi / 4)
        pattern = torch.from_numpy(wave).float()
        self.pattern = nn.Parameter(pattern.expand(channels, *shape).contiguous() / channels)

    def forward(self, x):
        z = (x * self.pattern).sum(dim=(1, 2, 3))
        return torch.stack([z, -z], dim=1)


def planted(frequency, shape, n=80, spread=0.35, seed=0):
    """Images whose coefficient of the pattern is positive for class 0, negative for class 1."""
    net = OneBand(frequency, shape).eval()
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, 2, n))
    size = torch.from_numpy(rng.uniform(0.2, 1, n)).float() * spread
    wave = net.pattern.detach()[0] * 3
    images = 0.5 + (size * (1 - 2 * labels))[:, None, None, None] * wave.expand(n, 3, *shape)
    return net, images, labels


# ---------------------------------------------------------------- bands and noise
@pytest.mark.parametrize("shape", [*SHAPES, (14, 50), (30, 58), (2, 2), (3, 7)], ids=str)
def test_octaves_are_exact_and_cover_every_frequency_but_the_lowest_once(shape):
    centres = critical_band.octave_centres(shape)
    assert centres[-1] == min(shape) / 2 and 1 <= centres[0] < 2
    masks = critical_band.octave_masks(shape, centres)
    np.testing.assert_array_equal(masks, octaves(shape))
    np.testing.assert_array_equal(masks.sum(axis=0), radii(shape) > centres[0] / math.sqrt(2) * (1 + 1e-12))


def test_the_papers_seven_bands():
    np.testing.assert_allclose(critical_band.octave_centres((224, 224)), 1.75 * 2.0 ** np.arange(7))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_noise_is_white_noise_filtered_to_its_band_with_deviation_1(shape):
    bands = octaves(shape)
    noise = critical_band.octave_noise(torch.arange(5), torch.from_numpy(bands), seed=3, channels=2).double().numpy()
    np.testing.assert_allclose(noise, noise_of(range(5), bands, 2, 3), atol=1e-5)
    np.testing.assert_allclose(noise.std(axis=(-2, -1)), 1, rtol=1e-6)
    np.testing.assert_allclose(noise.mean(axis=(-2, -1)), 0, atol=1e-6)
    energy = np.abs(np.fft.fft2(noise, norm="ortho")) ** 2
    for band, mask in zip(energy, bands, strict=True):
        assert band[..., ~mask].max() < 1e-10 * band[..., mask].mean()


def test_noise_is_gaussian_and_independent_between_images_channels_and_seeds():
    bands = torch.from_numpy(octaves((32, 33))[-1:])
    ids = torch.tensor([0, 7, 2**40])
    noise = [critical_band.octave_noise(ids, bands, seed=s, channels=2)[0].reshape(6, -1) for s in (0, 1)]
    both = torch.cat(noise).double().numpy()
    correlation = np.corrcoef(both) - np.eye(len(both))
    assert np.abs(correlation).max() < 0.15  # 12 rows of some 900 free values
    assert abs((both**4).mean() - 3) < 0.2
    alone = critical_band.octave_noise(ids[1:2], bands, seed=0, channels=2)[0].reshape(2, -1)
    torch.testing.assert_close(alone, noise[0][2:4])


# ---------------------------------------------------------------- accuracy
@pytest.mark.parametrize("chromatic", [False, True])
@pytest.mark.parametrize("shape", [(3, 12, 12), (1, 11, 14)], ids=str)
def test_accuracy_is_that_of_the_noisy_images(make_net, make_images, shape, chromatic):
    net = make_net(channels=shape[0])
    images, labels = make_images(net, n=9, shape=shape)
    protocol = {"seed": 5, "contrast": 0.7, "mean": 0.4, "chromatic": chromatic}
    result = ff.critical_band(net, images, labels, deviations=(0.3, 0.1), **protocol)
    c = shape[0] if chromatic else 1
    noise = torch.from_numpy(noise_of(range(9), octaves(shape[1:]), c, 5))
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


# ---------------------------------------------------------------- thresholds and channel
@pytest.mark.parametrize(("frequency", "shape"), [((0, 4), (32, 32)), ((6, 6), (31, 42)), ((11, 0), (32, 32))], ids=str)
@pytest.mark.parametrize("scale", ["octaves", "gain"])
def test_a_network_that_uses_one_band_is_found(frequency, shape, scale):
    net, images, labels = planted(frequency, shape)
    result = ff.critical_band(net, images, labels, deviations=0.02 * 2.0 ** np.arange(5), clip=False)
    assert result.clean_accuracy == 1
    radius = radii(shape)[frequency]
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
    np.testing.assert_allclose(channel_fit.isotonic(values), expected, atol=1e-12)


def test_thresholds_are_interpolated_in_the_logarithm():
    accuracy = np.array([[1, 1, 0.75, 0.25, 0], [0.9, 0.8, 0.7, 0.6, 0.6], [0.9, 0.1, 0, 0, 0], [0.6, 0.5, 0.4, 0, 0]])
    found = channel_fit.crossings(accuracy[None], np.array([0.02, 0.04, 0.08, 0.16]), 0.5).value[0]
    np.testing.assert_allclose(found, [0.04 * math.sqrt(2), math.inf, 0.01, 0.02])


# ---------------------------------------------------------------- intervals of planted channels
BANDS, DEVIATIONS = 1.75 * 2.0 ** np.arange(7), 0.02 * 2.0 ** np.arange(5)


def gaussian(octaves, centre, width):
    return 2.0 ** (-4 * np.square((octaves - centre) / width))  # half at width / 2


def result_of(wrong):
    n = wrong.shape[2]
    zero, none = np.zeros(n, dtype=np.int64), np.ones(wrong.shape[:2])
    return CriticalBand(
        model=None, shape=(1, 224, 224), bands=BANDS, deviations=DEVIATIONS, seed=0, grayscale=False, contrast=1.0,
        mean=None, chromatic=False, clip=False, image_ids=np.arange(n), image_hashes=zero.astype(np.uint64),
        labels=zero, wrong=Outcomes.of(wrong), clean_wrong=zero.astype(bool), left=ExactSum.of(none),
    )  # fmt: skip


def planted_thresholds(rng, width, scale, spread, n):
    """Bands whose thresholds, at an accuracy of 1/2, lie on a Gaussian exactly: (result, criterion, centre)."""
    centre, octaves = rng.uniform(2, 6), np.log2(BANDS)
    above = rng.uniform(2, 4.2)  # octaves of the most sensitive threshold below the largest deviation
    shape = gaussian(octaves, centre, width)
    height = above * shape if scale == "octaves" else above + np.log2(np.maximum(shape, 1e-30))
    tolerated = DEVIATIONS[-1] * 2.0 ** -height[:, None] * np.exp(spread * rng.standard_normal((len(BANDS), n)))
    return result_of(DEVIATIONS[None, :, None] > tolerated[:, None]), 0.5, 2**centre


def planted_filter(rng, width, n):
    """A linear classifier of two classes behind a filter whose gain is a Gaussian of the frequency's logarithm."""
    centre = rng.uniform(2.5, 6)
    radius = radii((224, 224))
    gain = np.where(radius > 0, gaussian(np.log2(np.maximum(radius, 1e-9)), centre, width), 0)
    inside = [(radius > c / math.sqrt(2)) & (radius <= c * math.sqrt(2)) for c in BANDS]
    response = np.array([math.sqrt(np.square(gain[band]).mean()) for band in inside])
    margin = rng.uniform(0.2, 1, n) * response.max() * DEVIATIONS[-1] * 2.0 ** -rng.uniform(1, 3)
    noise = response[:, None] * rng.standard_normal((len(BANDS), n))
    return result_of(DEVIATIONS[None, :, None] * noise[:, None] > margin), 0.75, 2**centre


def coverage(kind, width, n, runs):
    """Share of planted channels within their intervals, (centre, bandwidth), and the interval's median width."""
    rng = np.random.default_rng(0)
    inside, widths = [], []
    for _ in range(runs):
        scale = "octaves" if kind.startswith("octaves") else "gain"
        if kind == "filter":
            result, criterion, centre = planted_filter(rng, width, n)
        else:
            spread = 0.25 if kind.endswith("steep") else 1.0
            result, criterion, centre = planted_thresholds(rng, width, scale, spread, n)
        found = result.channel(criterion=criterion, scale=scale, samples=150)
        truths = ((found.centre, centre), (found.bandwidth, width))
        inside.append([estimate.low <= truth <= estimate.high for estimate, truth in truths])
        widths.append(found.bandwidth.high - found.bandwidth.low)
    return *np.mean(inside, axis=0), float(np.median(widths))


@pytest.mark.parametrize(
    ("kind", "width", "at_most"), [("octaves-steep", 1.0, 4.0), ("filter", 1.0, 3.0), ("gain-steep", 3.0, 3.0)]
)
def test_planted_channels_lie_in_their_intervals(kind, width, at_most):
    centre, bandwidth, typical = coverage(kind, width, 300, 30)
    assert centre >= 0.85 and bandwidth >= 0.9
    assert 0.5 < typical < at_most


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 1000])
@pytest.mark.parametrize("width", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("kind", ["octaves-steep", "octaves-flat", "gain-steep", "gain-flat", "filter"])
def test_planted_channels_of_every_kind_lie_in_their_intervals(kind, width, n):
    centre, bandwidth, typical = coverage(kind, width, n, 100)
    assert centre >= 0.85 and bandwidth >= 0.9 and typical < 5


def test_ends_of_thresholds_are_the_tested_deviations_next_to_them():
    # 60 of 100 images are lost between 0.04 and 0.08 in the first band, 90 at the smallest in the second, 9 never
    lost = np.array([[0, 5, 65, 80, 90], [90, 90, 95, 95, 99], *[[0, 0, 0, 5, 9]] * 5])
    result = result_of(np.arange(100) < lost[:, :, None])
    found = result.thresholds(samples=50)
    np.testing.assert_array_equal(found.low, [0.04, 0, *[0.32] * 5])
    np.testing.assert_array_equal(found.high, [0.08, 0.02, *[math.inf] * 5])
    assert found.low[0] < found.deviation[0] < found.high[0]
    assert result.plot().axes  # bars without an end are drawn too


@pytest.mark.parametrize(("centre", "width", "height"), [(8.0, 1.0, 3.0), (30.0, 4.0, 2.0), (5.3, 2.1, 1.5)])
def test_a_gaussian_is_recovered(centre, width, height):
    octaves = np.log2(1.75 * 2.0 ** np.arange(7))
    heights = height * 2.0 ** (-4 * np.square((octaves - math.log2(centre)) / width))  # half at width / 2
    fitted = channel_fit.fit_gaussians(octaves, heights[None])[0]
    np.testing.assert_allclose(fitted, [centre, width, height], rtol=0.02)


def test_a_channel_beyond_the_bands_says_so():
    net, images, labels = planted((0, 7), (15, 15))
    result = ff.critical_band(net, images, labels, bands=[2.0, 4.0, 8.0], deviations=(0.1, 0.2, 0.4))
    wrong = np.zeros((3, 3, 80), bool)
    wrong[:2, 2], wrong[2, 1:] = True, True  # sensitivity still rises, and ever faster, at the highest band
    for order, edge in ((slice(None), "upper"), (slice(None, None, -1), "lower"), ([0, 2, 1], None)):
        channel = dataclasses.replace(result, wrong=Outcomes.of(wrong[order])).channel(samples=20)
        assert channel.edge == edge


def test_a_channel_predicts_its_own_thresholds():
    estimate = Estimate(8.0, 8.0, 8.0)
    for scale in ("octaves", "gain"):
        channel = Channel(estimate, Estimate(2, 2, 2), Estimate(50, 50, 50), scale, 0.16)
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
            ff.critical_band(net, images, labels, **arguments)
    with pytest.raises(ValueError, match="at least one image"):
        ff.critical_band(net, [])
    quiet = ff.critical_band(net, images, labels, deviations=[1e-6])
    with pytest.raises(ValueError, match="add larger `deviations`"):
        quiet.channel()
    with pytest.raises(ValueError, match="the accuracy without noise, 1.000, got 1"):
        quiet.thresholds(criterion=1.0)
    with torch.no_grad():
        net.head.bias[0] = math.nan
    with pytest.raises(FloatingPointError, match="NaN or infinity"):
        ff.critical_band(net, images, labels)


def test_save_load_table_and_picture(tmp_path):
    net, images, labels = planted((0, 4), (16, 19))
    result = ff.critical_band(net, images, labels, deviations=(0.05, 0.2, 0.4))
    result.save(tmp_path / "bands.npz")
    again = ff.load(tmp_path / "bands.npz")
    assert isinstance(again, CriticalBand)
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
