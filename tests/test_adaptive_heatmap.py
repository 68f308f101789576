from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff
from fastfreq.inputs.adaptive_heatmap import AdaptiveHeatmap
from fastfreq.inputs.adaptive_heatmap.arguments import seconds
from fastfreq.inputs.adaptive_heatmap.plans import Known, Wanted, expected_counts


@pytest.fixture
def case(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=150)
    return net, images, labels


@pytest.mark.parametrize("method", ["controls", "exact", "anytime"])
def test_outcomes_are_those_of_the_whole_map_where_they_were_looked_at(case, method):
    whole = ff.heatmap(*case, eps=2.0, size=(5, 7), convention="common_signs", seed=3)
    part = ff.adaptive_heatmap(*case, eps=2.0, size=(5, 7), precision_goal=0.12, method=method, seed=3)
    tried = part.tried.unpack()
    np.testing.assert_array_equal(part.wrong.unpack(), whole.wrong.unpack() & tried)
    assert part.half_width <= 0.12 + 1e-12 and part.share_of_passes < 1
    assert part.passes == tried.sum() + part.reached.sum() and not (tried & ~part.reached).any()
    assert ((part.low - 1e-12 <= whole.error) & (whole.error <= part.high + 1e-12)).mean() > 0.8
    assert part.count.shape == (5, 7) and (part.count == part.count[::-1, ::-1]).all()
    if method != "anytime":
        again = ff.adaptive_heatmap(
            *case, eps=2.0, size=(5, 7), precision_goal=0.12, method=method, seed=3, batch_size=37
        )
        np.testing.assert_array_equal(again.tried.packed, part.tried.packed)
        np.testing.assert_allclose(again.estimates, part.estimates, atol=1e-5)  # margins round as logits do


def test_classes_of_equal_logits_are_those_of_the_heat_map(case):
    class Coarse(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return (self.net(x) * 4).round() / 4

    net, images, labels = Coarse(case[0]).eval(), case[1], case[2].clone()
    with torch.no_grad():
        logits = net(images)
    tied = logits == logits.amax(dim=1, keepdim=True)
    last = logits.shape[1] - 1 - tied.flip(1).int().argmax(dim=1)  # the last of the largest: argmax says the first
    labels[tied.sum(dim=1) > 1] = last[tied.sum(dim=1) > 1]
    assert (tied.sum(dim=1) > 1).any()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # waves of this size hardly change coarse logits
        whole = ff.heatmap(net, images, labels, eps=2.0, size=3)
        part = ff.adaptive_heatmap(net, images, labels, eps=2.0, size=3, method="exact", precision_goal=0.02)
    np.testing.assert_array_equal(part.clean_wrong, whole.clean_wrong & part.reached)


def test_all_images_leave_nothing_open(case):
    net, images, labels = case
    whole = ff.heatmap(net, images[:30], labels[:30], eps=2.0, size=(3, 5), convention="common_signs")
    for method in ("controls", "exact", "anytime"):
        part = ff.adaptive_heatmap(
            net, images[:30], labels[:30], eps=2.0, size=(3, 5), precision_goal=0.001, method=method
        )
        for end in (part.error, part.low, part.high):
            np.testing.assert_allclose(end, whole.error, atol=1e-12)
    source = ff.adaptive_heatmap(
        net, images[:30], labels[:30], eps=2.0, size=(3, 5), precision_goal=0.1, method="exact", target="source"
    )
    assert source.half_width > 0.1 and (source.count == 30).all()


def test_a_whole_map_costs_more(case):
    arguments = {"eps": 2.0, "size": (3, 5), "precision_goal": 0.15, "method": "exact"}
    each, all_cells = (ff.adaptive_heatmap(*case, **arguments, whole_map=whole) for whole in (False, True))
    assert all_cells.passes > each.passes and all_cells.half_width <= 0.15 + 1e-12


def test_a_budget_gives_a_whole_map_early_and_a_file_that_is_always_one(case, tmp_path):
    path = tmp_path / "map.npz"
    short = ff.adaptive_heatmap(*case, eps=2.0, size=(7, 7), budget="1e-6s", checkpoint=path)
    assert short.method == "anytime" and 0 < np.count_nonzero(short.count) < 49  # one round: the coarsest grid
    assert (short.lows[short.tried.counts == 0] == 0).all() and np.isnan(short.error[short.count == 0]).all()
    np.testing.assert_array_equal(ff.load(path).highs, short.highs)
    arguments = {"eps": 2.0, "size": (7, 7), "precision_goal": 0.2}
    long = ff.adaptive_heatmap(*case, budget=60, **arguments)
    assert long.half_width <= 0.2 and (long.count > 0).all() and long.expected_passes == long.passes
    started = ff.adaptive_heatmap(*case, budget=1e-6, **arguments)
    assert 0.4 < started.expected_passes / long.passes < 1.5 and started.passes < 0.1 * long.passes
    assert started.details["finish"].startswith("± 0.2 after about ")
    with pytest.raises(ValueError, match="expected a new file for `checkpoint`"):
        ff.adaptive_heatmap(*case, eps=2.0, size=(7, 7), checkpoint=path)


def test_the_estimate_of_what_is_left():
    nothing = Known.nothing(np.zeros((3, 400), bool), np.zeros((3, 400)), np.zeros(400))
    known = nothing.after(Wanted.first(np.array([100, 100, 0]), 400))
    low, high = np.array([0.0, 0.4, 0.0]), np.array([0.04, 0.6, 1.0])
    of_source = expected_counts(known, low, high, 0.05, None)
    np.testing.assert_array_equal(of_source, [100, 400, 250])  # half the width of the second: four times the images
    np.testing.assert_array_equal(expected_counts(known, low, high, 0.05, 400), [100, 229, 165])  # 1 / n - 1 / N


HOW = {"eps": 2.0, "size": 1, "precision_goal": 0.25, "method": "anytime", "batch_size": 16, "channels_last": False}


class Cropped(torch.utils.data.Dataset):
    """Brighter by chance each time, as augmentation for training makes images."""

    def __init__(self, images, labels):
        self.images, self.labels, self.rng = images, labels, np.random.default_rng(0)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i] * float(self.rng.uniform(0.9, 1)), int(self.labels[i])


