from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import fastfreq as ff
from fastfreq.results import store, tables
from fastfreq.vocabulary.sums import ExactSum


@pytest.fixture
def pair(make_net, make_images):
    net, other = make_net(), make_net(seed=1)
    images, labels = make_images(net, n=30)
    return [ff.heatmap(m, images, labels, eps=1.5, metrics=("loss",), layers=["stem"]) for m in (net, other)]


def test_files_that_are_no_results_are_refused(tmp_path, pair):
    with pytest.raises(FileNotFoundError, match="found no file"):
        ff.load(tmp_path / "nothing.npz")
    (tmp_path / "text.npz").write_text("not a zip")
    with pytest.raises(ValueError, match="is not one or is damaged"):
        ff.load(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="expected a result saved by fastfreq"):
        ff.load(tmp_path / "other.npz")
    np.savez(tmp_path / "pickle.npz", fastfreq=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False|damaged"):
        ff.load(tmp_path / "pickle.npz")
    store.write_arrays(tmp_path / "part.npz", "heatmap", {"fields": {}}, {})
    with pytest.raises(ValueError, match="damaged"):
        ff.load(tmp_path / "part.npz")
    pair[0].save(tmp_path / "good.npz")
    whole = (tmp_path / "good.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged"):
        ff.load(tmp_path / "cut.npz")


def test_comparison_counts_discordant_images(pair):
    first, second = pair
    comparison = first.compare(second)
    a, b = first.wrong.unpack(), second.wrong.unpack()
    np.testing.assert_array_equal(comparison.only_first, first.to_map((a & ~b).sum(axis=1)))
    np.testing.assert_array_equal(comparison.only_second, first.to_map((b & ~a).sum(axis=1)))
    np.testing.assert_allclose(comparison.difference, second.error - first.error, atol=1e-12)
    assert comparison.significant().any()  # the labels are the first model's own predictions
    assert not first.compare(first).significant().any()
    low, high = comparison.interval()
    assert (low <= comparison.difference + 0.05).all() and (comparison.difference - 0.05 <= high).all()


def test_only_the_same_measurement_is_compared_or_merged(make_net, make_images, pair):
    net = make_net()
    images, labels = make_images(net, n=30)
    other = ff.heatmap(net, images, labels, eps=1.0)
    with pytest.raises(ValueError, match="of the same eps"):
        pair[0].compare(other)
    left = ff.heatmap(net, images[:5], labels[:5], eps=1.0, frequencies=[(0, 0)])
    right = ff.heatmap(net, images[5:], labels[5:], eps=1.0, frequencies=[(0, 1), (1, 1)], first_image=5)
    with pytest.raises(ValueError, match="differ in both"):
        left + right


def test_cells_that_were_not_evaluated_are_nan(make_net, make_images):
    net = make_net()
    images, labels = make_images(net)
    part = ff.heatmap(net, images, labels, eps=2.0, frequencies=[(1, 2), (0, 0)])
    assert np.isfinite(part.error).sum() == 3  # zero, and a pair of twins
    assert (part.count > 0).sum() == 3
    with pytest.raises(ValueError, match="complete map for a radial profile"):
        part.radial()


def test_a_radial_profile_averages_rings_over_images(pair):
    result = pair[0]
    profile = result.radial()
    assert profile.cells.sum() == result.error.size
    assert np.average(profile.value, weights=profile.cells) == pytest.approx(result.error.mean())
    assert (profile.low <= profile.value).all() and (profile.value <= profile.high).all()


def test_a_data_frame_has_one_row_per_frequency(pair):
    frame = pair[0].to_dataframe()
    assert len(frame) == len(pair[0].frequencies)
    assert {"ky", "kx", "radius", "count", "error", "error_low", "loss", "clean_error", "stem_cosine"} <= set(frame)
    assert frame["error"].mean() == pytest.approx(pair[0].wrong_counts.mean() / 30)


def test_binary_metrics_get_wilson_intervals(make_net, make_images):
    net = make_net()
    images, labels = make_images(net)

    def same(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return logits.argmax(dim=1) != labels

    result = ff.heatmap(net, images, labels, eps=2.0, metrics={"again": same})
    np.testing.assert_array_equal(result.metric("again"), result.error)
    np.testing.assert_array_equal(result.interval("again"), (result.low, result.high))


def test_sums_that_numpy_would_stretch_are_refused_and_the_checkpoint_is_named(tmp_path, make_net, make_images):
    """Sums that lost a side, added to others, would let one figure count for all."""
    net = make_net()
    images, labels = make_images(net, n=4)
    options = {"eps": 1.0, "size": (3, 3), "layers": ("body",), "batch_size": 2}
    short = ff.heatmap(net, images[:2], labels[:2], **options)
    object.__setattr__(short, "layers", {"body": ExactSum(short.layers["body"].parts[..., :1])})
    other = ff.heatmap(net, images[2:], labels[2:], first_image=2, **options)
    with pytest.raises(ValueError, match="expected two results with `layers` of one layout"):
        short + other
    short.save(tmp_path / "c.npz")
    with pytest.raises(ValueError, match=r"c\.npz is damaged: expected `layers` of shape \(m 3\)"):
        ff.heatmap(net, images, labels, checkpoint=tmp_path / "c.npz", **options)


def test_figures_whose_shapes_do_not_belong_together_are_refused(pair):
    sums = pair[0].layers["stem"]
    with pytest.raises(ValueError, match=r"expected `layers` of shape \(m 3\) with m = \d+, got \(\d+, 1\)"):
        dataclasses.replace(pair[0], layers={"stem": ExactSum(sums.parts[..., :1])})
    with pytest.raises(ValueError, match=r"expected `labels` of shape \(n\)"):
        dataclasses.replace(pair[0], labels=pair[0].labels[None])


def test_a_spectrum_that_is_nan_has_no_power_law_and_says_so(make_net, make_images):
    images, _ = make_images(make_net(), n=4)
    found = ff.image_spectrum(images)
    nan = dataclasses.replace(found, ring_sum=ExactSum(np.full_like(found.ring_sum.parts, np.nan)))
    with pytest.raises(ValueError, match="expected power in every ring to take its logarithm, ring 1 has none"):
        nan.slope()
    assert nan.headline().startswith("no power law") and nan.summary()


def test_figures_with_intervals_have_two_digits_of_the_half_width():
    rows = [
        {"x": 0.17565, "x_low": 0.1501, "x_high": 0.2039},
        {"x": 1234.4, "x_low": 1200.0, "x_high": 1300.0},
        {"x": 0.0, "x_low": 0.0, "x_high": 0.0},
        {"x": 0.25, "x_low": float("nan"), "x_high": float("nan")},
    ]
    _, shown = tables.table_rows(rows)
    assert [cell for (cell,) in shown] == ["0.176 [0.150, 0.204]", "1234 [1200, 1300]", "0 [0, 0]", "0.25"]
