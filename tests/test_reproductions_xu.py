"""The scripts on Xu et al.: their experiments in small, their truths in closed form, and once through."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

SCRIPTS = Path(__file__).parents[1] / "benchmarks" / "reproductions"


@pytest.fixture
def script(monkeypatch):
    """name -> a script as a module; threads and denormals as they set them, put back afterwards."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    yield importlib.import_module
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


def test_jacobi_goes_from_high_to_low_as_its_closed_form_says(script):
    sines = script("xu2020_sines")
    history = sines.jacobi(steps=500, every=10)
    k, t = np.array(sines.FREQUENCIES), history.steps[:, None]
    decay = np.cos(2 * np.pi * k / sines.POINTS) ** t
    np.testing.assert_allclose(history.errors["dft"][:, :, 0], decay, rtol=2e-5)
    five, three = (history.first_hit("dft")[i, 0] for i in (2, 1))
    assert [five, three] == sines.predicted(10)[:0:-1] and five < three
    assert (history.spectral_bias("dft")[1:] < 0).all()


def test_the_transform_of_tanh_is_quadratures(script):  # A2
    assert script("xu2020_sines").transform_error(21) < 1e-8


def test_three_sines_are_learned_in_their_order(script):  # A1, one seed
    sines = script("xu2020_sines")
    hits = sines.trained("relu", 20, steps=700).first_hit("dft")[:, 0].tolist()
    assert sines.check([hits]) == {"ordered": 1, "five at least three times one": 1, "pass": True}
    assert not sines.check([hits, hits[::-1]])["pass"]


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_three_sines_with_ten_seeds(script, activation):  # A1
    sines = script("xu2020_sines")
    hits = [sines.trained(activation, seed).first_hit("dft")[:, 0].tolist() for seed in range(30, 40)]
    assert sines.check(hits)["pass"], hits


def test_labels_of_digits_are_learned_low_part_first(script):  # A3, A4, one network
    filtering = script("xu2020_filtering")
    images, labels = filtering.load("digits", None, 1500)
    torch.manual_seed(20)
    net = filtering.fully_connected(64)
    options = {"data": "digits", "seed": 20, "epochs": 15, "squares": True}
    history = filtering.trained(net, images, labels, **options)
    found = filtering.filter_check(history)
    assert found["pass"] and [row["splits"] for row in found["widths"]] == [False, True, True, True]
    assert filtering.projection_check(history)["pass"]


def test_a_photograph_is_learned_from_coarse_to_fine(script, tmp_path, monkeypatch):
    pil = pytest.importorskip("PIL.Image")
    photograph = script("xu2020_photograph")
    monkeypatch.setattr(photograph, "SIDE", 16)
    monkeypatch.setattr(photograph, "GROUPS", ((1, 2), (3, 4), (5, 8)))
    from sklearn.datasets import load_sample_image

    pil.fromarray(load_sample_image("china.jpg")).save(tmp_path / "china.png")
    words = ["--image", str(tmp_path / "china.png"), "--seeds", "3", "--steps", "400", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["xu2020_photograph", *words])
    photograph.main()
    run = json.loads((tmp_path / "out" / "photograph.json").read_text())["runs"]["3"]
    low, middle, high = run["mean errors at the end"]
    assert low < middle < high
    assert (tmp_path / "out" / "photograph_errors.png").stat().st_size > 10_000


@pytest.mark.slow
def test_labels_of_cifar_are_learned_low_part_first(script, shared_data):
    filtering = script("xu2020_filtering")
    images, labels = filtering.load("cifar10", shared_data / "cifar10" / "cifar10_subset.npz", 5000)
    torch.manual_seed(21)
    net = filtering.published_convolutions(3, 32)
    history = filtering.trained(net, images, labels, data="cifar10", seed=21, epochs=3, squares=False, looks=2)
    assert filtering.filter_check(history)["pass"]
