from __future__ import annotations

import dataclasses
import random
import sys
import types

import numpy as np
import pytest
import torch
from scipy import stats

import fastfreq as ff
from fastfreq.inputs import corruption_sources
from fastfreq.inputs.corruption_report import CorruptionReport, high_frequency_fraction, high_frequency_mask
from fastfreq.results.folds import Outcomes

SHAPES = [(32, 32), (15, 22), (33, 20), (1, 7)]


def noise(images, severity):
    return (images + 0.1 * severity * torch.randn(images.shape)).clamp(0, 1)


def darker(images, severity):
    return images * (1 - severity / 8)


def roll(images, severity):
    return images.roll(severity, dims=-1)


FUNCTIONS = {"noise": noise, "darker": darker, "roll": roll}


@pytest.fixture
def setting(make_net, make_images):
    net = make_net()
    return net, *make_images(net, n=13)


@pytest.fixture
def report(setting, make_net):
    net, images, labels = setting
    return ff.corruption_report(
        net, images, labels, corruptions=FUNCTIONS, severities=(1, 3), baseline=make_net(seed=1), seed=5
    )


# ---------------------------------------------------------------- the high pass
@pytest.mark.parametrize(("n", "bandwidth"), [(32, 27), (224, 189)])
def test_mask_is_yins_square_about_the_highest_frequency(n, bandwidth):
    from_highest = np.abs(np.arange(n) - n // 2)
    inside = from_highest <= (bandwidth - 1) / 2
    np.testing.assert_array_equal(high_frequency_mask((n, n)), inside[:, None] & inside)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fraction_is_numpys(shape):
    rng = np.random.default_rng(3)
    d = rng.normal(size=(4, 2, *shape))
    power = np.abs(np.fft.fft2(d)) ** 2
    frequencies = [np.abs(np.fft.fftfreq(n)) for n in shape]
    high = (frequencies[0][:, None] >= 5 / 64) & (frequencies[1] >= 5 / 64)
    expected = (power * high).sum(axis=(1, 2, 3)) / power.sum(axis=(1, 2, 3))
    np.testing.assert_allclose(high_frequency_fraction(torch.from_numpy(d)), expected, rtol=1e-12, atol=1e-15)


def test_white_noise_has_the_published_fraction():
    d = torch.randn(200, 3, 32, 32, generator=torch.Generator().manual_seed(11))
    assert float(high_frequency_fraction(d).mean()) == pytest.approx(0.712, abs=0.005)
    assert torch.isnan(high_frequency_fraction(torch.zeros(1, 1, 8, 9))).all()


# ---------------------------------------------------------------- the report
def test_report_is_a_plain_evaluation_of_the_corrupted_images(setting, report):
    net, images, labels = setting
    for k, name in ((1, "darker"), (2, "roll")):
        for s, severity in enumerate((1, 3)):
            corrupted = FUNCTIONS[name](images, severity)
            with torch.inference_mode():
                right = (net(corrupted).argmax(dim=1) == labels).double().mean()
            assert report.accuracy[k, s] == pytest.approx(float(right))
            fraction = high_frequency_fraction(corrupted.double() - images).mean()
            assert report.high_fraction_by_severity[k, s] == pytest.approx(float(fraction), rel=1e-5)
    assert report.clean_accuracy == 1.0
    assert (report.accuracy < 1).any() and report.has_baseline
    low, high = report.interval()
    assert (low <= report.accuracy).all() and (report.accuracy <= high).all()
    table = report.table()
    assert len(table) == 6 and table[3]["corruption"] == "darker" and table[3]["severity"] == 3


def test_line_is_scipys(report):
    fit, expected = report.fit(), stats.linregress(report.high_fraction, report.gain)
    assert (fit.slope, fit.intercept) == pytest.approx((expected.slope, expected.intercept))
    gain = report.accuracy.mean(axis=1) - report.baseline_accuracy.mean(axis=1)
    np.testing.assert_allclose(report.gain, gain, atol=1e-15)
    residuals = gain - expected.intercept - expected.slope * report.high_fraction
    assert fit.residual == pytest.approx((residuals**2).sum())
    assert fit.low < fit.slope < fit.high


def test_interval_of_the_slope_covers(report):
    """Gains drawn anew: the true slope, known from their means, lies in 95 % of the intervals."""
    rng = np.random.default_rng(0)
    k, n = 6, 400
    x = np.linspace(0.05, 0.7, k)
    right = 0.3 + 0.5 * x  # the model's accuracy; the baseline's is 0.4
    covered = 0
    for _ in range(200):
        wrong = np.stack([rng.random((k, 1, n)) > right[:, None, None], rng.random((k, 1, n)) > 0.4])
        drawn = dataclasses.replace(
            report,
            corruptions=tuple("abcdef"),
            severities=(1,),
            image_ids=np.arange(n),
            labels=np.zeros(n, np.int64),
            image_hashes=np.zeros(n, np.uint64),
            wrong=Outcomes.of(wrong[0]),
            clean_wrong=np.zeros(n, bool),
            baseline_wrong={"baseline": Outcomes.of(wrong[1])},
            baseline_clean_wrong={"baseline": np.zeros(n, bool)},
            fractions=np.broadcast_to(x.astype(np.float32)[:, None, None], (k, 1, n)),
        )
        fit = drawn.fit()
        covered += fit.low <= 0.5 <= fit.high
    assert 180 <= covered <= 199


def test_a_model_against_itself_gains_nothing(setting):
    net, images, labels = setting
    report = ff.corruption_report(net, images, labels, corruptions=FUNCTIONS, severities=(1, 4), baseline=net)
    assert not report.gain.any() and report.fit().slope == 0 and report.mean_corruption_error == 1.0


def test_neither_batches_nor_order_nor_shards_change_a_figure(setting, report, make_net):
    net, images, labels = setting
    torch.manual_seed(99)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    options = {"severities": (1, 3), "baseline": make_net(seed=1), "seed": 5}
    by_images = sum(
        (
            ff.corruption_report(net, images, labels, corruptions=FUNCTIONS, batch_size=4, shard=(i, 3), **options)
            for i in (1, 2)
        ),
        start=ff.corruption_report(net, images, labels, corruptions=FUNCTIONS, shard=(0, 3), **options),
    )
    one = {"noise": noise}
    rest = {"darker": darker, "roll": roll}
    by_corruptions = ff.corruption_report(net, images, labels, corruptions=one, **options) + ff.corruption_report(
        net, images, labels, corruptions=rest, **options
    )
    for merged in (by_images, by_corruptions):
        assert merged.corruptions == report.corruptions
        for name in ("image_ids", "labels", "clean_wrong", "fractions"):
            np.testing.assert_array_equal(getattr(merged, name), getattr(report, name))
        np.testing.assert_array_equal(merged.wrong.packed, report.wrong.packed)
        np.testing.assert_array_equal(
            merged.baseline_wrong["baseline"].packed, report.baseline_wrong["baseline"].packed
        )
        assert merged.fit() == report.fit()
    assert torch.equal(torch.get_rng_state(), before[0])  # the caller's random states are as they were
    assert (np.random.get_state()[1] == before[1]).all() and random.getstate() == before[2]  # noqa: NPY002
    other = ff.corruption_report(net, images, labels, corruptions=one, severities=(1, 3), seed=6)
    assert (other.fractions != report.fractions[:1]).all()


def test_merging_refuses_what_does_not_fit(setting, report, make_net):
    net, images, labels = setting
    with pytest.raises(ValueError, match="different images, 13 image ids are in both"):
        report + report
    options = {"corruptions": FUNCTIONS, "severities": (1, 3), "seed": 5, "first_image": 13}
    other = ff.corruption_report(net, images / 2, labels, **options)
    with pytest.raises(ValueError, match="same baseline"):
        report + other
    another = ff.corruption_report(net, images / 2, labels, baseline=make_net(seed=2), **options)
    with pytest.raises(ValueError, match="different weights"):
        report + another
    with pytest.raises(ValueError, match="with a baseline"):
        other.fit()


def test_saved_reports_come_back(report, tmp_path):
    report.save(tmp_path / "r.npz")
    loaded = ff.load(tmp_path / "r.npz")
    assert isinstance(loaded, CorruptionReport)
    assert loaded.fit() == report.fit() and loaded.corruptions == report.corruptions and loaded.shape == report.shape
    assert len(loaded.to_dataframe()) == 6


def test_plots(report, setting):
    net, images, labels = setting
    figure = report.plot()
    assert f"k = {report.fit().slope:.3f}" in figure.axes[1].get_title()
    alone = ff.corruption_report(net, images, labels, corruptions={"same": lambda x, severity: x, "roll": roll})
    assert np.isnan(alone.high_fraction[0])
    assert len(alone.plot().axes) == 2


def test_corruptions_may_work_in_place(setting):
    """`v.mul_(0.5)` gave [.375, .083] for [.375, .375], and overwrote the user's images."""
    net, images, labels = setting
    before = images.clone()

    def in_place(x, severity):
        return x.mul_(0.5)

    found, wanted = (
        ff.corruption_report(net, images, labels, corruptions={"half": f}, severities=(1, 2), channels_last=False)
        for f in (in_place, lambda x, severity: x * 0.5)
    )
    np.testing.assert_array_equal(found.wrong.packed, wanted.wrong.packed)
    np.testing.assert_array_equal(found.fractions, wanted.fractions)
    assert found.accuracy[0, 0] == found.accuracy[0, 1] and torch.equal(images, before)


def test_a_baseline_runs_as_the_model_does(setting, make_net, tmp_path):
    net, images, labels = setting
    options = {"corruptions": FUNCTIONS, "severities": (1, 3), "batch_size": 8}
    low, folded = (
        ff.corruption_report(net, images, labels, baseline=net, checkpoint=tmp_path / f"{i}.npz", **run, **options)
        for i, run in enumerate(({"precision": "bf16"}, {"fold_batch_norm": True}))
    )
    for report in (low, folded):  # a model against itself
        np.testing.assert_array_equal(report.wrong.packed, report.baseline_wrong["baseline"].packed)
    with pytest.raises(ValueError, match="very request.*baseline"):
        ff.corruption_report(
            net, images, labels, baseline=make_net(seed=1), checkpoint=tmp_path / "0.npz", precision="bf16", **options
        )
    difference = low.compare(
        ff.corruption_report(make_net(seed=1), images, labels, baseline=net, precision="bf16", **options)
    )
    assert difference.only_first.shape == (3, 2)


# ---------------------------------------------------------------- bad corruptions
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, severity: x[..., 1:], r"shape it got, .* = \(1, 3, 11, 14\), got \(1, 3, 11, 13\)"),
        (lambda x, severity: x * float("nan"), "got NaN at severity 1"),
        (lambda x, severity: x + 2, r"values from 2\.\d+ to 2\.\d+ at severity 1; clip"),
        (ff.ArrayCorruption(lambda x, severity: x[:, :, 0]), r"\(11, 14, 3\) \(h, w, c\), got \(11, 14\)"),
    ],
    ids=["size", "nan", "range", "array"],
)
def test_bad_corruptions_are_refused(setting, function, message):
    net, images, labels = setting
    with pytest.raises(ValueError, match=message):
        ff.corruption_report(net, images, labels, corruptions={"bad": function}, severities=(1,))


