from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff
from fastfreq import plots
from fastfreq.plots import band_curves
from fastfreq.vocabulary import masks, statistics

BANDS = [0, 1, 4, 5, 11]


@pytest.fixture
def problem(make_net, make_images):
    net = make_net()
    return net, *make_images(net, n=37)


def by_hand(net, images, labels, kept):
    """Wrong predictions of every mask with NumPy's transform."""
    filtered = [np.fft.ifft2(np.fft.fft2(images.numpy()) * mask).real for mask in kept]
    with torch.inference_mode():
        return np.stack([(net(torch.tensor(f, dtype=torch.float32)).argmax(1) != labels).numpy() for f in filtered])


@pytest.mark.parametrize("kind", ["low", "high", "complement_radial", "diamond"])
def test_filter_curve_is_the_model_on_filtered_images(problem, kind):
    net, images, labels = problem
    curve = ff.filter_curve(net, images, labels, kind=kind, bandwidths=BANDS, metrics=("loss",))
    wrong = by_hand(net, images, labels, masks.stack(kind, (11, 14), BANDS))
    np.testing.assert_array_equal(~curve.correct, wrong)
    np.testing.assert_allclose(curve.accuracy, 1 - wrong.mean(axis=1))
    low, high = statistics.wilson(37 - wrong.sum(axis=1), 37)
    np.testing.assert_allclose((curve.low, curve.high), (low, high), atol=1e-12)
    assert curve.clean_accuracy == 1 and 0 < curve.accuracy.min() < 1
    assert curve.metric("loss").shape == (5,) and curve.clean_metric("loss") > 0


@pytest.mark.parametrize("measure", [ff.filter_curve, ff.noise_curve])
def test_neither_batches_nor_shards_nor_precision_of_pixels_change_a_curve(problem, measure):
    net, images, labels = problem
    pixels = (images * 255).round().to(torch.uint8)
    keywords = {"norm": 2.0, "seed": 3} if measure is ff.noise_curve else {}
    keywords |= {"bandwidths": BANDS, "metrics": ("loss", "top2_error")}
    whole = measure(net, pixels, labels, **keywords, batch_size=37)
    others = [
        measure(net, pixels, labels, **keywords, batch_size=1),
        measure(net, pixels.float() / 255, labels, **keywords, channels_last=False),
        measure(net, zip(pixels.split(10), labels.split(10), strict=True), **keywords, batch_size=7),
        sum_of(measure(net, pixels, labels, **keywords, shard=(i, 3), batch_size=50) for i in (2, 0, 1)),
        sum_of(measure(net, pixels, labels, **{**keywords, "bandwidths": part}) for part in (BANDS[3:], BANDS[:3])),
    ]
    for other in others:
        for name in ("wrong", "clean_wrong", "labels", "image_ids", "bandwidths"):
            np.testing.assert_array_equal(getattr(other, name), getattr(whole, name))
        np.testing.assert_allclose(other.metric("loss"), whole.metric("loss"), rtol=1e-5)
        np.testing.assert_allclose(other.distance, whole.distance, rtol=1e-5)


def sum_of(curves):
    first, *rest = curves
    for curve in rest:
        first = first + curve
    return first


def test_noise_has_its_norm_in_each_channel_and_none_at_bandwidth_0(problem):
    net, images, labels = problem
    curve = ff.noise_curve(net, images, labels, norm=3.0, bandwidths=BANDS, clip=False, metrics=("loss",))
    np.testing.assert_allclose(curve.distance, [0, 3, 3, 3, 3], rtol=1e-5)
    assert curve.accuracy[0] == curve.clean_accuracy and curve.metric("loss")[0] == curve.clean_metric("loss")
    clipped = ff.noise_curve(net, images, labels, norm=3.0, bandwidths=BANDS)
    assert (clipped.distance[1:] < 2.99).all() and (clipped.distance[1:] > 1.5).all()
    other = ff.noise_curve(net, images, labels, norm=3.0, bandwidths=BANDS, seed=1)
    assert (other.wrong.unpack() != clipped.wrong.unpack()).any()


def test_masks_of_the_caller(problem):
    net, images, labels = problem
    kept = masks.stack("low", (11, 14), [5, 9])
    own = ff.filter_curve(net, images, labels, kind=kept)
    named = ff.filter_curve(net, images, labels, bandwidths=[5, 9])
    np.testing.assert_array_equal(own.wrong, named.wrong)
    assert own.mask.startswith("custom-") and own.bandwidths.tolist() == [0, 1]
    with pytest.raises(ValueError, match="the same mask"):
        own + named


def test_contrast_and_clipping_reach_the_model(problem):
    _, images, labels = problem
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(x)
            return torch.zeros(len(x), 5)

    ff.filter_curve(Spy().eval(), images, labels, kind="high", bandwidths=[5], normalise_contrast=True, batch_size=37)
    for side in (0, 1):  # as they are, then filtered
        torch.testing.assert_close(seen[side - 2].mean(dim=(1, 2, 3)), images.mean(dim=(1, 2, 3)))
        torch.testing.assert_close(seen[side - 2].std(dim=(1, 2, 3)), images.std(dim=(1, 2, 3)))
    ff.filter_curve(Spy().eval(), images, labels, kind="high", bandwidths=[5], clip=True, batch_size=37)
    assert seen[-1].min() == 0 and seen[-1].max() > 0


