"""Experiments with networks of which one layer is trained: against networks written out, and scikit-learn."""

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn
from torch.nn import functional as F

import fastfreq as ff
from fastfreq.training import _stems
from fastfreq.training._checkpoint import Checkpoint
from fastfreq.training._classified import Classified
from fastfreq.training.single_layer_training import _Plan, _SingleLayers, _weights
from fastfreq.vocabulary import streams

pytestmark = pytest.mark.usefixtures("one_thread")


def task(n=60, seed=0, shape=(9, 7), classes=(2, 5, 9)):
    """Images of classes that differ in which part is bright."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(classes), n)
    images = rng.random((n, *shape)) * 0.6
    for i, label in enumerate(labels):
        images[i, label * 3 : label * 3 + 3] += 0.25
    return images, np.array(classes)[labels]


def single(seeds=(3,), **words):
    words = {"variances": (1.0, 3.0), "depth": 4, "width": 12, "epochs": 2, "batch_size": 17} | words
    return ff.training.single_layer_training(*task(), test=task(40, 1), seeds=seeds, **words)


def transfer(seeds=(3,), **words):
    words = {"source": task(70, 2, classes=(0, 1, 4)), "samples": (10, 50), "channels": 3, "epochs": 2} | words
    return ff.training.transfer_learning(*task(), test=task(40, 1), seeds=seeds, **words)


EXPERIMENTS = {"single_layer_training": single, "transfer_learning": transfer}


# ---------------------------------------------------------------- what both promise
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_seeds_are_independent_merge_and_are_saved(name, tmp_path):
    both = EXPERIMENTS[name]((3, 5))
    merged = EXPERIMENTS[name]((5,)) + EXPERIMENTS[name]((3,))
    assert merged.seeds == (3, 5) and merged.table() == both.table()
    merged.save(tmp_path / "a.npz")
    again = ff.load(tmp_path / "a.npz")
    assert again.table() == both.table() and repr(again) == repr(merged)
    assert len(repr(again).splitlines()) == 3 and again.plot().axes
    with pytest.raises(ValueError, match="are in both"):
        both + both


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_nothing_around_is_changed_and_nothing_around_changes_it(name):
    state, expected = torch.get_rng_state(), repr(EXPERIMENTS[name]().table())
    assert torch.equal(torch.get_rng_state(), state)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert repr(EXPERIMENTS[name]().table()) == expected


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_bad_arguments(name):
    images, labels = task()
    function = getattr(ff.training, name)
    words = {} if name == "single_layer_training" else {"source": task()}
    for x, y, test, message in (
        (images, labels[:-1], (images, labels), "60 labels"),
        (images, labels, (images, labels + 1), "no others in `test`"),
        (images, labels * 0, (images, labels * 0), "two classes"),
        (images, labels, (images[:, :5], labels), "of the shape"),
        (images * np.nan, labels, (images, labels), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            function(x, y, test=test, **words)
    with pytest.raises(TypeError, match="integers"):
        function(images, labels.astype(float), test=(images, labels), **words)


# ---------------------------------------------------------------- one layer
def test_each_network_is_trained_as_alone():
    """The network written out, trained with torch's own Adam in the same batches."""
    x, y = task()
    data = Classified(torch.from_numpy(x).float().flatten(1), torch.from_numpy(np.searchsorted([2, 5, 9], y)))
    weights = _weights(4, (63, 12, 12, 12, 12, 3), 2.0, data.samples)
    assert 1.5 < float(weights[1].square().sum()) / 12 < 2.5
    nets = _SingleLayers(weights, data, data)
    plan = _Plan((63, 12, 12, 12, 12, 3), 3, 17, 1e-2)
    nets.train(plan, Checkpoint(None, None, parts=()), lambda: None, seed=4, name="it")
    for place, found in enumerate(nets._trained, start=1):
        layers = [nn.Linear(w.shape[1], w.shape[0], bias=False) for w in weights]
        for layer, w in zip(layers, weights, strict=True):
            layer.weight = nn.Parameter(w.clone(), requires_grad=False)
        layers[place].weight.requires_grad_()
        adam, order = torch.optim.Adam([layers[place].weight], lr=1e-2), streams.generator("training_data", 4)
        for _ in range(3):
            for batch in torch.from_numpy(order.permutation(len(y))).split(17):
                hidden = data.samples[batch]
                for layer in layers[:-1]:
                    hidden = F.hardtanh(layer(hidden))
                adam.zero_grad()
                F.cross_entropy(layers[-1](hidden), data.classes[batch]).backward()
                adam.step()
        torch.testing.assert_close(found, layers[place].weight, rtol=0, atol=2e-4)
        assert float((found.detach() - weights[place]).abs().max()) > 0.02


