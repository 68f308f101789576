from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

import fastfreq as ff
from fastfreq import demo
from fastfreq.vocabulary import fourier


def test_the_digits_are_real_and_split_for_good():
    train, test = demo.load_digits("train"), demo.load_digits("test")
    assert [len(t) for t in (*train, *test)] == [1000, 1000, 797, 797]
    assert test[0].shape[1:] == (1, 8, 8) and float(test[0].min()) == 0 and float(test[0].max()) == 1
    assert (test[1].bincount(minlength=10) > 60).all()


@pytest.mark.parametrize("name", demo.NETWORKS)
def test_networks_classify_held_out_digits(name):
    images, labels = demo.load_digits()
    with torch.inference_mode():
        accuracy = (demo.load_network(name)(images).argmax(dim=1) == labels).float().mean()
    assert accuracy > (0.98 if name == "natural" else 0.95)


def test_the_three_maps_show_the_trade_off(one_thread):
    images, labels = (part[::3] for part in demo.load_digits())
    maps = {name: ff.heatmap(demo.load_network(name), images, labels, eps=demo.EPS) for name in demo.NETWORKS}
    distance = np.abs(fourier.centred_grid((8, 8))).max(axis=-1)
    low = {name: m.error[distance <= 1].mean() for name, m in maps.items()}
    high = {name: m.error[distance >= 3].mean() for name, m in maps.items()}
    assert high["natural"] > low["natural"]  # the natural network breaks at high frequencies
    for name in ("gaussian", "adversarial"):  # the robust ones gave them up and lean on low ones
        assert high[name] < 0.3 * high["natural"]
        assert low[name] > 2 * high[name]


def test_refusals(monkeypatch):
    with pytest.raises(ValueError, match="natural, gaussian, adversarial, got 'robust'"):
        demo.load_network("robust")
    with pytest.raises(ValueError, match="'train' or 'test'"):
        demo.load_digits("validation")  # pyright: ignore[reportArgumentType]
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'fastfreq\[demo\]'"):
        demo.load_digits()
