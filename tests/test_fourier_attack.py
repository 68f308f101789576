from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import fastfreq as ff
from fastfreq import plots
from fastfreq.vocabulary import fourier

SIGNS = np.array(list(itertools.product((1, -1), repeat=3)))


class Reads(nn.Module):
    """Two classes by the amplitude of one wave, whose channels count with given signs."""

    def __init__(self, frequency: tuple[int, int], shape: tuple[int, int], signs: tuple[int, ...]) -> None:
        super().__init__()
        first = tuple(fourier.oriented(np.array(frequency), shape, "first"))  # which the convention gives the phase to
        wave = torch.from_numpy(fourier.basis_image(first, shape, math.pi / 4)).float()
        self.weight = nn.Parameter(torch.tensor(signs)[:, None, None] * wave)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = ((x - 0.5) * self.weight).sum(dim=(1, 2, 3)) + 1
        return torch.stack([z, -z], dim=1)


def fooled(net, image, label, result):
    """(q,) whether each query fools, by NumPy's basis images."""
    at = result.convention.oriented(result.frequencies, tuple(image.shape[1:]))
    waves = [fourier.basis_image(tuple(k), tuple(image.shape[1:]), result.convention.phase) for k in at]
    seen = image.double().numpy() + result.eps * result.signs[:, :, None, None] * np.stack(waves)[:, None]
    seen = seen.clip(0, 1) if result.convention.clip else seen
    with torch.inference_mode():
        return (net(torch.from_numpy(seen).float()).argmax(dim=1) != label).numpy()


@pytest.mark.parametrize(("shape", "eps"), [((6, 6), 0.35), ((5, 8), 0.2)], ids=str)
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("order", ["low", "random"])
def test_the_first_success_is_that_of_trying_one_query_after_the_other(make_net, make_images, shape, eps, clip, order):
    net = make_net()
    images, labels = make_images(net, n=8, shape=(3, *shape))
    labels[2] = (labels[2] + 1) % 5
    result = ff.fourier_attack(net, images, labels, eps=eps, clip=clip, order=order, batch_size=16)
    assert len(result.frequencies) == 8 * len(fourier.unique_frequencies(shape)[0])
    assert 0 < result.success.sum() < 7  # some are fooled, some by no query
    for i in range(8):
        expected = fooled(net, images[i], int(labels[i]), result)
        if i == 2:
            assert result.clean_wrong[i] and not result.success[i] and result.queries[i] == 0
        elif expected.any():
            assert result.found[i] == expected.argmax() == result.queries[i] - 1
        else:
            assert result.found[i] == -1 and result.queries[i] == len(expected)


def test_every_frequency_is_asked_with_every_combination_of_signs_once(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, shape=(3, 7, 6))
    asked = {}
    for order in ("low", "high", "random"):
        result = ff.fourier_attack(net, images, labels, eps=0.01, size=(5, 4), order=order)
        rows = np.concatenate([result.frequencies, result.signs], axis=1)
        asked[order] = {tuple(row) for row in rows.tolist()}
        assert len(asked[order]) == len(rows)
        radius = fourier.radius(result.frequencies, (7, 6))
        if order != "random":
            assert (np.diff(radius if order == "low" else -radius) >= 0).all()
            assert (result.signs[0::2] == -result.signs[1::2]).all()  # both signs of a wave after each other
    every = fourier.unique_frequencies((7, 6), (5, 4))[0].tolist()
    assert asked["low"] == asked["high"] == asked["random"]
    assert asked["low"] == {(*k, *s) for k in every for s in SIGNS.tolist()}