def test_rank_correlation_is_scipys():
    found = single((0, 1, 2), width=5)
    for test in (False, True):
        values, ranks = found.accuracy(test=test), found.rank_correlation(test=test)
        for i, j in np.ndindex(ranks.shape):
            if np.ptp(values[i, j]) > 0:
                assert ranks[i, j] == pytest.approx(scipy.stats.spearmanr(found.layers, values[i, j]).statistic)
        np.testing.assert_allclose(found.gap(test=test), values[..., 0] - values[..., -1])
    for words in ({"depth": 2}, {"variances": (0.0, 1.0)}, {"rate": 0}, {"epochs": 0}, {"variances": (2.0, 1.0)}):
        with pytest.raises(ValueError, match="expected"):
            single(**words)


# ---------------------------------------------------------------- the last layer
def test_the_last_layer_is_scikit_learns():
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((80, 9)), rng.integers(0, 4, 80)
    weight, bias = _stems.last_layer(torch.from_numpy(x), torch.from_numpy(y), 4, 0.05)
    model = linear.LogisticRegression(C=1 / (0.05 * 80), tol=1e-10, max_iter=2000).fit(x, y)
    np.testing.assert_allclose(weight.numpy(), model.coef_, atol=1e-5)
    np.testing.assert_allclose((bias - bias.mean()).numpy(), model.intercept_ - model.intercept_.mean(), atol=1e-5)


def test_wavelet_magnitudes_are_pywavelets():
    pywt = pytest.importorskip("pywt")
    images = torch.rand(3, 2, 40, 44, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = _stems.wavelet_magnitudes(images)
    smooth, *details = pywt.wavedec2(images.numpy(), "db4", mode="periodization", level=2)
    bands = [smooth, *(np.abs(np.stack(level, axis=2)).reshape(3, 6, *level[0].shape[-2:]) for level in details)]
    expected = [_stems.pooled(torch.from_numpy(band)).flatten(1) for band in bands]
    torch.testing.assert_close(found, torch.cat(expected, dim=1))


def test_stems_of_yours_stand_beside_the_others():
    class Halved(nn.Module):
        def forward(self, x):
            return x.mul_(0.0 if self.training else 2.0)[..., ::2, ::2]

    module = Halved()
    found = transfer(stems={"halved": module, "pixels again": lambda x: x})
    assert module.training and found.stems[-2:] == ("halved", "pixels again") and found.features[-2:] == (20, 63)
    np.testing.assert_array_equal(found.accuracy[:, -1], found.accuracy[:, 0])
    assert (found.accuracy[:, :, 1] > 0.5).all()
    for stem, message in ((lambda x: x[:1], "rows"), (lambda x: x / 0, "finite"), (lambda x: x.sum(), "rows")):
        with pytest.raises(ValueError, match=message):
            transfer(stems={"bad": stem})
    for words, message in (
        ({"stems": {"pixels": torch.flatten}}, "other names"),
        ({"samples": (2, 10)}, "3 classes"),
        ({"penalty": 0}, "penalty"),
        ({"source": task(20, shape=(9, 8))}, "images of shape"),
    ):
        with pytest.raises(ValueError, match=message):
            transfer(**words)


def stripes(n, seed):
    """Fine stripes in noise, of two directions and any phase: no pixel and no mean tells them apart."""
    rng = np.random.default_rng(seed)
    labels, phase = rng.integers(0, 2, n), rng.uniform(0, 2 * np.pi, (n, 1, 1))
    upright = np.cos(2.2 * np.arange(14) + phase) * np.ones((14, 1))
    waves = np.where(labels[:, None, None] == 1, upright, upright.transpose(0, 2, 1))
    return 0.5 + 0.2 * waves + 0.1 * rng.standard_normal((n, 14, 14)), labels


def test_filters_that_were_learned_do_more_than_random_ones():
    found = ff.training.transfer_learning(
        *stripes(60, 0),
        test=stripes(200, 1),
        source=stripes(600, 2),
        samples=(60,),
        seeds=(0, 1, 2),
        epochs=60,
        channels=2,
    )
    stems = dict(zip(found.stems, found.accuracy[:, :, 0].T, strict=True))
    assert stems["learned"].min() > 0.97 and (stems["learned"] > stems["random"]).all() and stems["pixels"].max() < 0.8
