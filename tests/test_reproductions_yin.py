"""The scripts on Yin et al. 2019, each on a few random images and two small networks."""

from __future__ import annotations

import importlib
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import fastfreq as ff

# networks of chance on labels of chance
pytestmark = [
    pytest.mark.filterwarnings("ignore:the model is right on"),
    pytest.mark.filterwarnings("ignore:the map is flat"),
]
SCRIPTS = Path(__file__).parents[1] / "benchmarks" / "reproductions"
NETS = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 3))
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a script on two networks and 12 images; what it wrote, by file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    Path("nets.py").write_text(NETS)
    networks = []
    for seed, name in enumerate(("natural", "adversarial")):
        torch.manual_seed(seed)
        save_file(ff.load_model("nets.py:build").model.state_dict(), f"{name}.safetensors")
        networks += ["--network", name, "nets.py:build", f"{name}.safetensors"]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    np.savez("data.npz", images=images, labels=rng.integers(0, 3, 12))

    def script(name, *words):
        common = ["--data", "data.npz", *networks, "--limit", "12", "--out", "out", *words]
        monkeypatch.setattr(sys, "argv", [name, *common])
        importlib.import_module(name).main()
        assert all(path.stat().st_size > 10_000 for path in Path("out").glob("*.png"))
        return {path.name: path for path in Path("out").iterdir()}

    return script


def test_figure_7(run):
    files = run("yin2019_figure7", "--eps", "0.2", "--eps-l2", "3", "--steps", "2")
    assert sorted(files) == ["figure7.json", "figure7.png"]
    text = json.loads(files["figure7.json"].read_text())
    assert text["steps"] == 2 and len(text["PGD L2"]["natural"]["alpha, 95 % interval"]) == 2
    assert {type(text[attack]["reproduced"]) for attack in ("FGSM", "PGD L-inf", "PGD L2")} <= {bool, type(None)}


def test_figures_2_and_6(run, monkeypatch):
    package = types.ModuleType("imagecorruptions")

    def gaussian_noise(image, severity):
        return np.clip(image + np.random.normal(0, 8 * severity, image.shape), 0, 255)  # noqa: NPY002

    functions = {"gaussian_noise": gaussian_noise, "fog": lambda image, severity: image * 0.5 + 20 * severity}
    package.corruption_dict = functions  # pyright: ignore[reportAttributeAccessIssue]
    package.corrupt = lambda image, severity, corruption_name: np.uint8(  # pyright: ignore[reportAttributeAccessIssue]
        functions[corruption_name](image, severity)
    )
    monkeypatch.setitem(sys.modules, "imagecorruptions", package)
    words = ["--corruptions", "gaussian_noise", "fog", "--severities", "1", "3"]
    files = run("yin2019_figure2_and_6", *words)
    expected = ["figure2.png", "figure2_and_6.json", "figure6_adversarial.npz", "figure6_adversarial.png"]
    assert sorted(files) == expected
    text = json.loads(files["figure2_and_6.json"].read_text())["adversarial"]
    assert text["slope k, published"] == 0.35 and len(text["corruptions"]) == 2
    report = ff.load(files["figure6_adversarial.npz"])
    assert text["slope k"] == round(report.fit().slope, 3)
    assert text["reproduced"]["noise is white"] == (abs(report.high_fraction[0] - 0.705) < 0.02)
    assert not text["reproduced"]["images fall off with frequency"]  # these are white


def test_figures_1_and_5(run):
    files = run("yin2019_figure1_and_5", "--bandwidths", "3")
    text = json.loads(files["figure1_and_5.json"].read_text())["networks"]["natural"]
    assert text["noise yin_low"][0]["published"] == 0.73
    assert text["filter yin_high"][0]["low"] <= text["filter yin_high"][0]["accuracy"]