@pytest.mark.parametrize("frequency", [(2, 1), (-3, 4), (0, 5)])
@pytest.mark.parametrize("shape", [(11, 11), (10, 15)], ids=str)
def test_a_planted_wave_is_the_only_one_that_fools(frequency, shape):
    signs = (1, -1, -1)
    net = Reads(frequency, shape, signs).eval()
    images = 0.3 + 0.4 * torch.rand(5, 3, *shape, generator=torch.Generator().manual_seed(0))
    z = (net(images)[:, 0]).detach()
    images = images - (z - 1)[:, None, None, None] * net.weight.detach() / 3  # amplitude 0: logits (1, -1)
    eps = 0.4  # the wave and its channels together shift z by 3 eps = 1.2, two channels by 0.4
    result = ff.fourier_attack(net, images, torch.zeros(5, dtype=torch.int64), eps=eps, clip=False)
    assert result.success.all() and len(set(result.found)) == 1
    best = result.found[0]
    assert tuple(result.frequencies[best]) == frequency
    assert result.signs[best].tolist() == [-s for s in signs]
    shown = result.map
    assert shown.max() == 5 and (shown > 0).sum() == 2
    change = torch.from_numpy(result.perturbation(3)).float()
    assert change.norm().item() == pytest.approx(eps * math.sqrt(3), rel=1e-6)
    assert int(net((images[3] + change)[None]).argmax()) == 1


def test_batches_shards_and_files_do_not_matter(make_net, make_images, tmp_path):
    net = make_net()
    images, labels = make_images(net, n=13)
    whole = ff.fourier_attack(net, images, labels, eps=0.5, size=5, order="random", seed=3)
    parts = [
        ff.fourier_attack(net, images, labels, eps=0.5, size=5, order="random", seed=3, shard=(i, 2)) for i in (1, 0)
    ]
    parts[0].save(tmp_path / "attack.npz")
    loader = [(images[i : i + 4], labels[i : i + 4]) for i in range(0, 13, 4)]
    for other in (
        ff.load(tmp_path / "attack.npz") + parts[1],
        ff.fourier_attack(net, images, labels, eps=0.5, size=5, order="random", seed=3, batch_size=1),
        ff.fourier_attack(net, loader, eps=0.5, size=5, order="random", seed=3, batch_size=50),
    ):
        np.testing.assert_array_equal(other.image_ids, np.arange(13))
        np.testing.assert_array_equal(other.found, whole.found)
        np.testing.assert_array_equal(other.frequencies, whole.frequencies)
    assert not np.array_equal(
        ff.fourier_attack(net, images, labels, eps=0.5, size=5, order="random").signs, whole.signs
    )


def test_limited_queries_are_the_first_ones(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=12)
    whole = ff.fourier_attack(net, images, labels, eps=0.5)
    taken, rate = whole.curve()
    for queries in (1, 7, 100):
        limited = ff.fourier_attack(net, images, labels, eps=0.5, queries=queries)
        np.testing.assert_array_equal(limited.found, np.where(whole.found < queries, whole.found, -1))
        assert limited.success_rate == rate[np.searchsorted(taken, queries, side="right") - 1]
        assert limited.queries.max() <= queries


def test_no_batch_is_larger_and_fooled_images_are_asked_no_more(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=10)
    seen = []

    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            seen.append(len(x))
            return self.net(x)

    result = ff.fourier_attack(Counts().eval(), images, labels, eps=0.5, batch_size=6, channels_last=True)
    assert max(seen) <= 6
    # twice 2 images that tell the model, a first batch for people, each image clean, its queries, and at most the rest
    # of one batch for every image that falls
    assert sum(seen) <= 4 + 6 + 10 + result.queries.sum() + 6 * result.success.sum()


@pytest.mark.parametrize(("signs", "combinations"), [("channel", 16), ("image", 2), ("none", 1)])
def test_the_convention_says_which_signs_are_searched(make_net, make_images, signs, combinations):
    net = make_net(channels=4)
    images, labels = make_images(net, shape=(4, 8, 5))
    convention = ff.CONVENTIONS["fhmap"].replace(signs=signs)
    result = ff.fourier_attack(
        net, images, labels, eps=0.5, frequencies=[(1, 2), (-1, -2), (3, 0)], convention=convention
    )
    assert len(result.frequencies) == 2 * combinations  # k and -k are one
    assert len(np.unique(result.signs, axis=0)) == combinations


