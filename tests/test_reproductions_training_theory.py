"""The scripts on exact transforms and on activations, for a few steps."""

import json
import sys

import pytest
from reproductions import activation_order, rahaman2019_relu_transform


def run(script, monkeypatch, folder, *words):
    monkeypatch.setattr(sys, "argv", ["script", "--out", str(folder), *words])
    script.main()


def test_activations_in_few_steps(one_thread, monkeypatch, tmp_path):
    monkeypatch.setattr(activation_order, "WIDTH", 16)
    run(activation_order, monkeypatch, tmp_path, "--seeds", "1", "--steps", "40")
    text = json.loads((tmp_path / "activation_order.json").read_text())
    assert len(text["activations"]) == 14 and (tmp_path / "activation_order.png").stat().st_size > 10_000


def test_first_frequency_is_learned_first(one_thread):
    at, errors = activation_order.trained("ReLU", seeds=2, steps=200, rate=1e-3, every=100, steeper=True)
    assert at.tolist() == [0, 100, 200] and errors.shape == (3, 2, 6)
    assert (errors[-1, :, 0] < 0.5).all() and (errors[-1, :, 3:] > errors[-1, :, :1]).all()


def test_pyramid_has_the_orders_of_the_theorem():
    result, text = rahaman2019_relu_transform.of_pyramid()
    assert text["within .15 of -2 and .25 of -3"] and result.pieces == 16


@pytest.mark.slow
def test_relu_transforms_in_few_steps(monkeypatch, tmp_path):
    run(rahaman2019_relu_transform, monkeypatch, tmp_path, "--steps", "3")
    text = json.loads((tmp_path / "rahaman2019_relu_transform.json").read_text())
    errors = text["2 inputs, before training"]["distance to the midpoint rule by n"]
    assert errors["2000"] < 1e-6 and errors["2000"] < errors["500"]
