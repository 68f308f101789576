from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

import fastfreq as ff
from fastfreq import plots
from fastfreq.inputs.dominant_frequencies.result import DominantFrequencies, patches
from fastfreq.results.folds import Outcomes
from fastfreq.vocabulary import fourier
from fastfreq.vocabulary.sums import ExactSum
from tests.in_place import InPlace

SHAPES = [(8, 8), (9, 12), (11, 7)]


def without(images, kept):
    """Images less everything outside the unshifted mask `kept`, by NumPy."""
    spectrum = np.fft.fft2(images.double().numpy())
    out = np.fft.ifft2(spectrum * kept)
    assert np.abs(out.imag).max() < 1e-12
    return torch.from_numpy(out.real).float()


def increases(net, images, labels, kept):
    with torch.inference_mode():
        before, after = net(images), net(without(images, kept))
    more = F.cross_entropy(after, labels, reduction="none") - F.cross_entropy(before, labels, reduction="none")
    return more.double().numpy(), (after.argmax(1) != labels).numpy()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("patch", [1, 2, 3])
def test_maps_equal_the_definition(make_net, make_images, shape, patch):
    net = make_net()
    images, _ = make_images(net, n=7, shape=(3, *shape))
    labels = torch.tensor([2, 0, 2, 4, 0, 2, 2])
    result = ff.dominant_frequencies(net, images, labels, patch=patch)
    assert result.classes.tolist() == [0, 2, 4] and result.class_count.tolist() == [2, 4, 1]
    frequencies, cells = fourier.unique_frequencies(shape)
    tiles, patch_of = patches(shape, shape, patch)
    clean = net(images).argmax(1) != labels
    for g in range(0, len(tiles), 1 + len(tiles) // 8):
        removed = np.fft.ifftshift((patch_of == g)[cells])
        more, wrong = increases(net, images, labels, ~removed)
        for label in (0, 2, 4):
            own = (labels == label).numpy()
            shown = (patch_of == g)[cells]
            np.testing.assert_allclose(result.loss_increase(label)[shown], more[own].mean(), rtol=1e-3, atol=2e-6)
            error = wrong[own].mean() - clean.numpy()[own].mean()
            np.testing.assert_allclose(result.error_increase(label)[shown], error, atol=1e-12)
        np.testing.assert_allclose(result.loss_increase()[shown], more.mean(), rtol=1e-3, atol=2e-6)


@pytest.mark.parametrize("shape", [(8, 8), (9, 12), (11, 7), (32, 20)], ids=str)
@pytest.mark.parametrize("patch", [1, 2, 3, 5])
def test_patches_are_symmetric_and_cover_the_map_once(shape, patch):
    tiles, patch_of = patches(shape, shape, patch)
    _, cells = fourier.unique_frequencies(shape)
    full = np.fft.ifftshift(patch_of[cells])
    np.testing.assert_array_equal(full, np.roll(full[::-1, ::-1], 1, axis=(0, 1)))  # k and -k are together
    centre = patch_of[cells][shape[0] // 2, shape[1] // 2]
    width = patch if patch % 2 else patch - 1
    assert (tiles[centre] == 0).all() and (patch_of[cells] == centre).sum() == max(width, 1) ** 2
    assert np.bincount(patch_of, minlength=len(tiles)).min() > 0
    if patch == 1:
        assert len(tiles) == len(fourier.unique_frequencies(shape)[0])


@pytest.mark.parametrize("frequency", [(0, 3), (4, -2), (-5, 0)])
@pytest.mark.parametrize("shape", [(15, 15), (16, 21)], ids=str)
def test_a_classifier_that_reads_one_cosine_has_its_dominant_frequency_there_and_nowhere_else(frequency, shape):
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            wave = torch.from_numpy(fourier.basis_image(frequency, shape, math.pi / 4)).float()
            self.wave = nn.Parameter(wave.expand(3, *shape).contiguous())

        def forward(self, x):
            z = (x * self.wave).sum(dim=(1, 2, 3))
            return torch.stack([z, -z], dim=1)

    net = Reads().eval()
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 2, 20))
    noise = torch.from_numpy(rng.uniform(0.3, 0.7, (20, 3, *shape))).float()
    images = (noise + 0.5 * (1 - 2 * labels)[:, None, None, None] * net.wave.detach()).clamp(0, 1)
    result = ff.dominant_frequencies(net, images, labels)
    row, column = frequency[0] + shape[0] // 2, frequency[1] + shape[1] // 2
    twin = shape[0] // 2 - frequency[0], shape[1] // 2 - frequency[1]
    for label in (None, 0, 1):
        increase = result.loss_increase(label)
        low, _ = result.interval(label)
        assert increase[row, column] == increase[twin] and low[row, column] > 0.01
        increase[row, column] = increase[twin] = 0
        assert np.abs(increase).max() < 1e-5
        where = np.argwhere(result.dominant(label, share=2 / increase.size)).tolist()
        assert sorted(where) == sorted([[row, column], [*twin]])


