"""The scripts of Mahendran and Vedaldi's figures, for a few steps on a network of the test's."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

SCRIPTS = Path(__file__).parents[1] / "benchmarks" / "reproductions"
NET = """from torch import nn
def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(5, 2)).eval()
"""


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("name", "words"), [("maximisation", ["--units", "3", "--timed", "1"]), ("inversion", [])])
def test_script_writes_numbers_and_figures(name, words, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    script = importlib.import_module(f"mahendran2016_{name}")
    (tmp_path / "nets.py").write_text(NET)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Identity(), nn.Identity())
        net.add_module("6", nn.Linear(5, 2))
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 16, 16), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=pixels[..., :14, :14], labels=np.zeros(6, np.int64))
    if name == "maximisation":
        monkeypatch.setattr(script, "COSTS", ((12, 2),))
        monkeypatch.setattr(script, "REPEATS", 2)
    shared = [
        "--data",
        "data.npz",
        "--model",
        "nets.py:build",
        "--weights",
        "w.safetensors",
        "--mean",
        ".5",
        ".5",
        ".5",
    ]
    shared += ["--std", ".2", ".2", ".2", "--layers", "1", "3", "--steps", "3", "--side", "14", "--out", "out"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["script", *shared, *words])
    script.main()
    text = json.loads((tmp_path / "out" / f"mahendran2016_{name}.json").read_text())
    assert text["images"] == 6 and len(list((tmp_path / "out").glob("*.png"))) == (4 if name == "maximisation" else 2)
    if name == "maximisation":
        assert text["all, channel"]["units"] == 6 and text["cost"][0]["ratio"] > 0


def test_colours_of_photographs_are_those_that_are_searched_for(tmp_path, monkeypatch):
    """The script on images whose covariance NumPy gives; and its committed figures are the constant's."""
    image = pytest.importorskip("PIL.Image")
    from fastfreq.features.image_search import NATURAL_COLOURS

    monkeypatch.syspath_prepend(str(SCRIPTS))
    script = importlib.import_module("natural_colours")
    rng, blocks = np.random.default_rng(0), []
    for i, (h, w) in enumerate([(8, 12), (20, 4)]):
        pixels = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
        image.fromarray(pixels).save(tmp_path / f"{i}.png")
        blocks.append(pixels.reshape(h // 4, 4, w // 4, 4, 3).mean(axis=(1, 3)).reshape(-1, 3) / 255)
    monkeypatch.setattr(sys, "argv", ["script", "--images", str(tmp_path), "--out", str(tmp_path)])
    script.main()
    found = json.loads((tmp_path / "natural_colours.json").read_text())
    weights = np.concatenate([np.full(len(b), 1 / len(b)) for b in blocks])
    expected = np.cov(np.concatenate(blocks).T, aweights=weights, bias=True)
    np.testing.assert_allclose(found["covariance"], expected, atol=2e-3)  # Pillow rounds means to eight bits
    committed = json.loads((SCRIPTS / "results" / "natural_colours.json").read_text())
    assert committed["covariance"] == [list(row) for row in NATURAL_COLOURS] and committed["images"] == 1000
