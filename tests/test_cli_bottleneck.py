"""`fastfreq bottleneck`: its files, its page, and what it refuses."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

import fastfreq as ff
from fastfreq.cli import main

NETS = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5),
    )
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 9, 10, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(12) % 5)
    return tmp_path


def run(*words, out="out"):
    return main(["bottleneck", "--model", "nets.py:build", "--out", out, *words])


def test_weights_alone(folder, capsys):
    assert run("--input-size", "3", "8", "10") == 0
    result = ff.load("out/bottleneck.npz")
    truth = ff.bottleneck(ff.load_model("nets.py:build").model, input_size=(3, 8, 10))
    assert result.spectrum.model == "nets.py:build" and repr(result.table()) == repr(truth.table())
    with Path("out/bottleneck.csv").open() as file:
        assert [row["layer"] for row in csv.DictReader(file)] == ["0", "3"]
    text = capsys.readouterr().out
    assert truth.in_words() in text and "energy kept" not in text
    assert Path("out/bottleneck.png").stat().st_size > 5_000 and not Path("out/activations.png").exists()
    page = Path("out/bottleneck.html").read_text()
    assert "That is the bottleneck." in page and page.count("data:image/png") == 1


def test_with_images_and_down_sampling(folder, capsys):
    assert run("--data", "images.npz", "--downsample", "0.5", "--mean", "0.5", "--std", "0.25") == 0
    result, found = ff.load("out/bottleneck.npz"), ff.load("out/downsampling.npz")
    pixels = torch.from_numpy(np.load("images.npz")["images"]).permute(0, 3, 1, 2).float() / 255
    net = ff.NormalizedModel(ff.load_model("nets.py:build").model, mean=(0.5,) * 3, std=(0.25,) * 3).eval()
    seen = ff.bottleneck(net, input_size=(3, 9, 10), images=pixels).activations
    assert [s.images for s in result.activations.values()] == [12, 12]
    for name, layer in seen.items():
        np.testing.assert_allclose(result.activations[name].energy, layer.energy, rtol=1e-6)
    assert found.energy == 0.5 and len(found.correct) == 12
    text = capsys.readouterr().out
    assert "energy kept" in text and found.in_words() in text
    assert Path("out/activations.png").stat().st_size > 5_000
    page = Path("out/bottleneck.html").read_text()
    assert page.count("data:image/png") == 3 and "computed at every pixel" in page


def test_mistakes_end_in_one_line(folder, capsys):
    for words, message in (
        ([], "expected --input-size C H W"),
        (["--input-size", "3", "8", "8", "--downsample", "0.9"], "expected --data with --downsample"),
        (["--data", "images.npz", "--input-size", "3", "8", "8"], "expected `images` of shape"),
        (["--input-size", "3", "8", "8", "--layers", "9"], "expected `layers` among the convolutions"),
    ):
        assert run(*words) == 2
        error = capsys.readouterr().err
        assert message in error and error.startswith("fastfreq bottleneck") and "Traceback" not in error


def test_the_verb_explains_itself(capsys):
    with pytest.raises(SystemExit) as done:
        main(["bottleneck", "--help"])
    assert done.value.code == 0
    assert "--data" in (text := capsys.readouterr().out) and "measure what the layers' inputs hold" in " ".join(
        text.split()
    )
