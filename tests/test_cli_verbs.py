"""Every verb measures what its words say, on the built-in digits networks. Figures are tested where they are made."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

import fastfreq as ff
from fastfreq.cli import main
from tests.test_cli import MODEL, job

__all__ = ["job"]
DIGITS = "nets.py-natural"
FAST = ["--batch-size", "64"]

VERBS = {
    "heatmap": (["--eps", "2.5", "--size", "3", *FAST], {"eps": 2.5, "size": (3, 3)}),
    "gradient-heatmap": (["--eps", "2", "--margins", "2", *FAST], {"eps": 2.0}),
    "filter-curve": (
        ["--kind", "high", "--bandwidths", "5", "--clip", "--normalise-contrast", "--metrics", "loss", *FAST],
        {"clip": True, "normalise_contrast": True, "metrics": ("error", "loss"), "mask": "yin_high"},
    ),
    "noise-curve": (
        ["--kind", "radial", "--norm", "2", "--bandwidths", "3", "--no-clip", "--seed", "9", *FAST],
        {"norm": 2.0, "seed": 9, "clip": False, "mask": "radial"},
    ),
    "critical-band": (
        ["--bands", "2", "4", "--deviations", "0.4", "0.8", "--grayscale", "--contrast", "0.5", *FAST],
        {"grayscale": True, "contrast": 0.5},
    ),
    "dominant-frequencies": (["--size", "3", "--patch", "1", *FAST], {"size": (3, 3), "patch": 1}),
    "component-curves": (["--radii", "1", "3", "--inclusive", *FAST], {"inclusive": True}),
    "feature-spectra": (["--layers", "features.3", "--skip-dead", *FAST], {"skip_dead": True}),
    "fourier-attack": (["--eps", "2", "--queries", "5", "--order", "high", *FAST], {"eps": 2.0, "order": "high"}),
    "adversarial-spectrum": (["--attack", "fgsm", "--eps", "64/255", "--power", *FAST], {"statistic": "power"}),
    "post-averaging-curve": (
        ["--radii", "0.3", "--attack", "fgsm", "--eps", "0.1", "--directions", "2", "--no-original", *FAST],
        {"adaptive": False, "normalised": False},
    ),
    "top-patches": (["--layer", "features.3", "--units", "0", "2", *FAST], {"layer": "features.3"}),
    "invert": (
        ["--layers", "features.3", "--caricature", "--steps", "2", "--limit", "2"],
        {"layers": ("features.3",), "objective": "caricature"},
    ),
    "bottleneck": (["--accuracy", "fast"], {}),
    "sparse-coding": (["--batch-size", "40"], {"input_size": (1, 8, 8)}),
    "downsampling": (["--energy", "0.5", "--strides", "2", "--rounds", "1", "--batch-size", "20"], {"energy": 0.5}),
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_writes_its_result_its_table_a_picture_and_a_page(verb, job, capsys):
    words, expected = VERBS[verb]
    assert main([verb, *MODEL, *words, "--out", "out"]) == 0
    (file,) = Path("out").glob("*.npz")
    assert file.name.startswith(f"{verb}-{DIGITS}")
    result = ff.load(file)
    assert result.kind == verb.replace("-", "_") and result.details["model"] == "nets.py:natural"
    for name, value in expected.items():
        assert getattr(result, name) == value, name
    with file.with_suffix(".csv").open(newline="") as table:
        assert len(list(csv.DictReader(table))) == len(result.table())
    assert file.with_suffix(".png").exists() and file.with_suffix(".html").exists()
    assert "nets.py:natural" in capsys.readouterr().out


def test_run_options_reach_the_measurement(job):
    words = ["--precision", "bf16", "--limit", "7", "--no-channels-last", "--fold-batch-norm", *FAST]
    assert main(["filter-curve", *MODEL, "--kind", "low", "--bandwidths", "5", *words, "--out", "out", "--quiet"]) == 0
    result = ff.load(f"out/filter-curve-{DIGITS}-yin-low.npz")
    assert result.n_images == 7 and result.details["layout"] == "contiguous" and result.details["batch_size"] == "64"
    assert {"precision=bf16", "fold_batch_norm=True"} <= set(result.model.numerics)


def test_a_checkpoint_is_gone_on_from(job, capsys):
    words = ["heatmap", *MODEL, "--eps", "2", "--size", "3", *FAST, "--checkpoint", "half.npz", "--quiet"]
    assert main([*words, "--limit", "20", "--out", "a"]) == 0
    assert ff.load("half.npz").n_images == 20
    assert main([*words, "--limit", "20", "--eps", "1", "--out", "b"]) == 2
    assert "half.npz is of another" in capsys.readouterr().err


def test_predicted_labels_stand_in(job):
    images = np.load("digits.npz")["images"]
    np.savez("wrong.npz", images=images, labels=np.full(len(images), 3))
    words = ["--data", "wrong.npz", "--eps", "2", "--size", "1", "--labels", "predicted", *FAST]
    assert main(["heatmap", "--model", "nets.py:natural", *words, "--out", "out", "--quiet"]) == 0
    result = ff.load(f"out/heatmap-{DIGITS}.npz")
    assert result.labelled == "predicted" and result.clean_error == 0


def test_photographs_are_resized_and_cropped(job, capsys):
    Path("colour.py").write_text(
        "import torch\nfrom torch import nn\ndef build():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))\n"
    )
    words = ["heatmap", "--model", "colour.py:build", "--data", "photos", "--eps", "3", "--size", "1", *FAST]
    assert main([*words, "--resize", "10", "--crop", "8", "--out", "out", "--quiet"]) == 0
    result = ff.load("out/heatmap-colour.py-build.npz")
    assert result.shape == (3, 8, 8) and result.n_images == 3
    assert result.details["resize"] == "10" and result.details["crop"] == "8"


def test_spectra_of_photographs_of_any_sizes(job):
    assert main(["image-spectrum", "--data", "photos", "--side", "16", "--out", "out", "--quiet"]) == 0
    assert ff.load("out/image-spectrum-photos.npz").n_images == 3
    words = ["--data", "photos", "--crop", "16", "--power", "--limit", "2", "--out", "power", "--quiet"]
    assert main(["image-spectrum", *words]) == 0
    result = ff.load("power/image-spectrum-photos.npz")
    assert result.n_images == 2 and result.shape == (3, 16, 16)
    words = ["--data", "photos", "--crop", "16", "--against", "photos", "--out", "out", "--quiet"]
    assert main(["difference-spectrum", *words]) == 0
    assert ff.load("out/difference-spectrum-photos.npz").map.max() == 0


def test_corruptions_from_a_folder_against_a_baseline(job, capsys):
    digits = np.load("digits.npz")
    Path("corrupted").mkdir()
    pixels = np.round(digits["images"].transpose(0, 2, 3, 1) * 255)
    noise = np.random.default_rng(0).normal(0, 60, (5, *pixels.shape))
    for name, changed in (
        ("noisy", pixels + noise),
        ("darker", pixels * np.linspace(0.9, 0.3, 5)[:, None, None, None, None]),
    ):
        np.save(f"corrupted/{name}.npy", np.clip(changed, 0, 255).astype(np.uint8).reshape(-1, 8, 8, 1))
    words = ["corruption-report", *MODEL, "--folder", "corrupted", "--severities", "1", "5", *FAST]
    assert main([*words, "--baseline", "nets.py:adversarial", "--out", "out"]) == 0
    report = ff.load(f"out/corruption-report-{DIGITS}.npz")
    assert set(report.corruptions) == {"darker", "noisy"} and tuple(report.severities) == (1, 5)
    assert f"slope k {report.fit().slope:.3f}" in capsys.readouterr().out


def test_a_channel_that_cannot_be_fitted_is_said(job, capsys):
    words = ["critical-band", *MODEL, "--bands", "2", "--deviations", "0.001", *FAST, "--out", "out"]
    assert main(words) == 0
    assert "no channel: expected noise that brings" in capsys.readouterr().out


def test_an_attack_that_fools_nobody_is_said(job, capsys):
    images = np.load("digits.npz")["images"]
    with torch.inference_mode():
        seen = ff.load_model("nets.py:natural").model(torch.from_numpy(images)).argmax(dim=1).numpy()
    np.savez("right.npz", images=images, labels=seen)
    words = ["--data", "right.npz", "--attack", "fgsm", "--eps", "1e-7", *FAST, "--out", "out"]
    assert main(["adversarial-spectrum", "--model", "nets.py:natural", *words]) == 0
    assert "expected at least one image" in capsys.readouterr().out
    assert ff.load(f"out/adversarial-spectrum-{DIGITS}.npz").n_images == 40
    assert "has no picture" in Path(f"out/adversarial-spectrum-{DIGITS}.html").read_text()


# ---------------------------------------------------------------- layers
def test_singular_values_with_a_bound_or_the_reason_why_there_is_none(job, capsys):
    words = ["singular-values", "--model", "nets.py:natural", "--input-size", "1", "8", "8"]
    assert main([*words, "--accuracy", "exact", "--out", "out", "--pictures"]) == 0
    found = ff.load(f"out/singular-values-{DIGITS}.npz")
    network = ff.load_model("nets.py:natural").model
    assert found.norms == ff.singular_values(network, input_size=(1, 8, 8), accuracy="exact").norms
    said = capsys.readouterr().out
    bound = ff.lipschitz_bound(network, input_size=(1, 8, 8))
    assert f"at most {10**bound.log10:.3g}" in said and "pass --linear" in said
    assert len(list(Path("out/layers").glob("*.png"))) == len(found)
    assert main([*words, "--linear", "--padding", "circular", "--accuracy", "fast", "--quiet", "--out", "fast"]) == 0
    found = ff.load(f"fast/singular-values-{DIGITS}.npz")
    assert len(found) == 5 and all(layer.accuracy == "fast" for layer in found.values())


def test_shards_of_layers_merge(job, capsys):
    words = ["singular-values", "--model", "nets.py:natural", "--input-size", "1", "8", "8"]
    for i, layer in enumerate(("features.0", "features.3")):
        assert main([*words, "--layers", layer, "--out", f"part{i}"]) == 0
    assert "Lipschitz" not in capsys.readouterr().out  # these are not the whole network
    parts = [f"part{i}/singular-values-{DIGITS}.npz" for i in range(2)]
    assert main(["merge", *parts, "--out", "merged.npz"]) == 0
    assert list(ff.load("merged.npz")) == ["features.0", "features.3"]
    assert main(["repeat", "merged.npz"]) == 2  # of each part there is a command, of both there is none


def test_one_convolution_is_a_model_too(job):
    Path("one.py").write_text("from torch import nn\ndef build():\n    return nn.Conv2d(3, 3, 3, padding=1)\n")
    words = ["--model", "one.py:build", "--input-size", "3", "6", "5", "--out", "out", "--quiet"]
    assert main(["singular-values", *words]) == 0
    assert list(ff.load("out/singular-values-one.py-build.npz")) == ["0"]


def test_bottleneck_with_and_without_images(job):
    words = ["bottleneck", "--model", "nets.py:natural", "--quiet", "--accuracy", "fast"]
    assert main([*words, "--input-size", "1", "8", "8"]) == 0
    assert main([*words, "--data", "digits.npz"]) == 0
    plain, seen = (ff.load(f"fastfreq-report/bottleneck-{DIGITS}{i}/bottleneck-{DIGITS}.npz") for i in ("", "-2"))
    assert not plain.activations and seen.activations
