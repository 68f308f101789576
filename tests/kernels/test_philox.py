"""Philox against its published answers, and the one layout of its counter: no two uses share a number.

The Triton kernels' cases run in Triton's interpreter in a process of their own.
"""

import os
from itertools import combinations

import numpy as np
import pytest
import torch
from fastfreq_kernels import _philox, band_noise, fourier_signs, gaussian_noise

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BACKENDS = ["triton"] if INTERPRETED else ["reference", "cpu"]
# every field of the counter with its largest legal value; pixels div 4 of the largest image are below 2^30
LARGEST = {"kind": 1, "domain": 2**15 - 1, "image": -1, "channel": 2**16 - 1, "index": 2**32 - 1}
IDS = torch.tensor([0, -1, 2**62 + 3])
FREQUENCIES = torch.tensor([[0, 0], [-1, 5], [65533, -65533], [40000, 7]])
H, W = 65535, 47


def bits_of(kind=0, domain=0, image=0, channel=0, index=0):
    """The counter as one number of 128 bits."""
    words = _philox.counter(_philox.stream(kind, domain), *(torch.tensor([v]) for v in (image, channel, index)))
    assert all(0 <= int(word) < 2**32 for word in words)
    return sum(int(word) << 32 * i for i, word in enumerate(words))


def top_words(seed, domain, image, channel, index, kind=0):
    words = image & 0xFFFFFFFF, (image >> 32) & 0xFFFFFFFF, kind << 31 | domain << 16 | channel, index
    return [int(word) for word in _philox.philox(seed, tuple(torch.tensor([v]) for v in words))]


@pytest.mark.parametrize(
    "counter, key, word",
    [
        # known answers of Random123, philox4x32-10
        ((0, 0, 0, 0), 0, 0x6627E8D5),
        ((0xFFFFFFFF,) * 4, 0xFFFFFFFF_FFFFFFFF, 0x408F276D),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), 0x299F31D0_A4093822, 0xD16CFE09),
    ],
)
def test_philox_gives_the_published_answers(counter, key, word):
    assert int(_philox.philox(key, tuple(torch.tensor([c]) for c in counter))[0]) == word


def test_fields_of_a_counter_never_meet():
    """Each field fills bits of its own, and all 128 are filled: so unlike fields give unlike counters."""
    fields = {name: bits_of(**{name: value}) for name, value in LARGEST.items()}
    for a, b in combinations(fields, 2):
        assert fields[a] & fields[b] == 0, (a, b)
    assert sum(fields.values()) == bits_of(**LARGEST) == 2**128 - 1
    for name, value in LARGEST.items():  # a field is written as it is, shifted: no two values of it are one
        place = fields[name] & -fields[name]
        assert fields[name] == place * (value if value > 0 else 2**64 - 1)
        assert bits_of(**{name: 1}) == place
    assert (LARGEST["domain"] + 1, LARGEST["channel"] + 1) == (_philox.DOMAINS, _philox.CHANNELS)
    assert (65535 * 65535 + 3) // 4 < 2**30


PINNED = ["-+-+--++-+++", "-++-+++++--+", "+-++----+++-", "-+-++-+--++-"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed, domain", [(0, 0), (2**32 - 1, 1), (2**63 + 12345, 2**15 - 1), (2**64 - 1, 16)])
def test_signs_are_the_top_bit_at_the_counter(seed, domain, backend):
    signs = fourier_signs(IDS, FREQUENCIES, (3, H, W), seed=seed, domain=domain, backend=backend)
    for f, (ky, kx) in enumerate(FREQUENCIES.tolist()):
        for n, image in enumerate(IDS.tolist()):
            words = [top_words(seed, domain, image, c, 65536 * (ky % H) + kx % W)[0] for c in range(3)]
            assert signs[f, n].tolist() == [-1 if word >> 31 else 1 for word in words]


def test_signs_of_domain_0_are_pinned():
    """Heat maps of earlier versions stay comparable."""
    signs = fourier_signs(torch.arange(4), FREQUENCIES, (3, 32, 32), seed=7)
    assert ["".join("+-"[int(v < 0)] for v in row.flatten()) for row in signs] == PINNED


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("domain", [1, 16, 2**15 - 1])
def test_noise_is_that_of_its_domain(domain, backend):
    """In each operation that draws: its own numbers, of the formula in NumPy, correlated with no other domain's."""
    shape, ids = (2, 8, 12), torch.arange(2) + 2**40
    noise = gaussian_noise(ids, shape, seed=5, domain=domain, backend=backend)
    words = np.array(top_words(5, domain, 2**40 + 1, 1, 3, kind=1))
    u = (words >> 8) / 2**24
    lengths, angles = np.sqrt(-2 * np.log(u[::2] + 2**-24)), 2 * np.pi * u[1::2]
    expected = np.stack([lengths * np.cos(angles), lengths * np.sin(angles)], axis=-1).ravel()
    np.testing.assert_allclose(noise[1, 1].flatten()[12:16], expected, rtol=1e-5, atol=1e-5)
    added = band_noise(
        torch.zeros(2, *shape), torch.ones(1, 8, 12), ids, norm=1.0, seed=5, domain=domain, backend=backend
    )[0]  # fmt: skip
    lengths = torch.linalg.vector_norm(noise, dim=(-2, -1), keepdim=True)
    torch.testing.assert_close(added, noise / lengths, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_two_domains_are_correlated(backend):
    ids, domains = torch.arange(2 if INTERPRETED else 20), (0, 1, 2, 2**14, 2**15 - 1)
    noise = torch.stack([gaussian_noise(ids, (3, 16, 16), seed=5, domain=d, backend=backend) for d in domains])
    waves = torch.cartesian_prod(torch.arange(16), torch.arange(16))
    signs = [fourier_signs(ids, waves, (3, 16, 16), seed=5, domain=d, backend=backend) for d in domains]
    drawn = torch.cat([noise.flatten(1), torch.stack(signs).flatten(1).float()])
    between = torch.corrcoef(drawn) - torch.eye(len(drawn))
    assert between.abs().max() < 5 / drawn.shape[1] ** 0.5


@pytest.mark.skipif(INTERPRETED, reason="is this run")
def test_triton_kernels_under_the_interpreter(run_under_the_interpreter):
    run_under_the_interpreter(__file__)
