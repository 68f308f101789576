"""Waves added in training: where they are, how strong, how often, and that nothing but the key decides."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.data import DataLoader, Dataset

import fastfreq as ff
from fastfreq.vocabulary import fourier


def grey(n, c, h, w):
    return torch.full((n, c, h, w), 0.5)


def peaks(change):
    """(n, 2) representative of the strongest frequency of each change, (n,) its share of the energy."""
    power = np.abs(np.fft.fft2(change.double().numpy())) ** 2
    total = power.sum(axis=1)
    n, h, w = total.shape
    flat = total.reshape(n, -1)
    found = np.stack(np.unravel_index(flat.argmax(axis=1), (h, w)), axis=1)
    ky, kx = found.T
    pair = total[np.arange(n), ky, kx]
    own = fourier.is_self_conjugate(found, (h, w))
    pair = np.where(own, pair, pair + total[np.arange(n), -ky % h, -kx % w])
    return fourier.canonical(found, (h, w)), pair / flat.sum(axis=1)


@pytest.mark.parametrize("shape", [(3, 11, 16), (1, 9, 9)], ids=str)
def test_every_image_gets_one_wave_of_its_band_and_strength(shape):
    augment = ff.FourierAugmentation(eps=(0.2, 0.6), band=(2, 4.5), convention="rai")
    images = grey(60, *shape)
    change = augment(images, keys=torch.arange(60)) - images
    found, share = peaks(change)
    np.testing.assert_allclose(share, 1, atol=1e-4)
    radii = fourier.radius(found, shape[1:])
    assert ((radii >= 2) & (radii < 4.5)).all() and len(np.unique(found, axis=0)) > 15
    norms = change.flatten(2).norm(dim=2)
    torch.testing.assert_close(norms, norms[:, :1].expand_as(norms), rtol=1e-4, atol=0)  # each channel alike
    assert stats.kstest(((norms[:, 0] - 0.2) / 0.4).numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize(("convention", "coefficient"), [("fhmap", 1), ("rai", 0.5 + 0.5j)])
def test_a_wave_is_the_published_one(convention, coefficient):
    augment = ff.FourierAugmentation(eps=0.4, band=(3, 3.1), convention=convention)
    change = (augment(grey(40, 2, 8, 8), keys=torch.arange(40)) - 0.5).double().numpy()
    waves = []
    for k in ((-3, 0), (0, -3)):  # the members met first in the centred plane
        spectrum = np.zeros((8, 8), complex)
        spectrum[k] = coefficient
        wave = np.fft.ifft2(spectrum).real
        waves.append(wave / np.linalg.norm(wave))
    found = np.einsum("nchw,fhw->nfc", change, np.array(waves)) / 0.4
    np.testing.assert_allclose(np.abs(found).max(axis=1), 1, atol=1e-5)
    signs = np.sign(found[np.arange(40), np.abs(found).sum(axis=2).argmax(axis=1)])
    assert {tuple(s) for s in signs} == {(1, 1), (1, -1), (-1, 1), (-1, -1)}


def test_frequencies_and_rings_are_drawn_uniformly():
    images, keys = grey(1500, 1, 8, 8), torch.arange(1500)
    plane = peaks(ff.FourierAugmentation(eps=0.1)(images, keys=keys) - images)[0]
    every, _ = fourier.unique_frequencies((8, 8))
    counts = [(plane == k).all(axis=1).sum() for k in every]
    assert stats.chisquare(counts, 1500 * fourier.multiplicity(every, (8, 8)) / 64).pvalue > 1e-3
    rings = peaks(ff.FourierAugmentation(eps=0.1, spread="radii", band=(1, 4.4))(images, keys=keys) - images)[0]
    assert stats.chisquare(np.bincount(fourier.ring(rings, (8, 8)))[1:]).pvalue > 1e-3


def test_probability_and_clipping():
    images = torch.rand(400, 1, 6, 7, generator=torch.Generator().manual_seed(1))
    out = ff.FourierAugmentation(eps=3.0, probability=0.3)(images, keys=torch.arange(400))
    assert out.min() == 0 and out.max() == 1
    changed = int((out != images).flatten(1).any(dim=1).sum())
    assert stats.binomtest(changed, 400, 0.3).pvalue > 1e-3
    assert torch.equal(ff.FourierAugmentation(eps=3.0, probability=0)(images), images)


def test_only_the_key_decides():
    augment = pickle.loads(pickle.dumps(ff.FourierAugmentation(eps=1.0)))
    images = torch.rand(7, 3, 9, 10, generator=torch.Generator().manual_seed(2))
    keys = torch.tensor([5, 0, 2**61, 17, 5, 3, 4])
    whole = augment(images, keys=keys)
    for i in (0, 2, 6):
        assert torch.equal(augment(images[i], keys=keys[i : i + 1]), whole[i])
    same = augment(images[:1].expand(7, -1, -1, -1), keys=keys)
    assert torch.equal(same[0], same[4]) and not torch.equal(same[0], same[1])
    drawn = [augment(images, generator=torch.Generator().manual_seed(seed)) for seed in (8, 8, 9)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    with torch.random.fork_rng():
        torch.manual_seed(8)
        assert torch.equal(augment(images), drawn[0])


class Grey(Dataset):
    augment = ff.FourierAugmentation(eps=(0.1, 0.5))  # two equal waves have the same key

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.augment(grey(1, 1, 8, 8)[0])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_add_different_waves():
    def epoch():
        return torch.cat(list(DataLoader(Grey(), 1, num_workers=2, generator=torch.Generator().manual_seed(4))))

    first = epoch()
    assert len(torch.unique(first.flatten(1), dim=0)) == 8
    assert torch.equal(first, epoch())


def test_types_go_through():
    augment = ff.FourierAugmentation(eps=1.0)
    key = torch.tensor([3])
    bytes_in = torch.randint(0, 256, (1, 3, 5, 6), dtype=torch.uint8)
    torch.testing.assert_close(augment(bytes_in, keys=key), augment(bytes_in / 255, keys=key))
    assert augment(grey(1, 3, 5, 6).bfloat16(), keys=key).dtype == torch.bfloat16
    assert augment(grey(0, 3, 5, 6)).shape == (0, 3, 5, 6)
    assert augment(grey(1, 300, 3, 4), keys=key).shape == (1, 300, 3, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": 0}, "`eps`, the L2 norm"),
        ({"eps": (2, 1)}, "`eps`, the L2 norm"),
        ({"eps": math.nan}, "`eps`, the L2 norm"),
        ({"band": (3, 3)}, "a `band`"),
        ({"spread": "octaves"}, "`spread` of"),
        ({"probability": 1.5}, "a `probability` from"),
        ({"convention": "mine"}, "a convention named"),
    ],
)
def test_bad_choices_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ff.FourierAugmentation(**{"eps": 1.0} | change)


def test_bad_calls_are_refused():
    augment = ff.FourierAugmentation(eps=1.0, band=(6, 9))
    with pytest.raises(ValueError, match="a `band` with frequencies of 8 x 8 images, whose radii end at 5.657"):
        augment(grey(1, 1, 8, 8))
    with pytest.raises(ValueError, match=r"`keys` of shape \(2,\), one per image, got \(3,\)"):
        augment(grey(2, 1, 16, 16), keys=torch.arange(3))
    with pytest.raises(ValueError, match="got both"):
        augment(grey(1, 1, 16, 16), keys=torch.arange(1), generator=torch.Generator())
    with pytest.raises(ValueError, match=r"expected `images` in \[0, 1\]"):
        augment(2 * torch.ones(1, 1, 16, 16))