def test_rates_count_the_images_that_were_right(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=12)
    labels[:4] = (labels[:4] + 1) % 5
    result = ff.fourier_attack(net, images, labels, eps=0.2, order="high", size=9)
    fooled = int(result.success.sum())
    assert 0 < fooled < 8 and result.n_attacked == 8
    assert result.success_rate == fooled / 8 and result.error == (4 + fooled) / 12
    exact = stats.binomtest(fooled, 8).proportion_ci(method="wilson")
    assert result.interval() == pytest.approx((exact.low, exact.high))
    assert np.isnan(result.map).sum() == 0 and result.map.shape == (9, 9)
    frame = result.to_dataframe()
    assert len(frame) == 12 and frame["queries"].tolist() == result.queries.tolist()
    row = frame[frame["success"]].iloc[0]
    best = result.found[int(row["image_id"])]
    assert (row["ky"], row["kx"]) == tuple(result.frequencies[best])
    assert row["signs"] == "".join("+-"[int(s < 0)] for s in result.signs[best])
    figure = result.plot()
    assert plots.figure_png(figure)[:4] == b"\x89PNG" and "8 images" in figure.get_suptitle()
    with pytest.raises(ValueError, match="expected no `ax`"):
        result.plot(ax=figure.axes[0])


def test_memory_that_runs_out_and_a_restart_change_nothing(make_net, make_images, tmp_path):
    net = make_net()
    images, labels = make_images(net, n=10)
    labels[2] = (labels[2] + 1) % 5
    calls, most, stop = [], [99], [10**9]

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            calls.append(len(x))
            if len(calls) > stop[0]:
                raise KeyboardInterrupt
            if len(x) > most[0]:
                raise torch.OutOfMemoryError("too large")
            return self.net(x.mul_(1.0))

    options: dict[str, Any] = {"eps": 0.4, "size": 5, "batch_size": 8, "channels_last": True}
    model = Small().eval()
    whole = ff.fourier_attack(model, images, labels, **options)
    total = len(calls)
    most[0] = 3
    small = ff.fourier_attack(model, images, labels, **options)
    np.testing.assert_array_equal(small.found, whole.found)
    most[0], stop[0] = 99, len(calls) + total - 4
    with pytest.raises(KeyboardInterrupt):
        ff.fourier_attack(model, images, labels, checkpoint=tmp_path / "c.npz", **options)
    assert 0 < ff.load(tmp_path / "c.npz").n_images < 10
    stop[0] = 10**9
    resumed = ff.fourier_attack(model, images, labels, checkpoint=tmp_path / "c.npz", **options)
    np.testing.assert_array_equal(resumed.found, whole.found)
    with pytest.raises(ValueError, match="very request.*eps"):
        ff.fourier_attack(model, images, labels, checkpoint=tmp_path / "c.npz", **{**options, "eps": 0.3})


def test_bad_arguments_are_refused(make_net, make_images):
    net = make_net()
    images, labels = make_images(net)

    def attack(images=images, labels=labels, eps: Any = 0.5, **arguments: Any):
        return ff.fourier_attack(net, images, labels, eps=eps, **arguments)

    for arguments, message in (
        ({"eps": 0.0}, "positive `eps`"),
        ({"queries": 0}, "at least one of `queries`"),
        ({"order": "best"}, "'low', 'high' or 'random', got 'best'"),
        ({"size": 12}, "map `size` from 1 to the image's 11 x 14"),
        ({"frequencies": [[20, 20], [0, 9]], "size": 5}, "inside the 5 x 5 map"),
        ({"images": images + 1}, r"in \[0, 1\]"),
        ({"images": [], "labels": None}, "at least one image, got none"),
        ({"images": torch.rand(2, 9, 5, 5), "labels": torch.tensor([0, 0])}, "at most 8 channels"),
        ({"labels": labels + 5}, "labels below 5"),
    ):
        with pytest.raises(ValueError, match=message):
            attack(**arguments)
    result = attack(size=3, queries=4)
    with pytest.raises(KeyError, match="image that a query fooled, got 77"):
        result.perturbation(77)
    for other, message in (
        (attack(size=3, queries=5, first_image=50), "same frequencies"),
        (attack(size=3, queries=4, eps=0.4, first_image=50), "same eps"),
        (attack(size=3, queries=4), "image ids are in both"),
    ):
        with pytest.raises(ValueError, match=message):
            _ = result + other
    with pytest.raises(ValueError, match="right to begin with, got none of 12"):
        attack(labels=(labels + 1) % 5, size=3).plot()