def test_images_that_are_others_in_a_later_pass_are_refused(case):
    with pytest.raises(ValueError, match="the same images and labels in every pass, image 0 is another one in a later"):
        ff.adaptive_heatmap(case[0], Cropped(*case[1:]), **HOW)


def test_images_are_those_that_a_loader_gives(case):
    """Not those that its length says: here two views of each, then all but those of a class."""
    net, images, labels = case
    rows = torch.arange(150).repeat_interleave(2)
    for keep in (rows, (labels > 0).nonzero().flatten()):
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(images, labels),
            batch_size=150,
            collate_fn=lambda _samples, keep=keep: (images[keep], labels[keep]),
        )
        found = ff.adaptive_heatmap(net, loader, **HOW)
        plain = ff.adaptive_heatmap(net, images[keep], labels[keep], **HOW)
        np.testing.assert_array_equal(found.wrong.packed, plain.wrong.packed)


@pytest.mark.filterwarnings("ignore:the model is right on:UserWarning")
def test_classes_are_predicted_once_for_all_rounds(case):
    net, images, _ = case
    ran = []

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            ran.append(len(x))
            return self.net(x)

    how = {"eps": 2.0, "size": 1, "convention": "common_signs", "batch_size": 16, "channels_last": False}
    found = ff.adaptive_heatmap(Counting().eval(), images, "predicted", precision_goal=0.12, method="anytime", **how)
    whole = ff.heatmap(net, images, "predicted", **how)
    np.testing.assert_array_equal(found.wrong.unpack(), whole.wrong.unpack() & found.tried.unpack())
    assert found.passes == 150 + found.tried.unpack().sum() + found.tried.unpack().any(axis=0).sum()
    assert found.share_of_passes < 1 and sum(ran) < found.passes + 150, "but for six images that tell models apart"


@pytest.mark.filterwarnings("ignore:the model is right on:UserWarning")
def test_one_image_is_known_at_once(case):
    found = ff.adaptive_heatmap(case[0], case[1][:1], case[2][:1], eps=2.0, size=1)
    assert found.half_width == 0 and found.n_images == 1


def test_the_precision_that_the_first_round_chose_is_that_of_all(case, monkeypatch):
    chosen = iter(["bf16", *["fp32"] * 99])  # a machine that is busy now and then
    monkeypatch.setattr("fastfreq.engine.tuning.faster_precision", lambda *_: next(chosen))
    found = ff.adaptive_heatmap(*case, **HOW, precision="fastest")
    assert found.details["precision"] == "bf16" and next(chosen) == "fp32" and len(list(chosen)) == 98


def test_what_no_round_left_beside_a_checkpoint_stays(case, tmp_path):
    other = tmp_path / "c.npz.parts" / "other.npz"
    other.parent.mkdir()
    other.touch()
    ff.adaptive_heatmap(*case, **HOW, checkpoint=tmp_path / "c.npz")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["c.npz", "c.npz.parts", "other.npz"]
    with pytest.raises(ValueError, match="exists and is finished"):
        ff.adaptive_heatmap(*case, **HOW, checkpoint=tmp_path / "c.npz")


def test_a_map_that_cannot_be_written_is_not_lost(case, tmp_path, monkeypatch):
    def full(self, _path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AdaptiveHeatmap, "save", full)
    with pytest.warns(UserWarning, match=r"could not be written to .*c.npz \(.*No space left"):
        found = ff.adaptive_heatmap(*case, **HOW, checkpoint=tmp_path / "c.npz")
    assert found.half_width <= 0.25


def test_times_in_words():
    assert [seconds(t) for t in (5, "90s", "10min", "2h", "1.5")] == [5, 90, 600, 7200, 1.5]
    for bad in ("10 days", "-1s", 0, "nan"):
        with pytest.raises(ValueError, match="expected a `budget` in seconds"):
            seconds(bad)


def test_refusals(case):
    for change, message in (
        ({"method": "best"}, "'controls', 'exact' or 'anytime', got 'best'"),
        ({"target": "all"}, "'images' or 'source', got 'all'"),
        ({"precision_goal": 0.5}, "between 0 and 0.5"),
    ):
        with pytest.raises(ValueError, match=message):
            ff.adaptive_heatmap(*case, eps=2.0, **change)
    with pytest.raises(TypeError, match="expected no `shard`"):
        ff.adaptive_heatmap(*case, eps=2.0, shard=(0, 2))
    with pytest.raises(ValueError, match="read more than once"):
        ff.adaptive_heatmap(case[0], iter([case[1:]]), eps=2.0)
    result = ff.adaptive_heatmap(*case, eps=2.0, size=(3, 3), precision_goal=0.3)
    with pytest.raises(TypeError, match="an AdaptiveHeatmap is whole"):
        _ = result + result