def test_removing_zero_frequency_leaves_the_mean_of_the_normalisation(make_net):
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    model = ff.NormalizedModel(make_net(), mean=mean, std=std).eval()
    images = torch.rand(5, 3, 10, 9, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(5, dtype=torch.int64)
    result = ff.dominant_frequencies(model, images, labels, size=1)
    moved = images - images.mean(dim=(2, 3), keepdim=True) + torch.tensor(mean)[:, None, None]
    with torch.inference_mode():
        more = F.cross_entropy(model(moved), labels) - F.cross_entropy(model(images), labels)
    assert result.loss_increase().shape == (1, 1)
    assert result.loss_increase()[0, 0] == pytest.approx(float(more), rel=1e-4)


def test_a_model_that_changes_its_input_in_place_gives_the_same(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=7)
    kept = images.clone()
    there, fresh = (ff.dominant_frequencies(InPlace(net, b).eval(), images, labels, size=5) for b in (True, False))
    np.testing.assert_array_equal(there.loss_increase(), fresh.loss_increase())
    np.testing.assert_array_equal(there.wrong.packed, fresh.wrong.packed)
    assert torch.equal(images, kept)


def test_one_answer_whatever_the_batches_and_shards(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=11)
    whole = ff.dominant_frequencies(net, images, labels, size=(5, 7))
    parts = [ff.dominant_frequencies(net, images, labels, size=(5, 7), shard=(i, 3)) for i in range(3)]
    merged = parts[2] + parts[0] + parts[1]
    for other in (merged, ff.dominant_frequencies(net, images, labels, size=(5, 7), batch_size=4)):
        for name in ("classes", "class_count", "labels", "clean_wrong", "image_ids"):
            np.testing.assert_array_equal(getattr(other, name), getattr(whole, name))
        np.testing.assert_array_equal(other.wrong.packed, whole.wrong.packed)
        for name in ("loss_sum", "loss_squares", "clean_loss"):
            value = getattr(whole, name).value
            np.testing.assert_allclose(getattr(other, name).value, value, rtol=1e-4, atol=1e-5)
    other = ff.dominant_frequencies(make_net(seed=1), images, labels, size=(5, 7), shard=(1, 3))
    with pytest.raises(ValueError, match="different weights"):
        parts[0] + other


def with_losses(losses, labels, **settings):
    """A result with these loss increases (n, g)."""
    classes, n = np.unique(labels), len(labels)
    given = torch.from_numpy(losses)
    sums = [ExactSum.by_class(each, torch.from_numpy(labels), classes) for each in (given, given.square())]
    return DominantFrequencies(
        model=None, shape=(1, 9, 9), size=(9, 9), patch=1, image_ids=np.arange(n), image_hashes=np.zeros(n, np.uint64),
        labels=labels, wrong=Outcomes.of(np.zeros(losses.T.shape)), clean_wrong=np.zeros(n, bool), classes=classes,
        loss_sum=sums[0], loss_squares=sums[1], clean_loss=ExactSum.of(np.zeros(len(classes))), **settings,
    )  # fmt: skip


def test_intervals_of_small_classes_are_students():
    losses = np.random.default_rng(1).normal(1, 2, (7, 41))
    result = with_losses(losses, np.array([3, 3, 3, 5, 5, 5, 9]))
    for label, rows in ((3, slice(3)), (5, slice(3, 6)), (None, slice(7))):
        own = losses[rows]
        error = own.std(axis=0, ddof=1) / math.sqrt(len(own))
        expected = stats.t.interval(0.95, len(own) - 1, own.mean(axis=0), error)
        for found, wanted in zip(result.interval(label), expected, strict=True):
            np.testing.assert_allclose(found, result.arrange(wanted), rtol=1e-7, atol=1e-9)
    assert np.isnan(result.interval(9)[0]).all()


def test_the_dominant_share_is_kept():
    increases = np.random.default_rng(0).uniform(-1, 1, (1, 41))
    result = with_losses(increases, np.array([3]))
    for share in (0.1, 0.3, 0.9):
        chosen = result.dominant(3, share=share)
        assert chosen.sum() <= share * 81 + 1e-9
        increase = result.loss_increase(3)
        assert increase[chosen].min() > 0
        assert chosen.sum() >= min(share * 81 - 2, (increase > 0).sum())
        rest = increase[~chosen]
        assert share == 0.9 or increase[chosen].min() > rest.max()
    np.testing.assert_array_equal(result.dominant(3, share=0.001).sum(), 2)


def test_what_is_wrong_is_refused(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=3)
    for arguments, message in (
        ({"patch": 0}, "`patch` from 1"),
        ({"patch": 15}, "`patch` from 1"),
        ({"size": 12}, "map `size` from 1"),
        ({"batch_size": 0}, "positive `batch_size`"),
    ):
        with pytest.raises(ValueError, match=message):
            ff.dominant_frequencies(net, images, labels, **arguments)
    result = ff.dominant_frequencies(net, images, labels, size=1)
    with pytest.raises(KeyError, match="one of the classes with images"):
        result.loss_increase(99)
    with pytest.raises(ValueError, match="`share` above 0"):
        result.dominant(share=0.0)


def test_save_load_table_and_picture(make_net, make_images, tmp_path):
    net = make_net()
    images, labels = make_images(net, n=9)
    result = ff.dominant_frequencies(net, images, labels, patch=2)
    result.save(tmp_path / "dominant.npz")
    np.testing.assert_array_equal(ff.load(tmp_path / "dominant.npz").loss_increase(), result.loss_increase())
    table = result.to_dataframe()
    assert len(table) == math.prod(result.loss_sum.shape) and len(result.summary()) == len(result.classes)
    first = table[(table["class"] == result.classes[0]) & (table.ky == 0) & (table.kx == 0)]
    middle = result.loss_increase(int(result.classes[0]))[11 // 2, 14 // 2]
    assert first.loss_increase.item() == pytest.approx(middle)
    figure = result.plot(names={int(result.classes[0]): "first"})
    assert "first" in figure.axes[0].get_title() and "2 x 2 patch" in figure.get_suptitle()
    drawn = figure.axes[0].images[0]
    np.testing.assert_array_equal(drawn.get_array(), result.loss_increase(int(result.classes[0])))
    assert drawn.get_clim()[0] == -drawn.get_clim()[1]
    plots.save_png(figure, tmp_path / "dominant.png")
    assert (tmp_path / "dominant.png").stat().st_size > 10_000


def test_files_of_format_1_are_read():
    rng = np.random.default_rng(0)
    g, count = 41, np.array([3, 1])
    arrays = {
        "image_ids": np.array([0, 2, 4, 5]), "classes": np.array([1, 4]), "class_count": count,
        "loss_sum": rng.normal(size=(2, g)), "loss_squares": rng.uniform(size=(2, g)),
        "wrong": np.stack([rng.integers(0, n + 1, g) for n in count]), "clean_wrong": np.array([2, 0]),
        "clean_loss": rng.uniform(size=2),
    }  # fmt: skip
    old = DominantFrequencies.from_format_1({"shape": [1, 9, 9], "size": [9, 9], "patch": 1, "details": {}}, arrays)
    assert old.class_count.tolist() == [3, 1]
    for row, label in enumerate((1, 4)):
        np.testing.assert_array_equal(old.loss_increase(label), old.arrange(arrays["loss_sum"][row] / count[row]))
        error = (arrays["wrong"][row] - arrays["clean_wrong"][row]) / count[row]
        np.testing.assert_array_equal(old.error_increase(label), old.arrange(error))
    with pytest.raises(ValueError, match="expected"):
        _ = old + old


def test_two_models_are_compared_on_the_same_images(make_net, make_images):
    net, other = make_net(), make_net(seed=1)
    images, labels = make_images(net, n=9)
    a, b = (ff.dominant_frequencies(m, images, labels, size=(3, 5)) for m in (net, other))
    np.testing.assert_allclose(a.compare(b).difference, a.arrange((b.wrong.counts - a.wrong.counts) / 9), atol=1e-12)
