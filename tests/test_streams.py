from __future__ import annotations

import itertools

import fastfreq_kernels as kernels
import numpy as np
import pytest
import torch

import fastfreq as ff
from fastfreq.inputs.post_averaging import Points
from fastfreq.vocabulary import streams

# frozen: a seed that was published repeats its figures only as long as these numbers stay
PUBLISHED = {
    "heatmap": 0, "noise_curve": 1, "critical_band": 2, "pgd_start": 3, "augmentation": 4, "post_averaging": 5,
    "fourier_attack": 6, "corruptions": 7, "bootstrap": 8, "probes": 9,
    "sampling": 10, "quick_heatmap": 11, "training": 16, "features": 17,
    "maximize": 18, "invert": 19, "two_layer": 24, "frequency_order": 25,
    "perturbation": 32, "training_data": 33,
}  # fmt: skip


def test_domains_are_frozen_and_pairwise_disjoint():
    assert dict(streams.DOMAINS) == PUBLISHED
    assert len(set(PUBLISHED.values())) == len(PUBLISHED)
    assert all(0 <= streams.domain(name) < 2**15 for name in PUBLISHED)  # as many as the counter has room for
    with pytest.raises(TypeError, match="does not support item assignment"):
        streams.DOMAINS["heatmap"] = 1  # pyright: ignore[reportIndexIssue]
    with pytest.raises(KeyError, match="expected a stream of random numbers named heatmap, .*, got 'heat'"):
        streams.domain("heat")


def test_generators_of_two_domains_or_seeds_share_nothing():
    keys = [(name, seed) for name in ("heatmap", "noise_curve", "bootstrap") for seed in (0, 1, 2**40)]
    drawn = {key: streams.generator(*key).integers(0, 2**63, 200) for key in keys}
    for one, other in itertools.combinations(keys, 2):
        assert not np.intersect1d(drawn[one], drawn[other]).size
    np.testing.assert_array_equal(drawn[keys[0]], streams.generator(*keys[0]).integers(0, 2**63, 200))
    items = [None, 0, 1, 2**40]  # of one seed
    drawn = {item: streams.generator("maximize", 5, item=item).integers(0, 2**63, 200) for item in items}
    for one, other in itertools.combinations(items, 2):
        assert not np.intersect1d(drawn[one], drawn[other]).size


DRAWING = {  # what draws from a kernel, by its domain; each call draws something
    "heatmap": lambda net, images, labels: ff.heatmap(net, images, labels, eps=1.0, size=(3, 3)),
    "noise_curve": lambda net, images, labels: ff.noise_curve(net, images, labels, norm=1.0, bandwidths=[5]),
    "critical_band": lambda net, images, labels: ff.critical_band(net, images, labels, deviations=[0.1]),
    "pgd_start": lambda net, images, labels: ff.adversarial_spectrum(net, images, labels, attack=ff.PGD(0.1, steps=1)),
    "augmentation": lambda net, images, labels: ff.FourierAugmentation(eps=1.0)(images),
    "post_averaging": lambda net, images, labels: Points(1.0).offsets(images.shape[1:], images.device),
}


def recorded(original, drawn):
    def draw(*args, **options):
        drawn.add(options.get("domain", 0))
        return original(*args, **options)

    return draw


@pytest.mark.parametrize("name", DRAWING)
def test_what_draws_numbers_draws_them_from_its_own_domain(name, make_net, make_images, monkeypatch):
    drawn = set()
    for draw in ("fourier_signs", "gaussian_noise", "band_noise"):
        monkeypatch.setattr(kernels, draw, recorded(getattr(kernels, draw), drawn))
    net = make_net()
    DRAWING[name](net, *make_images(net, n=4))
    assert drawn == {PUBLISHED[name]}


def test_corruptions_draw_from_their_own_domain(make_net, make_images, monkeypatch):
    net, drawn = make_net(), []

    def noisy(images, _severity):
        drawn.append(torch.rand(3).tolist())
        return images

    for number in (PUBLISHED["corruptions"], PUBLISHED["corruptions"], 99):
        monkeypatch.setattr(streams, "DOMAINS", PUBLISHED | {"corruptions": number})
        ff.corruption_report(net, *make_images(net, n=1), corruptions={"noisy": noisy}, severities=(1,))
    assert drawn[0] == drawn[1] != drawn[2]


def test_numbers_of_two_domains_have_nothing_in_common():
    ids = torch.arange(40)
    noise = [kernels.gaussian_noise(ids, (1, 12, 12), seed=3, domain=d).reshape(-1) for d in PUBLISHED.values()]
    correlation = torch.corrcoef(torch.stack(noise)) - torch.eye(len(noise))
    assert correlation.abs().max() < 5 / len(noise[0]) ** 0.5
