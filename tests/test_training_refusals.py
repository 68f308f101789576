"""What the public functions of `ff.training` say of arguments of another kind: what was expected, and what came."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff
from fastfreq.vocabulary import numbers

T = ff.training
NET = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1)).eval()
X = torch.linspace(-1, 1, 8)[:, None]
IMAGES, LABELS = np.random.default_rng(0).random((12, 3, 4)), np.arange(12) % 2
RAGGED = [[1, 2], [3]]
SMALL = T.Recipe(steps=1)


def noisy(**changed):
    return T.label_noise(IMAGES, LABELS, **{"validation": (IMAGES, LABELS), "recipe": SMALL} | changed)


def share(model=NET, target=np.sin, **options):
    return T.high_frequency_share(model, target, size=128, cutoffs=(0.5,), **options)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: T.sinusoid_learning(3), "`frequencies` as a sequence .*got 3"),
        (lambda: T.sinusoid_learning("35"), "`frequencies` as a sequence .*got '35'"),
        (lambda: T.sinusoid_learning((1,), seeds=math.nan), "`seeds` as a sequence .*got nan"),
        (lambda: T.sinusoid_learning((1,), amplitudes=1j), "`amplitudes` as an array of real numbers"),
        (lambda: T.sinusoid_learning((1,), target="sin"), "`target` as a function of z, got str"),
        (lambda: T.Recipe(optimizer="adam"), "`optimizer` as a function that makes one, got 'adam'"),
        (lambda: T.delta_fit(object()), "`depths` as a sequence .*got <object"),
        (lambda: noisy(validation=(IMAGES,)), r"`validation` as \(images, labels\), got tuple"),
        (lambda: noisy(noise=3), "`noise` as a function of samples and a frequency, got int"),
        (lambda: noisy(frequencies=(-1.0,)), "`frequencies` from 0, got -1"),
        (lambda: T.radial_wave(IMAGES[:, 0], math.nan), "a finite number as `frequency`, got nan"),
        (lambda: T.radial_wave(IMAGES, 1.0), r"finite `samples` \(n, d\), got shape \(12, 3, 4\)"),
        (lambda: T.rbf_kernel(IMAGES[:, 0], width=0), "a `width` above 0, got 0"),
        (lambda: T.petals(RAGGED, 3), "`z` as an array of real numbers, got"),
        (lambda: share(model=3), "`model` to be a torch.nn.Module, got int"),
        (lambda: share(model=nn.Linear(2, 1)), r"a model of inputs \(n, 1\), Linear does not take them"),
        (lambda: share(target=None), "`target` as a function, got NoneType"),
        (lambda: share(optimizer="sgd"), "`optimizer` as a function, got str"),
        (lambda: T.relu_transform("net", [1], window=(0, 1)), "torch.nn.Module, got str"),
        (lambda: T.relu_transform(NET, RAGGED, window=(0, 1)), "`frequencies` as an array of real numbers"),
        (
            lambda: T.relu_transform(NET, [1], window=(0, 1), most_pieces=math.nan),
            "`most_pieces` as an integer, got nan",
        ),
        (lambda: T.tangent_kernel_decay(NET, X[:, 0], frequencies=[1]), r"use inputs\[:, None\] for one number each"),
        (lambda: T.tangent_kernel_decay(NET, X, frequencies=["a"]), "`frequencies` as an array of real numbers"),
        (lambda: T.tangent_kernel_decay(NET, X, frequencies=[1], seed=-1), "a `seed` from 0"),
        (lambda: T.predicted_rates([1.0], frequencies=RAGGED), "`frequencies` as an array of real numbers"),
        (lambda: T.torus_flow(np.ones(4), transform=np.ones(4), times=[0, math.inf]), "finite number as `times`"),
        (lambda: T.activation_decay({"mine": 3}), "functions by name, 'mine' is none"),
        (lambda: T.activation_decay(3.5), "`activations` as a sequence .*got 3.5"),
        (lambda: T.ExactDFT(3), "`grid` as a sequence .*got 3"),
        (lambda: ff.FrequencyTracker(X, X, measures=None), "`measures` as a sequence .*got None"),
        (lambda: ff.FrequencyTracker(X, X, measures="dft", points=object()), "`points` as a tensor or an array"),
        (lambda: ff.FrequencyTracker(X, X, measures="dft", seed="3"), "`seed` as an integer, got '3'"),
        (lambda: ff.FrequencyTracker(X, X, measures=T.Projection("up")), "`direction` as an array of real numbers"),
    ],
)
def test_refusals_say_what_was_expected_and_what_came(call, named):
    with pytest.raises((ValueError, TypeError), match=f"expected .*{named}"):
        call()


@pytest.mark.parametrize(
    "values",
    [
        torch.tensor([1.0, 2.5], requires_grad=True),
        torch.tensor([1.0, 2.5]).bfloat16(),
        torch.tensor([1.0, 9.0, 2.5])[::2],
        np.float16([1.0, 2.5]),
        [1, 2.5],
    ],
    ids=["gradients", "half", "strided", "NumPy's half", "list"],
)
def test_arrays_come_in_any_form(values):
    found = numbers.as_array("values", values)
    assert found.dtype == np.float64 and found.tolist() == [1.0, 2.5]
    assert numbers.as_complex_array("values", values).tolist() == [1.0, 2.5]
