from __future__ import annotations

import dataclasses
import itertools
import warnings

import numpy as np
import pytest
from torch import nn

import fastfreq as ff
from fastfreq.inputs.quick_heatmap.draws import Draws
from fastfreq.vocabulary import fourier

pytestmark = pytest.mark.usefixtures("one_thread")

FIXED = {"batch_size": 16, "channels_last": False}


@pytest.fixture
def case(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=120)
    labels[::4] = (labels[::4] + 1) % 5  # else nothing is wrong as it is
    return net, images, labels


def drawn_by(result, ids):
    """(f + 1, n) bool: which conditions each image got, the last one as it is."""
    f = len(result.frequencies)
    draws = Draws(f, result.share, predicted=result.labelled == "predicted", seed=result.seed)
    tried = np.zeros((f + 1, len(ids)), bool)
    for i, row in enumerate(draws.of(np.asarray(ids))):
        tried[row, i] = True
    tried[f] |= draws.all_clean
    return tried


@pytest.mark.parametrize("share", [0.1, 0.4])
@pytest.mark.parametrize("convention", ["yin2019", "common_signs"])
def test_counts_are_those_of_the_whole_map_where_images_were_looked_at(case, share, convention):
    asked = {"eps": 4.0, "size": (5, 7), "convention": convention, "seed": 3, **FIXED}
    whole, quick = ff.heatmap(*case, **asked), ff.quick_heatmap(*case, **asked, share=share)
    tried = drawn_by(quick, range(120))
    np.testing.assert_array_equal(quick.drawn.sum(axis=1), tried[:-1].sum(axis=1))
    np.testing.assert_array_equal(quick.wrong.sum(axis=1), (whole.wrong.unpack() & tried[:-1]).sum(axis=1))
    assert (quick.clean_drawn, quick.clean_wrong) == (tried[-1].sum(), whole.clean_wrong[tried[-1]].sum())
    assert quick.passes == tried.sum() and quick.kinds.sum() == 120
    assert (len(quick.kinds) > 1) == (share == 0.4) == (quick.clean_error == whole.clean_error)
    assert (quick.drawn <= quick.kinds).all() and quick.count.shape == quick.pilot.shape == (5, 7)
    if share == 0.4:  # kinds by the margin of the image as it is: wrong ones are of the first
        assert quick.kinds[0] == whole.clean_wrong.sum()


@pytest.mark.parametrize("size", [(5, 7), (11, 14), 3])
def test_all_passes_give_the_whole_map(case, size):
    whole = ff.heatmap(*case, eps=4.0, size=size, **FIXED)
    quick = ff.quick_heatmap(*case, eps=4.0, size=size, share=1, **FIXED)
    assert quick.passes == quick.whole_passes == (len(whole.frequencies) + 1) * 120
    for found in (quick.error, quick.pilot, quick.low, quick.high):
        np.testing.assert_allclose(found, whole.error, atol=1e-12)
    assert quick.deviation.max() < 1e-9 and quick.clean_error == whole.clean_error


class Counting(nn.Module):
    """Counts the images that go through it and its copies."""

    seen = 0

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        Counting.seen += len(x)
        return self.net(x)


@pytest.mark.parametrize("share", [0.03, 0.1, 0.3])
def test_passes_are_no_more_than_the_share_and_are_those_made(make_net, make_images, share):
    net = make_net()
    images, labels = make_images(net, n=150)
    seen = {}
    for name, measure, more in (("whole", ff.heatmap, {}), ("quick", ff.quick_heatmap, {"share": share})):
        Counting.seen = 0
        result = measure(Counting(net).eval(), images, labels, eps=4.0, size=(9, 9), **more, **FIXED)
        seen[name] = Counting.seen, result
    (all_seen, whole), (some_seen, quick) = seen["whole"], seen["quick"]
    before = all_seen - 150 * (len(whole.frequencies) + 1)  # the checks of the model that every measurement makes
    assert some_seen - before == quick.passes
    assert 0.9 * share < quick.share_of_passes <= share and quick.whole_passes == all_seen - before
    assert f"{quick.passes:,} passes" in quick.headline()


def test_draws_know_seed_and_id_alone():
    for f, share, seed in itertools.product((5, 18, 145), (0.03, 0.21, 0.5, 1.0), (0, 2**63)):
        draws = Draws(f, share, predicted=False, seed=seed)
        ids = np.arange(300)
        rows = draws.of(ids)
        for part in (ids[7::3], ids[:1], ids[::-1]):
            again = Draws(f, share, predicted=False, seed=seed).of(part)
            assert all((a == rows[i]).all() for a, i in zip(again, part, strict=True))
        assert all(len(set(row.tolist())) == len(row) for row in rows)
        counts = np.bincount(np.concatenate(rows), minlength=draws.conditions)
        assert counts.sum() <= 300 * draws.rate and counts.sum() + 300 * draws.all_clean <= 300 * share * (f + 1) + 1e-9
        assert counts.sum() > 0.9 * 300 * draws.rate - 1 and np.ptp(counts) <= 0.2 * counts.mean() + 4
        assert len(draws.of(np.array([2**62]))[0]) <= draws.rate + 1
    one, other = (Draws(145, 0.1, predicted=False, seed=s).of(np.arange(40)) for s in (0, 1))
    assert not all((a == b).all() for a, b in zip(one, other, strict=True) if len(a) == len(b))


