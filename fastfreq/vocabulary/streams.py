"""Every random number of the toolkit has a domain: what it is for. Two domains share no number under one seed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

# A number, once published, keeps its meaning: results saved with a seed repeat only under the domain they had.
DOMAINS: Mapping[str, int] = MappingProxyType(
    {
        "heatmap": 0,  # signs of basis images; of the first-order prediction too, which is about the same perturbations
        "noise_curve": 1,
        "critical_band": 2,
        "pgd_start": 3,
        "augmentation": 4,  # frequency, strength, signs and whether at all
        "post_averaging": 5,  # directions
        "fourier_attack": 6,  # order of the queries
        "corruptions": 7,  # states of the generators that corruptions draw from
        "bootstrap": 8,  # images drawn again
        "probes": 9,  # inputs and start vectors of the toolkit's own checks and iterations
        "sampling": 10,  # the order in which images are drawn where not all are
        "quick_heatmap": 11,  # which frequencies an image is evaluated at
        "training": 16,
        "features": 17,
        "maximize": 18,  # where the image of a unit starts, and how it is moved
        "invert": 19,
        "two_layer": 24,  # parameters of the networks of the linear frequency principle
        "frequency_order": 25,  # weights of the networks of the frequency principle
        "perturbation": 32,  # directions in the space of a network's parameters
        "training_data": 33,  # points, labels and noise that experiments on training make up
    }
)

# torch's, NumPy's and Python's own generators are the whole process's: who seeds them for a while holds this
GLOBAL_STATES = threading.RLock()


def domain(name: str) -> int:
    """The `domain` of `kernels.fourier_signs`, `gaussian_noise` and `band_noise` for what is called `name`.

    Raises:
        KeyError: no such name.
    """
    if name not in DOMAINS:
        raise KeyError(f"expected a stream of random numbers named {', '.join(DOMAINS)}, got {name!r}")
    return DOMAINS[name]


def generator(name: str, seed: int, *, item: int | None = None) -> np.random.Generator:
    """NumPy's generator for what has no kernel, keyed by (domain, seed, item) and by nothing else.

    Args:
        name: of the domain.
        seed: from 0.
        item: from 0, what of many the numbers are for; None where there is but one.
    """
    spawned = () if item is None else (item,)
    return np.random.default_rng(np.random.SeedSequence((domain(name), seed), spawn_key=spawned))