def test_errors_name_the_corruption(setting):
    net, images, labels = setting

    def broken(image, severity):
        raise KeyError("inside")

    with pytest.raises(KeyError) as caught:
        ff.corruption_report(net, images, labels, corruptions={"broken": broken}, severities=(2,))
    assert caught.value.__notes__[0] == "raised by the corruption 'broken' at severity 2 on image 0"
    for bad, message in (((), "at least one"), ((2, 1), "ascending")):
        options = {"corruptions": FUNCTIONS, "severities": bad} if bad else {"corruptions": {}}
        with pytest.raises(ValueError, match=message):
            ff.corruption_report(net, images, labels, **options)


# ---------------------------------------------------------------- arrays and files
def test_array_corruptions_see_eight_bit_pixels(setting):
    net, images, labels = setting
    seen = []

    def invert(image, severity):
        seen.append(image)
        return 255 - image

    report = ff.corruption_report(
        net, images, labels, corruptions={"invert": ff.ArrayCorruption(invert)}, severities=(1,)
    )
    pixels = np.round(images.numpy() * 255)
    np.testing.assert_array_equal(np.stack(seen), pixels.transpose(0, 2, 3, 1).astype(np.uint8))
    expected = high_frequency_fraction(torch.from_numpy((255 - 2 * pixels) / 255)).numpy()
    np.testing.assert_allclose(report.fractions[0, 0], expected, rtol=1e-5)


