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
