"""Simulated maps to a stated precision: the script for a few of them, its coverage as committed, and a slow rerun."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import fastfreq as ff

SCRIPTS = Path(__file__).parents[1] / "benchmarks" / "reproductions"
RUNS = ("controls", "exact", "controls, source")
NET = """
import torch
from torch import nn
def net():
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), pooled, nn.Linear(32, 4))
"""


@pytest.fixture
def script(monkeypatch):
    """The script as a module; `main` with words."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("precision_goal")

    def called(*words):
        monkeypatch.setattr(sys, "argv", ["precision_goal", *map(str, words)])
        module.main()

    module.called = called
    return module


def test_simulated_maps_are_those_that_the_toolkit_makes(script, monkeypatch, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    (tmp_path / "nets.py").write_text(NET)
    torch.manual_seed(0)
    scope = {}
    exec(NET, scope)
    net = scope["net"]()
    safetensors.save_file(net.state_dict(), tmp_path / "net.safetensors")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (80, 12, 9, 3), dtype=np.uint8)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    labels = net(pixels / 255).argmax(dim=1).numpy()
    labels[:20] = rng.integers(0, 4, 20)  # some are wrong
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    words = ["--data", tmp_path / "data.npz", "--network", "small", f"{tmp_path / 'nets.py'}:net"]
    words += [tmp_path / "net.safetensors", "--size", 5, "--goal", 0.1, "--source", 200, "--maps", 8, "--seed", 3]
    words += ["--outcomes", tmp_path / "kept", "--out", tmp_path]
    script.called(*words, "--runs", "exact")
    script.called(*words)  # reads the outcomes
    found = json.loads((tmp_path / "precision_goal.json").read_text())["small"]
    assert set(script.RUNS) < set(found) and found["images"] == 80
    for name, figures in ((name, found[name]) for name in script.RUNS):
        assert figures["largest half-width"] <= 0.1 + 1e-5 or "source" in name
        assert 0.75 < figures["coverage"] <= 1 and 10 < figures["passes per cell"] < 220
    assert found["exact, whole map"]["maps covered in all cells"] >= 0.75 and found["anytime"]["coverage"] > 0.97
    words = [
        *words[:8],
        "--outcomes",
        tmp_path / "kept",
        "--out",
        tmp_path,
        "--seed",
        3,
        "--repeats",
        2,
        "--share",
        0.4,
    ]
    monkeypatch.setattr(sys, "argv", ["quick_map", *map(str, words)])
    importlib.import_module("quick_map").main()
    found = json.loads((tmp_path / "quick_map.json").read_text())["small"]
    assert len(found["ideas"]) == 19 and max(idea["share of passes"] for idea in found["ideas"].values()) <= 0.4
    with np.load(tmp_path / "kept" / "small_5_3.npz") as kept:
        whole = ff.heatmap(
            net.eval(), pixels, torch.from_numpy(labels), eps=4.0, size=5, convention="common_signs", seed=3
        )
        np.testing.assert_array_equal(kept["margins"] < 0, whole.wrong.unpack())


def test_quick_maps_as_committed():
    figures = json.loads((SCRIPTS / "results" / "quick_map.json").read_text())
    assert len(figures) >= 4
    for network in figures.values():
        best, first_order = network["ideas"]["quick_heatmap"], network["ideas"]["gradient_heatmap"]
        assert best["rank correlation"] > first_order["rank correlation"] + 0.15 and best["share of passes"] <= 0.03
        assert best["mean absolute error"] < first_order["mean absolute error"] / 5
        same = network["ideas"]["pilot of the same images, smoothed"]
        assert best["mean absolute error"] < same["mean absolute error"] and best["coverage"] >= 0.95


def test_coverage_as_committed():
    figures = json.loads((SCRIPTS / "results" / "precision_goal.json").read_text())
    networks = [found for name, found in figures.items() if not name.startswith("made")]
    assert len(networks) >= 3 and len(figures) - len(networks) >= 9
    runs = [(run, found[run]) for found in figures.values() for run in RUNS if run in found]
    for run, found in runs:
        assert found["coverage"] >= 0.95 - 2 * found["standard error"] and found["largest half-width"] <= 0.03 + 1e-5
        assert run != "exact" or found["of oracle"] <= 1.15
    assert all(found["coverage"] >= 0.95 for run, found in runs if run == "controls" and found["maps"] >= 100)


def test_what_a_share_of_the_fixed_number_costs(script):
    figures = script.prices(300.0, 0.03, np.full(9, 0.5), 1000)
    assert figures["of oracle"] == figures["of fixed"] == round(300 / figures["fixed"], 3)
    assert script.prices(300.0, 0.03, np.zeros(9), 1000)["of oracle"] > 1e6  # the oracle needs none


def test_intervals_cover_where_few_are_wrong_and_the_clean_image_tells_it(script):
    """30 maps, of which intervals of large samples covered .90; more of them, and other shares, are slow."""
    found = script.simulated("controls", 0.03, 30, script.Recorded.made(0.05, 0.3))
    assert found["coverage"] >= 0.95 - 1.5 * found["standard error"] and found["largest half-width"] <= 0.03 + 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("share", "noise"), [(0.02, 0.3), (0.05, 0.3), (0.1, 0.02), (0.1, 1.0), (0.3, 0.3)])
def test_intervals_cover_at_every_share_of_errors(script, share, noise):
    for run, maps in (("controls", 300), ("exact", 300)):
        found = script.simulated(run, 0.03, maps, script.Recorded.made(share, noise))
        assert found["coverage"] >= 0.95 - 2 * found["standard error"]
        assert found["cells below .95 by more than chance"] == 0 and found["largest half-width"] <= 0.03 + 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("run", ["exact", "controls"])
def test_intervals_cover_on_outcomes_of_a_network(script, shared_data, monkeypatch, run):
    from safetensors.torch import load_file

    monkeypatch.syspath_prepend(str(shared_data))
    net = importlib.import_module("cifar_nets").ResNetNB(2, 16)
    weights = load_file(shared_data / "weights" / "cifar10_resnet4b_adv.safetensors")
    net.load_state_dict({name: value.float() for name, value in weights.items()})
    model = ff.NormalizedModel(net, mean=(0.4914, 0.4822, 0.4465), std=(0.2471, 0.2435, 0.2616)).eval()
    with np.load(shared_data / "cifar10" / "cifar10_subset.npz") as arrays:
        images = torch.from_numpy(arrays["test_images"]).permute(0, 3, 1, 2).contiguous()
        labels = torch.from_numpy(arrays["test_labels"]).long()
    measured = script.Recorded.measured(model, images, labels, eps=4.0, size=9, seed=5)
    found = script.simulated(run, 0.03, 300, measured)
    assert found["coverage"] >= 0.95 - 2 * found["standard error"]
    assert found["cells below .95 by more than chance"] == 0 and found["largest half-width"] <= 0.03 + 1e-5