def test_each_image_is_as_likely_at_each_frequency():
    counts = np.zeros((12, 30))
    for seed in range(600):
        for i, row in enumerate(Draws(12, 0.25, predicted=False, seed=seed).of(np.arange(30))):
            counts[row[row < 12], i] += 1
    expected = counts.mean(axis=0)  # an image where two permutations meet has a few less, at all alike
    assert (np.abs(counts - expected) < 5 * expected**0.5).all() and (expected > 120).all()


def test_a_share_is_the_decimal_number_that_was_written():
    draws = Draws(9, 0.3, predicted=False, seed=0)  # in binary .3 is less, and the third pass would come late
    assert draws.rate == 3 and len(draws.of(np.array([0]))[0]) == 3


def test_too_little_is_refused_with_the_way_out(case):
    net, images, labels = case
    for bad in (0, -0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="`share`"):
            ff.quick_heatmap(net, images, labels, eps=1.0, share=bad)
    with pytest.raises(TypeError, match="expected `share` as a number"):
        ff.quick_heatmap(net, images, labels, eps=1.0, share="3%")
    with pytest.raises(ValueError, match="each of 79 .*, got 20 images and passes for 47 .* give 34 images") as e:
        ff.quick_heatmap(net, images[:20], labels[:20], eps=1.0)
    assert "1.67 times the `share`, or a smaller `size`" in str(e.value)
    ff.quick_heatmap(net, images[:34], labels[:34], eps=1.0)
    ff.quick_heatmap(net, images[:20], labels[:20], eps=1.0, share=0.0507)
    with pytest.raises(ValueError, match=r"above 0.0125 with labels='predicted', which take one of 80 passes"):
        ff.quick_heatmap(net, images, "predicted", eps=1.0, share=0.01)


def test_a_shard_may_be_too_small_and_a_stream_is_told(case, tmp_path):
    net, images, labels = case
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shards = [ff.quick_heatmap(net, images, labels, eps=4.0, shard=(i, 40)) for i in range(40)]
    whole = ff.quick_heatmap(net, images, labels, eps=4.0)
    merged = shards[0]
    assert (merged.drawn.sum(axis=1) == 0).any() and np.isfinite(merged.error).all() and np.isnan(merged.pilot).any()
    for shard in shards[1:]:
        merged = merged + shard
    np.testing.assert_array_equal(merged.wrong, whole.wrong)
    np.testing.assert_array_equal(merged.error, whole.error)
    merged.save(tmp_path / "map.npz")
    assert ff.load(tmp_path / "map.npz").edges == () == whole.edges
    with pytest.warns(UserWarning, match=r"of 78 frequencies got no image: 10 images at a share of 0.03 are too few"):
        few = ff.quick_heatmap(net, ((images[i : i + 5], labels[i : i + 5]) for i in (0, 5)), eps=4.0)
    assert np.isfinite(few.error).all() and few.n_images == 10


def test_predicted_labels_cost_a_pass_in_both_maps(case):
    net, images, _ = case
    for share in (0.12, 0.5):
        quick = ff.quick_heatmap(net, images, "predicted", eps=4.0, size=(5, 7), share=share)
        assert quick.clean_error == 0 and quick.whole_passes == 120 * 20
        assert 0.9 * share < quick.share_of_passes <= share


def test_an_ordinary_network_and_an_uneven_map(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=400)
    whole = ff.heatmap(net, images, labels, eps=4.0, size=(9, 14))
    quick = ff.quick_heatmap(net, images, labels, eps=4.0, size=(9, 14), share=0.1)
    held = (quick.low - 1e-12 <= whole.error) & (whole.error <= quick.high + 1e-12)
    assert held.mean() > 0.85
    raw, smooth = (np.abs(each - whole.error).mean() for each in (quick.pilot, quick.error))
    assert smooth < 0.7 * raw
    rows = quick.table()
    assert len(rows) == len(fourier.unique_frequencies((11, 14), (9, 14))[0])
    assert rows[0].keys() >= {"ky", "kx", "count", "error", "error_low", "error_high", "pilot"}
    narrow, wide = (np.subtract(*quick.interval(confidence=c)[::-1]).mean() for c in (0.5, 0.99))
    assert narrow < wide


def test_counts_of_other_kinds_of_images_are_refused(case):
    quick = ff.quick_heatmap(*case, eps=4.0, size=(5, 7), share=0.4, **FIXED)
    with pytest.raises(ValueError, match=r"expected `kinds` of shape \(s\) with s = \d"):
        dataclasses.replace(quick, kinds=np.append(quick.kinds, 0))
