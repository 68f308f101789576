"""The scripts of Tanner's lecture for a few steps each, and their claims as committed."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[1] / "benchmarks" / "reproductions"
NET = """
import torch
from torch import nn
def net():
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), pooled, nn.Linear(4, 2))
"""


@pytest.fixture
def run(monkeypatch):
    """A script with words."""
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def called(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        importlib.import_module(name).main()

    return called


def test_two_layers_are_fitted_beside_pixels(run, tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 300)
    images = rng.integers(0, 40, (300, 28, 28), dtype=np.uint8)
    images[np.arange(300), 2 * labels, 3:24] = 255  # a line, whose place is the class
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    words = ("--train", tmp_path / "data.npz", "--test", tmp_path / "data.npz", "--out", tmp_path, "--steps", 5)
    run("tanner_two_layer_net", *words, "--rows", "pixels", "haar, hard, rectified")
    found = json.loads((tmp_path / "tanner_two_layer_net.json").read_text())
    assert found["rows"]["pixels"]["test"] > 0.95
    (claim,) = found["claims"]
    assert claim["holds"] and found["rows"]["haar, hard, rectified"]["kept"] <= 0.45


def test_rates_of_drawn_cartoons_are_fitted(run, tmp_path):
    pytest.importorskip("curvelets.torch")
    words = ("--kinds", "cartoons", "--side", 64, "--cartoons", 2, "--counts", 4, "--out", tmp_path)
    run("donoho2004_approximation", *words)
    found = json.loads((tmp_path / "donoho2004_approximation.json").read_text())
    frames = found["kinds"]["cartoons"]["frames"]
    assert frames.keys() == {"fourier", "wavelet", "curvelet"} and len(found["claims"]) == 3
    assert frames["fourier"]["alpha"] < frames["wavelet"]["alpha"]


@pytest.mark.slow
def test_codes_under_motions_are_claimed_and_drawn(run, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    (tmp_path / "nets.py").write_text(NET)
    made: dict = {}
    exec(NET, made)  # noqa: S102
    safetensors.save_file(made["net"]().state_dict(), tmp_path / "net.safetensors")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=rng.integers(0, 2, 4))
    words = ("--network", "net", f"{tmp_path}/nets.py:net", tmp_path / "net.safetensors", "--out", tmp_path / "out")
    run("tanner_invariance", "--data", tmp_path / "data.npz", "--limit", 2, *words)
    found = json.loads((tmp_path / "out" / "tanner_invariance.json").read_text())
    means = found["figures"]["net"]["rotation"]["means"]
    assert means["DWT"] == pytest.approx(means["pixels"], abs=2e-4)  # an orthonormal code moves as the pixels do
    assert len(found["claims"]) == 3 * (6 + 2) and len(list((tmp_path / "out").glob("*.png"))) == 9


def test_committed_claims():
    two = json.loads((SCRIPTS / "results" / "tanner_two_layer_net.json").read_text())
    assert two["training images"] == 20_000 and two["test images"] == 10_000
    assert len(two["claims"]) >= 3 and all(row["holds"] for row in two["claims"])
    assert {"db4, soft, rectified", "db2, hard, with signs", "scattering, order 1"} <= two["rows"].keys()
    curves = json.loads((SCRIPTS / "results" / "donoho2004_approximation.json").read_text())
    assert len(curves["claims"]) == 3 and all(row["holds"] for row in curves["claims"]) and len(curves["kinds"]) == 4
    moved = json.loads((SCRIPTS / "results" / "tanner_invariance.json").read_text())
    instead = {row["codes"]: row for row in moved["found instead"]}
    assert len(instead) == 2 * 3 * 2  # networks, motions, units
    assert instead["resnet20, shift, to contrast"]["least to most"][:2] == ["output", "scattering"]
    rows = {row["claim"]: row["holds"] for row in moved["claims"]}
    for kind in ("shift", "rotation", "dilation"):
        for unit in ("norm", "contrast"):
            assert rows[f"resnet20, {kind}, to {unit}: scattering moves less than the DWT"]