def test_curves_are_drawn_by_family_and_model(problem):
    net, images, labels = problem
    curves = [ff.filter_curve(net, images, labels, kind=kind) for kind in ("low", "high", "band")]
    noise = ff.noise_curve(net, images, labels, norm=2.0)
    figure = band_curves.plot_many({"a": [*curves, noise], "_$b": curves[0]})
    titles = [axes.get_title().split("\n")[0] for axes in figure.axes if axes.get_visible()]
    assert titles == ["filter yin_low", "filter yin_high", "filter octave", "noise of norm 2 in yin_low, clipped"]
    first = figure.axes[0]
    assert first.get_ylim() == (0, 1) and len(first.lines) == 4  # two curves, two clean accuracies
    np.testing.assert_array_equal(first.lines[0].get_ydata(), curves[0].accuracy)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["a", "_$b", "same colour: images as they are"]
    with pytest.raises(ValueError, match="expected one curve of 'a' per family"):
        band_curves.plot_many({"a": [noise, noise]})
    with pytest.raises(ValueError, match="expected at least one curve"):
        band_curves.plot_many({})
    assert len(plots.figure_png(curves[0].plot(metric="error", others={"b": curves[0]}))) > 1000


def test_filtered_images_are_drawn_for_any_size():
    for shape in ((3, 11, 14), (1, 32, 32)):
        figure = plots.plot_filtered(torch.rand(shape), kinds=("low", "high", "complement_diamond", "band"))
        assert len(plots.figure_png(figure, dpi=50)) > 1000
    with pytest.raises(ValueError, match="1 or 3 channels"):
        plots.plot_filtered(torch.rand(2, 8, 8))


def test_a_naturally_trained_network_bears_low_frequencies_better(shared_data, tmp_path):
    """Figure 5 of Yin et al.: .73 under noise in the lowest 3 x 3 frequencies, .10 in the highest."""
    factory = "\ndef resnet20():\n    return CifarResNet(3)\n"
    (tmp_path / "nets.py").write_text((shared_data / "cifar_nets.py").read_text() + factory)
    weights = shared_data / "weights" / "cifar10_resnet20.safetensors"
    net = ff.load_model(f"{tmp_path / 'nets.py'}:resnet20", weights=weights).model
    model = ff.NormalizedModel(net, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)).eval()
    data = ff.load_data(shared_data / "cifar10" / "cifar10_subset.npz", limit=200)
    low, high = (ff.noise_curve(model, data, kind=kind, norm=8.0, bandwidths=[0, 3]) for kind in ("low", "high"))
    assert low.clean_accuracy == low.accuracy[0] > 0.85
    assert low.low[1] > 0.4 > 0.2 > high.high[1]


class Nan(nn.Module):
    def forward(self, x):
        return torch.full((len(x), 5), float("nan"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bandwidths": [15]}, "expected an integer bandwidth from 0 to 14 for images of 11 x 14, got 15"),
        ({"bandwidths": []}, "expected a list of `bandwidths`, at least one"),
        ({"bandwidths": [3, 3]}, "expected different `bandwidths`"),
        ({"kind": "middle"}, "expected a mask of"),
        ({"kind": np.ones((2, 11, 11))}, r"expected masks of shape \(b, 11, 14\)"),
        ({"kind": np.ones((2, 11, 14)), "bandwidths": [1]}, r"expected one bandwidth per mask \(2\), got 1"),
        ({"batch_size": 0}, "expected a positive `batch_size`"),
        ({"images": torch.zeros(0, 3, 11, 14), "labels": torch.zeros(0).long()}, "expected at least one image"),
        ({"images": []}, "expected no `labels` beside a list, which holds its own"),
        ({"labels": torch.full((37,), 5)}, "expected labels below 5"),
        ({"images": torch.full((37, 3, 11, 14), 2.0)}, r"expected `images` in \[0, 1\]"),
    ],
)
def test_bad_arguments_are_refused(problem, change, message):
    net, images, labels = problem
    arguments = {"images": images, "labels": labels, **change}
    with pytest.raises(ValueError, match=message):
        ff.filter_curve(net, **arguments)


@pytest.mark.parametrize(
    ("norm", "error", "message"),
    [
        (0, ValueError, "expected a positive `norm`"),
        (-1.0, ValueError, "expected a positive `norm`"),
        (float("nan"), ValueError, "a finite number as `norm`"),
        (float("inf"), ValueError, "a finite number as `norm`"),
        ("8", TypeError, "`norm` as a number"),
    ],
)
def test_norms_that_are_none_are_refused(problem, norm, error, message):
    net, images, labels = problem
    with pytest.raises(error, match=message):
        ff.noise_curve(net, images, labels, norm=norm)


def test_nan_logits_and_curves_that_do_not_fit_are_refused(problem):
    net, images, labels = problem
    with pytest.raises(FloatingPointError, match="without any change for image 0"):
        ff.filter_curve(Nan().eval(), images, labels)
    whole = ff.filter_curve(net, images, labels, bandwidths=[3])
    other = ff.filter_curve(net, images[:5], labels[:5], bandwidths=[5], first_image=50)
    for second, message in (
        (other, "these differ in both"),
        (ff.filter_curve(net, images, labels, bandwidths=[3], metrics=("loss",)), "the same sums"),
    ):
        with pytest.raises(ValueError, match=message):
            whole + second
