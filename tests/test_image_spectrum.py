"""Spectra of images: NumPy's FFT, Parseval, single waves, white noise and power laws of known exponent as truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fastfreq_kernels import radial_cells, radial_power

import fastfreq as ff
from fastfreq.plots.image_spectrum import plot_many
from fastfreq.vocabulary import fourier
from fastfreq.vocabulary.sums import ExactSum


def batches(images, size):
    return [images[i : i + size] for i in range(0, len(images), size)]


def power_law_images(rng, n, shape, alpha):
    """Gaussian images whose expected power is exactly f^-alpha, f in cycles per pixel; no mean."""
    h, w = shape
    f = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)[None, :])
    gain = np.where(f > 0, np.where(f > 0, f, 1) ** (-alpha / 2), 0)
    noise = rng.standard_normal((n, h, w))
    images = np.fft.ifft2(np.fft.fft2(noise) * gain).real
    return torch.from_numpy(images[:, None] / (8 * np.abs(images).max()) + 0.5).float()


@pytest.mark.parametrize("kind", ["magnitude", "power"])
@pytest.mark.parametrize("shape", [(3, 33, 47), (1, 8, 12), (2, 9, 9)], ids=str)
def test_maps_and_rings_are_those_of_numpy(shape, kind):
    images = np.random.default_rng(0).random((7, *shape))
    result = ff.image_spectrum(torch.from_numpy(images), kind=kind)
    spectrum = np.abs(np.fft.fftshift(np.fft.fft2(images, norm="ortho"), axes=(-2, -1))) ** (1 + (kind == "power"))
    np.testing.assert_allclose(result.channel_map, spectrum.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(result.map, spectrum.mean(axis=(0, 1)), rtol=1e-10)

    rings = fourier.ring(fourier.centred_grid(shape[1:]), shape[1:])
    profile = result.radial()
    np.testing.assert_array_equal(profile.cells, np.bincount(rings.reshape(-1)))
    each = np.stack([spectrum[..., rings == r].mean(axis=(1, 2)) for r in range(rings.max() + 1)])
    np.testing.assert_allclose(profile.value, each.mean(axis=1), rtol=1e-10)
    half = 2.446912 * each.std(axis=1, ddof=1) / np.sqrt(7)  # t of 6 degrees
    np.testing.assert_allclose(profile.high - profile.value, half, rtol=1e-5)


def test_batches_types_and_shards_do_not_matter(tmp_path):
    pixels = torch.randint(0, 256, (11, 3, 13, 10), dtype=torch.uint8)
    whole = ff.image_spectrum(pixels)
    labelled = [(batch, torch.zeros(len(batch), dtype=torch.int64)) for batch in batches(pixels.numpy(), 4)]
    merged = ff.image_spectrum(pixels[:3].float() / 255) + ff.image_spectrum(batches(pixels[3:], 5), first_image=3)
    merged.save(tmp_path / "spectrum.npz")
    for other in (ff.image_spectrum(labelled), merged, ff.load(tmp_path / "spectrum.npz")):
        assert other.count == other.seen == 11
        np.testing.assert_allclose(other.channel_map, whole.channel_map, rtol=1e-5)
        np.testing.assert_allclose(other.channel_radial, whole.channel_radial, rtol=1e-5)
        assert other.slope().low == pytest.approx(whole.slope().low, rel=1e-4)
        np.testing.assert_array_equal(other.image_ids, np.arange(11))
    frame = whole.to_dataframe()
    np.testing.assert_array_equal(frame["magnitude"], whole.radial().value)
    assert list(frame.columns[-3:]) == ["channel_0", "channel_1", "channel_2"]


@pytest.mark.parametrize("frequency", [(3, -4), (0, 6), (5, 0), (-2, 1)])
def test_a_single_cosine_lights_one_pair_and_one_ring(frequency):
    shape = (15, 20)
    wave = 0.5 + 0.4 * fourier.basis_image(frequency, shape, 0.3)
    result = ff.image_spectrum(torch.from_numpy(wave)[None, None], kind="power")
    lit = fourier.centred_grid(shape)[result.map > 1e-20]
    expected = {frequency, tuple(-np.array(frequency))} | {(0, 0)}
    assert {tuple(k) for k in fourier.signed(lit, shape)} == {
        tuple(fourier.signed(np.array(k), shape)) for k in expected
    }
    rings = np.flatnonzero(result.radial().value > 1e-20)
    assert list(rings) == [0, fourier.ring(np.array(frequency), shape)]


def test_white_noise_is_flat():
    noise = torch.from_numpy(np.random.default_rng(1).standard_normal((400, 1, 24, 31)) / 100)
    result = ff.difference_spectrum(torch.full((400, 1, 24, 31), 0.5), 0.5 + noise.float(), kind="power")
    profile = result.radial()
    np.testing.assert_allclose(profile.value, 1e-4, rtol=6 / np.sqrt(400 * profile.cells / 2).min())
    fit = result.slope()
    assert fit.low < 0 < fit.high and fit.high - fit.low < 0.1


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.0])
def test_power_laws_give_their_exponent(alpha):
    images = power_law_images(np.random.default_rng(5), 60, (48, 64), alpha)
    fit = ff.image_spectrum(images, kind="power").slope()
    assert fit.low < alpha < fit.high
    assert fit.high - fit.low < 0.1
    magnitude = ff.image_spectrum(images).slope()
    assert magnitude.low < alpha / 2 < magnitude.high


def test_the_interval_of_the_slope_covers_as_often_as_it_says():
    """Images of very different contrast, whose rings vary together: an interval over rings would be far too narrow."""
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        images = power_law_images(rng, 40, (15, 20), 2.0) - 0.5
        images = 0.5 + images * torch.from_numpy(rng.uniform(0.2, 1.0, (40, 1, 1, 1))).float()
        fit = ff.image_spectrum(images, kind="power").slope()
        hits += fit.low < 2.0 < fit.high
    assert 178 <= hits <= 198  # 190 expected, binomial SD 3.1, and some less for 40 images


def test_sizes_mix_on_an_axis_in_cycles_per_pixel():
    rng = np.random.default_rng(7)
    sizes = [(32, 40), (33, 47), (64, 64), (50, 32)]
    mixed = [torch.from_numpy(0.5 + rng.standard_normal((40, 1, *s)) / 20).float().clip(0, 1) for s in sizes]
    result = ff.image_spectrum(mixed, kind="power", side=32)
    assert result.shape is None and result.count == 160
    np.testing.assert_allclose(result.radial().value[1:], 1 / 400, rtol=0.1)  # whatever the size
    assert result.frequency[1:] == pytest.approx(np.arange(1, 17) / 32, abs=0.016)
    merged = ff.image_spectrum(mixed[1:], kind="power", side=32, first_image=40)
    merged = ff.image_spectrum(mixed[:1], kind="power", side=32) + merged
    np.testing.assert_array_equal(merged.radial().value, result.radial().value)
    with pytest.raises(ValueError, match="images of one size for a map"):
        _ = result.map
    one = power_law_images(rng, 50, (60, 44), 2.0)
    other = power_law_images(rng, 50, (80, 100), 2.0)
    fit = ff.image_spectrum([one, other], kind="power", side=44).slope()
    assert abs(fit.alpha - 2) < 0.1


def test_differences_are_of_the_corrupted_images():
    images = torch.rand(6, 2, 9, 14)

    def darker(x):
        x *= 0.5  # changes its argument, which must not be the image
        return x

    expected = ff.image_spectrum(images)
    for corruption in (darker, [(0.5 * images[:4]), (0.5 * images[4:])]):
        given = images if callable(corruption) else batches(images, 4)
        result = ff.difference_spectrum(given, corruption)
        np.testing.assert_allclose(result.map, 0.5 * expected.map, rtol=1e-4)
    assert ff.difference_spectrum(images, darker).subject == "difference by darker"
    with pytest.raises(TypeError, match="got ImageSpectrum and DifferenceSpectrum"):
        expected + ff.difference_spectrum(images, darker)
    with pytest.raises(ValueError, match="same corruption, got darker and dusk"):
        ff.difference_spectrum(images, darker) + ff.difference_spectrum(images, darker, name="dusk", first_image=6)


def test_the_same_images_are_counted_once():
    """Spectra knew no image ids: image_spectrum + itself counted twice."""
    images = torch.rand(6, 3, 9, 14)
    for measure in (ff.image_spectrum, lambda x, **run: ff.difference_spectrum(x, torch.sqrt, **run)):
        whole = measure(images)
        for again in (whole, measure(images, shard=(0, 2))):
            with pytest.raises(ValueError, match="image ids are in both"):
                whole + again
        assert (whole + measure(images, first_image=6)).count == 12  # data sets hold some images twice
        with pytest.raises(ValueError, match="same channels"):
            measure(images, side=9) + measure(images[:, :1], side=9, first_image=6)


@pytest.mark.parametrize("shape", [(3, 11, 14), (1, 32, 32), (3, 13, 13)], ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)
def test_no_order_changes_a_bit(shape, dtype):
    images = torch.randint(0, 256, (23, *shape), dtype=torch.uint8)
    images = images if dtype == torch.uint8 else images.to(dtype) / 255
    whole = ff.image_spectrum(images, kind="power")
    parts = [ff.image_spectrum(images, kind="power", shard=(i, 3), batch_size=1 + 3 * i) for i in (2, 0, 1)]
    for other in (parts[0] + (parts[1] + parts[2]), ff.image_spectrum(batches(images, 7), kind="power", batch_size=5)):
        for name in ("plane_sum", "ring_sum", "ring_moments", "log_frequency_sum"):
            np.testing.assert_array_equal(getattr(other, name).parts, getattr(whole, name).parts, err_msg=name)
        np.testing.assert_array_equal(other.ring_cells, whole.ring_cells)


@pytest.mark.parametrize("shape", [(3, 11, 14), (2, 32, 36), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["magnitude", "power"])
def test_sums_are_those_of_each_images_own_terms(shape, dtype, kind):
    pixels = torch.randint(0, 256, (23, *shape), dtype=torch.uint8)
    images = pixels if dtype == torch.uint8 else (pixels / 255).to(dtype)
    whole = ff.image_spectrum(images, kind=kind)
    each = [radial_power(image, magnitude=kind == "magnitude") for image in images.split(1)]
    means = torch.cat([rings for rings, _ in each]).double() / radial_cells(*shape[1:])[0]
    profiles = sum(means.unbind(dim=1)) / shape[0]
    terms = {
        "plane_sum": torch.stack([plane for _, plane in each]),
        "ring_sum": means,
        "ring_moments": profiles[:, :, None] * profiles[:, None, :],
    }
    for name, wanted in terms.items():
        np.testing.assert_array_equal(getattr(whole, name).parts, ExactSum.of(wanted, axis=0).parts, err_msg=name)


def test_an_interrupted_spectrum_goes_on(tmp_path):
    images = torch.rand(9, 1, 8, 11)
    calls = []

    def sometimes(x):
        calls.append(len(x))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return x.mul_(0.5)

    options = {"checkpoint": tmp_path / "c.npz", "batch_size": 2}
    with pytest.raises(KeyboardInterrupt):
        ff.difference_spectrum(images, sometimes, **options)
    assert ff.load(tmp_path / "c.npz").count == 4
    resumed = ff.difference_spectrum(images, sometimes, **options)
    assert calls == [2, 2, 2, 2, 2, 1]
    whole = ff.difference_spectrum(images, lambda x: x / 2, name="sometimes")
    np.testing.assert_array_equal(resumed.plane_sum.parts, whole.plane_sum.parts)
    with pytest.raises(ValueError, match="image 0 of .* is another"):
        ff.difference_spectrum(images.flip(0), sometimes, **options)
    with pytest.raises(ValueError, match="same statistic"):
        ff.difference_spectrum(images, sometimes, kind="power", **options)


def test_corrupted_images_follow_the_ids():
    images, darker = torch.rand(11, 2, 9, 7), torch.rand(11, 2, 9, 7)
    whole = ff.difference_spectrum(images, darker)
    parts = [ff.difference_spectrum(images, batches(darker, 4), shard=(i, 2), batch_size=3) for i in range(2)]
    np.testing.assert_array_equal((parts[1] + parts[0]).plane_sum.parts, whole.plane_sum.parts)
    later = ff.difference_spectrum(images[5:], darker[5:], first_image=5)
    merged = later + ff.difference_spectrum(images[:5], darker[:5])
    np.testing.assert_array_equal(merged.plane_sum.parts, whole.plane_sum.parts)
    bytes_and_floats = [(darker[:4] * 255).byte(), (darker[4:] * 255).byte().float() / 255]
    with pytest.raises(ValueError, match="expected all images of one type, got torch.uint8 and torch.float32"):
        ff.difference_spectrum(images, bytes_and_floats)


def test_options_of_models_are_refused_in_words():
    for option, value in (("precision", "bf16"), ("channels_last", True), ("compile", True), ("fold_batch_norm", True)):
        with pytest.raises(TypeError, match=f"expected no `{option}`: a spectrum of images has no model"):
            ff.image_spectrum(torch.rand(2, 1, 8, 8), **{option: value})
    with pytest.raises(ValueError, match="a function as `corruption` with `checkpoint`"):
        ff.difference_spectrum(torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8), checkpoint="c.npz")


@pytest.mark.parametrize(
    "corruption, message",
    [
        (lambda x: x[..., :-1], r"to return images of shape \(4, 3, 8, 10\), got \(4, 3, 8, 9\)"),
        (lambda x: x / (x - x), "to return finite pixels, got NaN or infinity"),
        (lambda x: 255 * x.clamp_min(0.5), "pixels in units of .0, 1., got values up to .*; divide by 255"),
        ([torch.rand(4, 3, 8, 10)] * 2, "as many corrupted images as `images`, got some after image 3"),
        (torch.rand(3, 3, 8, 10), "as many corrupted images as `images`, got none for image 3"),
    ],
)
def test_corruptions_that_are_none_are_refused(corruption, message):
    with pytest.raises(ValueError, match=message):
        ff.difference_spectrum(torch.rand(4, 3, 8, 10), corruption, name="blur")


def test_bad_images_are_refused():
    with pytest.raises(ValueError, match="at least one image, got none"):
        ff.image_spectrum([])
    with pytest.raises(ValueError, match="at least one image, got none"):
        ff.image_spectrum(torch.zeros(0, 3, 8, 8))
    with pytest.raises(ValueError, match="NaN"):
        ff.image_spectrum(torch.full((1, 1, 4, 4), torch.nan))
    with pytest.raises(ValueError, match=r"one shape, got \(1, 8, 8\) and \(1, 8, 9\); .* pass `side` \(at most 8\)"):
        ff.image_spectrum([torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 9)])
    with pytest.raises(ValueError, match="one colour mode"):
        ff.image_spectrum([torch.rand(1, 1, 8, 8), torch.rand(1, 3, 8, 8)], side=8)
    with pytest.raises(ValueError, match="shorter side of the images, 8, got 9"):
        ff.image_spectrum(torch.rand(1, 1, 8, 10), side=9)
    with pytest.raises(ValueError, match="`kind` of"):
        ff.image_spectrum(torch.rand(1, 1, 8, 10), kind="phase")
    with pytest.raises(ValueError, match=r"images\[None\]"):
        ff.image_spectrum(torch.rand(3, 8, 8))
    with pytest.raises(ValueError, match="ring 1 has none"):
        ff.image_spectrum(torch.full((2, 1, 8, 8), 0.5)).slope()
    with pytest.raises(ValueError, match="at least three rings"):
        ff.image_spectrum(torch.rand(2, 1, 4, 4)).slope()


def test_figures_show_every_panel():
    result = ff.image_spectrum(torch.rand(5, 3, 12, 17))
    assert len(result.plot().axes) == 3
    with pytest.raises(ValueError, match="expected no `ax`"):
        result.plot(ax=result.plot().axes[0])
    mixed = ff.image_spectrum(torch.rand(5, 3, 12, 17), side=10)
    figure = mixed.plot()
    assert len(figure.axes) == 1 and mixed.plot(ax=figure.axes[0]) is figure
    figure = plot_many({"one": result, "$two": result})
    assert [text.get_text() for text in figure.axes[3].get_legend().get_texts()] == ["one", "$two"]
