"""Every public name of features with wrong arguments of every kind: refused in words of our own, not torch's."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff
from fastfreq import features

pytestmark = pytest.mark.usefixtures("one_thread")
HOSTILE = [
    0, -1, float("nan"), float("inf"), 2.5, True, None, "x", "", b"x", 1j, object(), {}, [], (), (3,), [1, 2],
    (1, 2, 3), (0, 0), (-1, -1), (0, 0, 0), (-1, 16, 16), (3, float("nan"), 4), ["a"], ("a", "b", "c"), [None],
    [float("nan")], torch.zeros(2), torch.zeros(1, dtype=torch.float16), torch.zeros(2, 3, 4, 4, dtype=torch.int64),
    np.zeros((2, 2)),
]  # fmt: skip
IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network():
    layers = [nn.Conv2d(3, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)).eval()


def subjects():
    """Name -> (a call by keywords, arguments that are right)."""
    net, search = network(), features.ImageSearch(steps=1)
    stem = features.wavelet_stem("haar")
    learned = features.TwoLayerNet(stem, shape=(3, 16, 16), classes=2)
    scattering = features.scattering_stem((16, 16), orientations=2)
    layered = features.LayeredThresholding([torch.ones(4, 3, 3, 3)], [0.1])
    patterns = np.random.default_rng(0).standard_normal((1, 7, 7))
    return {
        "FixedLayer": (features.FixedLayer, {"made_as": "a layer"}),
        "ImageSearch": (features.ImageSearch, {name: getattr(search, name) for name in search.__dataclass_fields__}),
        "LayeredThresholding": (
            features.LayeredThresholding,
            {"atoms": [torch.ones(4, 3, 3, 3)], "thresholds": [0.1], "strides": (1,), "paddings": (0,), "rule": "soft"},
        ),
        "LayeredThresholding()": (layered, {"images": IMAGES}),
        "LayeredThresholding.synthesis": (layered.synthesis, {"code": layered(IMAGES).detach(), "layers": 1}),
        "Threshold": (features.Threshold, {"kind": "soft", "tau": 0.2, "mode": "fixed", "signed": False}),
        "Threshold()": (features.Threshold(mode="relative"), {"codes": IMAGES}),
        "TwoLayerNet": (features.TwoLayerNet, {"stem": stem, "shape": (3, 16, 16), "classes": 2}),
        "TwoLayerNet()": (learned, {"images": IMAGES}),
        "TwoLayerNet.kept": (learned.kept, {"images": IMAGES}),
        "approximation_curve": (
            features.approximation_curve,
            {"images": IMAGES, "frame": "wavelet", "wavelet": "haar", "counts": [1, 2, 3]},
        ),
        "caricature": (
            features.caricature, {"model": net, "layers": "1", "images": IMAGES[:1], "search": search, "seed": 0}
        ),
        "filters": (
            features.filters,
            {"model": net, "input_size": (3, 16, 16), "layers": ["0"], "units": 1, "largest": 9, "wavelets": (),
             "progress": False},
        ),
        "fit_gabors": (features.fit_gabors, {"patterns": patterns}),
        "init_stem": (
            lambda model, **words: features.init_stem(copy.deepcopy(model), **words),
            {"model": net, "kind": "wavelet", "wavelet": "haar", "layer": None, "scale": None},
        ),
        "invariance": (
            features.invariance,
            {"model": net, "images": IMAGES, "layers": ["1"], "kind": "shift", "amounts": [1.0], "fixed": ()},
        ),
        "invert": (
            features.invert,
            {"model": net, "layers": "1", "images": IMAGES[:1], "objective": "code", "search": search, "seed": 0},
        ),
        "maximize": (
            features.maximize,
            {"model": net, "layer": "1", "units": [0], "input_size": (3, 16, 16), "objective": "channel",
             "search": search, "seed": 0, "batch_size": 1, "device": None, "progress": False},
        ),
        "mutual_coherence": (
            features.mutual_coherence, {"weight": torch.ones(4, 2, 3, 3), "stride": 1, "dilation": 1, "groups": 1}
        ),
        "nearest_wavelets": (features.nearest_wavelets, {"patterns": patterns, "wavelets": ("haar",)}),
        "scattering_stem": (features.scattering_stem, {"size": (16, 16), "scales": 2, "orientations": 2, "order": 2}),
        "scattering_stem()": (scattering, {"images": IMAGES}),
        "sparse_coding": (features.sparse_coding, {"model": net, "images": IMAGES, "batch_size": 1}),
        "top_patches": (features.top_patches, {"model": net, "images": IMAGES, "layer": "1", "units": [0]}),
        "wavelet_stem": (
            features.wavelet_stem, {"wavelet": "haar", "levels": 1, "mode": "periodization", "threshold": None}
        ),
        "wavelet_stem()": (stem, {"images": IMAGES}),
    }  # fmt: skip


SUBJECTS = subjects()


def test_every_public_name_is_among_them():
    elsewhere = {"curvelet_stem"}  # below: it needs its package
    assert {name.partition("(")[0].partition(".")[0] for name in SUBJECTS} | elsewhere == {*features.__all__}


def refusals(called, right):
    """(argument, value, error) of every call with one wrong argument that was refused."""
    for name in right:
        for value in HOSTILE:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of what is taken, such as models that warn
                    called(**{**right, name: value})
            except Exception as error:
                yield name, value, error


def in_our_words(error):
    said = str(error.args[0]) if error.args else ""
    return isinstance(error, (ValueError, TypeError, KeyError)) and said.startswith(("expected", "layer "))


@pytest.mark.parametrize("name", SUBJECTS)
def test_what_is_wrong_is_refused_in_our_words(name, capsys):
    called, right = SUBJECTS[name]
    if isinstance(called, nn.Module) or name.endswith("kept"):
        called(*right.values())
        subject = called
        ((argument, _),) = right.items()
        called = lambda **words: subject(words[argument])  # noqa: E731
    else:
        called(**right)
    found = list(refusals(called, right))
    assert found and not [(argument, value, error) for argument, value, error in found if not in_our_words(error)]


def test_curvelets_too():
    pytest.importorskip("curvelets.torch")
    stem = features.curvelet_stem((32, 32))
    image = torch.rand(1, 1, 32, 32)
    for called, right in (
        (features.curvelet_stem, {"size": (32, 32), "threshold": None}),
        (lambda images: stem(images), {"images": image}),
        (stem.inverse, {"codes": stem(image)}),
    ):
        assert all(in_our_words(error) for *_, error in refusals(called, right))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: features.TwoLayerNet(features.wavelet_stem("haar"), shape=(3, 16, 16), classes=-1), "at least one of"),
        (lambda: features.TwoLayerNet(features.wavelet_stem("haar"), shape=(3, 16, 16), classes=0), "at least one of"),
        (lambda: SUBJECTS["TwoLayerNet()"][0](IMAGES.half()), "type, torch.float32, got torch.float16"),
        (lambda: SUBJECTS["TwoLayerNet()"][0](IMAGES[..., :8]), "768 codes, those of .* have 384"),
        (lambda: SUBJECTS["LayeredThresholding()"][0](IMAGES.half()), "atoms' type, torch.float32, got torch.float16"),
        (lambda: SUBJECTS["LayeredThresholding()"][0](IMAGES[0]), r"images\[None\]"),
        (lambda: features.scattering_stem((16, 16), scales=10**9), "at most 30 `scales`"),
        (lambda: features.wavelet_stem("haar", levels=10**9)(IMAGES), "take fewer levels"),
        (lambda: features.approximation_curve(IMAGES, frame="wavelet", wavelet=""), "name of a discrete wavelet"),
        (lambda: features.filters(network(), input_size=(3, 16, 16), layers=[]), "at least one of `layers`"),
        (lambda: features.maximize(network(), "1", [9], input_size=(3, 16, 16)), "from 0 to 3 of layer '1'"),
        (lambda: features.maximize(network(), "1", input_size=(3, 16, 16), device="gpu"), "such as 'cpu'"),
        (lambda: features.maximize(network(), "2", input_size=(3, 2, 2)), "6 x 6|`model`|takes images|Kernel|pass the"),
        (lambda: features.mutual_coherence(torch.ones(4, 2, 3, 3), stride=-1), "`stride` from 1"),
        (lambda: features.mutual_coherence(torch.ones(4, 2, 3, 3), dilation=0), "`dilation` from 1"),
        (lambda: features.fit_gabors(np.full((1, 7, 7), np.nan)), "finite `patterns`"),
        (lambda: features.LayeredThresholding([torch.ones(4, 3, 3, 3)], [0.1], strides=(0,)), "`strides` from 1"),
        (lambda: features.Threshold(signed=1), "True or False"),
        (lambda: ff.feature_spectra(network(), IMAGES, layers=["1"], token_grid=(1, 2, 3)), r"\(rows, columns\)"),
    ],
)
def test_the_way_out_is_said(call, message):
    with pytest.raises((ValueError, TypeError), match=f"expected.*({message})"):
        call()