def write_cifar_c(folder, images, labels):
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    np.save(folder / "darker.npy", np.concatenate([pixels // (s + 1) for s in range(5)]))
    np.save(folder / "labels.npy", np.tile(labels.numpy(), 5))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def test_folders_as_cifar_10_c_ships_them(setting, tmp_path):
    net, images, labels = setting
    pixels = write_cifar_c(tmp_path, images, labels)
    functions = {"darker": ff.ArrayCorruption(lambda image, severity: image // severity)}
    from_files = ff.corruption_report(net, pixels, labels, corruptions=tmp_path, severities=(2, 5), shard=(1, 2))
    computed = ff.corruption_report(net, pixels, labels, corruptions=functions, severities=(2, 5), shard=(1, 2))
    np.testing.assert_array_equal(from_files.wrong.packed, computed.wrong.packed)
    np.testing.assert_array_equal(from_files.fractions, computed.fractions)
    assert from_files.source == "folder" and from_files.corruptions == ("darker",)
    with pytest.raises(ValueError, match="in the order of the clean ones, image 0 has label"):
        ff.corruption_report(net, pixels, (labels + 1) % 5, corruptions=tmp_path)
    with pytest.raises(ValueError, match="below 13 in darker.npy, got severity 1, image 20"):
        ff.corruption_report(net, pixels, labels, corruptions=tmp_path, first_image=8)


def test_folders_as_imagenet_c_ships_them(setting, tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    net, images, _ = setting
    labels = torch.arange(13) // 7
    pixels = (images * 255).round().byte()
    for i, (image, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
        folder = tmp_path / "darker" / "3" / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        image_module.fromarray((image // 3).permute(1, 2, 0).numpy()).save(folder / f"{i:02d}.png")
    (tmp_path / "darker" / "1").mkdir()
    functions = {"darker": ff.ArrayCorruption(lambda image, severity: image // severity)}
    from_files = ff.corruption_report(net, pixels, labels, corruptions=tmp_path, severities=(3,))
    computed = ff.corruption_report(net, pixels, labels, corruptions=functions, severities=(3,))
    np.testing.assert_array_equal(from_files.wrong.packed, computed.wrong.packed)
    np.testing.assert_array_equal(from_files.fractions, computed.fractions)


# ---------------------------------------------------------------- the package
def test_named_corruptions_come_from_the_package(setting, monkeypatch, make_images):
    net, *_ = setting
    images, labels = make_images(net, n=3, shape=(3, 32, 35))

    def rain(image, severity=1):  # like the package's spatter: divides 0 by 0 now and then
        array = np.asarray(image) / 255
        drops = np.random.rand() > 0.5  # noqa: NPY002
        layer = np.full(array.shape, float(drops))
        return (array * 0.5 + 0.1 * layer / layer.max()) * 255

    def glass(image, severity=1, seed=None):
        assert seed is not None
        return np.asarray(image) * np.random.default_rng(seed).random()

    package = types.ModuleType("imagecorruptions")
    functions = {"rain": rain, "glass": glass}
    package.corruption_dict = functions  # pyright: ignore[reportAttributeAccessIssue]
    package.corrupt = lambda image, severity, corruption_name, **options: np.uint8(  # pyright: ignore[reportAttributeAccessIssue]
        functions[corruption_name](image, severity, **options)
    )
    monkeypatch.setitem(sys.modules, "imagecorruptions", package)
    first = ff.corruption_report(net, images, labels, corruptions=["rain", "glass"], severities=(1, 2), seed=3)
    again = ff.corruption_report(net, images, labels, corruptions=["glass", "rain"], severities=(1, 2), seed=3)
    np.testing.assert_array_equal(first.fractions, again.fractions[::-1])
    assert np.isfinite(first.fractions).all() and first.source == "imagecorruptions"
    one = ff.common_corruption("glass", 2, seed=3)
    bytes_first = (images * 255).round() / 255
    changed = torch.cat([one(images[:1]), one(images[1:])]) - bytes_first  # calls are counted
    expected = high_frequency_fraction(changed).numpy()
    np.testing.assert_array_equal(expected, first.fractions[1, 1])
    shards = [ff.difference_spectrum(images, one, shard=(i, 2), batch_size=1) for i in range(2)]  # by image id
    whole = ff.difference_spectrum(images, one)
    np.testing.assert_array_equal((shards[1] + shards[0]).plane_sum.parts, whole.plane_sum.parts)
    with pytest.raises(ValueError, match="`severity` from 1 to 5, got 0"):
        ff.common_corruption("glass", 0)
    with pytest.raises(ValueError, match=r"corruptions of \['rain', 'glass'\], got 'hail'"):
        ff.corruption_report(net, images, labels, corruptions=["hail"])
    with pytest.raises(ValueError, match=r"at least 32 x 32, got .* \(11, 14, 3\)"):
        ff.corruption_report(net, *setting[1:], corruptions=["rain"])


def test_without_the_package_the_message_says_the_way_out(setting, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(ImportError, match=r"imagecorruptions-imaug .*pip install 'fastfreq\[corruptions\]'"):
        ff.corruption_report(*setting)
    assert len(corruption_sources.COMMON_CORRUPTIONS) == 15 and len(corruption_sources.EXTRA_CORRUPTIONS) == 4
