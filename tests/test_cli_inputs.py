"""The verbs of the input side, on the built-in digits networks."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fastfreq as ff
from fastfreq.cli import main

NETS = """
from fastfreq.demo import load_network

def natural():
    return load_network("natural")

def adversarial():
    return load_network("adversarial")
"""
MODEL = ["--model", "nets.py:natural", "--data", "digits.npz"]
NO_TIMING = ["--batch-size", "64"]


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A working folder with model factories, 60 digits, and a folder of images of several sizes."""
    demo = pytest.importorskip("fastfreq.demo")
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS)
    images, labels = demo.load_digits()
    np.savez("digits.npz", images=images[:60].numpy(), labels=labels[:60].numpy())
    rng = np.random.default_rng(0)
    for name, size in (
        ("photos/a.png", (17, 24)),
        ("photos/deeper/b.png", (17, 24)),
        ("photos/deeper/c.png", (30, 19)),
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(name)


VERBS = {
    "filter": ([*NO_TIMING, "--bandwidths", "0", "3", "8"], ["filter-yin-low", "filter-yin-high"], "filter"),
    "noise": ([*NO_TIMING, "--norm", "3", "--kind", "radial", "--bandwidths", "2"], ["noise-radial"], "noise"),
    "channel": (["--bands", "2", "4", "--deviations", "0.4", "0.8", "--criterion", "0.8"], ["channel"], "channel"),
    "classes": (["--size", "3"], ["classes"], "classes"),
    "components": (["--radii", "1", "3"], ["components"], "components"),
    "features": ([], ["features"], "features"),
    "attack fgsm": (["--eps", "64/255"], ["attack-fgsm"], "attack-fgsm"),
    "attack pgd": (["--eps", "0.3", "--steps", "2"], ["attack-pgd"], "attack-pgd"),
    "attack fourier": (["--eps", "2.5", "--size", "3"], ["attack-fourier"], "attack-fourier"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_writes_results_tables_and_a_picture(verb, job, capsys):
    words, files, picture = VERBS[verb]
    assert main([*verb.split(), *MODEL, *words, "--out", "out"]) == 0
    said = capsys.readouterr().out
    assert "nets.py:natural" in said and "60 images" in said and " [" in said  # figures carry intervals
    assert Path(f"out/{picture}.png").stat().st_size > 10_000
    for file in files:
        result = ff.load(f"out/{file}.npz")
        assert result.details["model"] == "nets.py:natural"
        with Path(f"out/{file}.csv").open() as table:
            assert len(list(csv.DictReader(table))) == len(result.table())


def test_shards_merge_and_open_in_a_report(job):
    words = ["attack", "fgsm", *MODEL, *VERBS["attack fgsm"][0]]
    assert main([*words, "--out", "whole"]) == 0
    for i in range(2):
        assert main([*words, "--out", "parts", "--shard", f"{i}/2"]) == 0
    parts = [f"parts/attack-fgsm-{i}-of-2.npz" for i in range(2)]
    assert main(["merge", *parts, "--out", "merged.npz"]) == 0
    merged, whole = (ff.load(path).to_dataframe() for path in ("merged.npz", "whole/attack-fgsm.npz"))
    np.testing.assert_allclose(merged, whole, rtol=1e-5, atol=1e-6)
    assert main(["report", "merged.npz", "whole/attack-fgsm.npz", "--out", "page"]) == 0
    page = Path("page/report.html").read_text()
    assert "Spectrum: nets.py:natural<" in page and "Spectrum: nets.py:natural (attack-fgsm)" in page
    assert "alpha" in page  # the short table


def test_settings_reach_the_measurement(job):
    flags = [
        "--clip",
        "--normalise-contrast",
        "--metrics",
        "error",
        "loss",
        "--precision",
        "bf16",
        "--limit",
        "7",
        *NO_TIMING,
    ]
    assert main(["filter", *MODEL, "--kind", "high", "--bandwidths", "5", *flags, "--out", "out"]) == 0
    curve = ff.load("out/filter-yin-high.npz")
    assert curve.clip and curve.normalise_contrast and curve.metrics == ("error", "loss") and curve.n_images == 7
    assert curve.details["precision"] == "bf16" and curve.bandwidths.tolist() == [5]
    noisy = [
        "noise",
        *MODEL,
        "--kind",
        "low",
        "--norm",
        "2",
        "--bandwidths",
        "3",
        "--no-clip",
        "--seed",
        "9",
        *NO_TIMING,
    ]
    assert main([*noisy, "--out", "out"]) == 0
    curve = ff.load("out/noise-yin-low.npz")
    assert curve.norm == 2 and curve.seed == 9 and not curve.clip
    assert main(["attack", "fourier", *MODEL, "--eps", "1", "--queries", "5", "--order", "high", "--out", "out"]) == 0
    found = ff.load("out/attack-fourier.npz")
    assert len(found.frequencies) == 5 and found.order == "high"


def test_spectra_of_photographs_of_any_sizes(job, capsys):
    assert main(["spectrum", "--data", "photos", "--side", "16", "--out", "out"]) == 0
    assert "alpha" in capsys.readouterr().out
    result = ff.load("out/spectrum.npz")
    assert result.count == 3 and result.shape is None
    assert main(["spectrum", "--data", "photos", "--crop", "16", "--power", "--limit", "2", "--out", "out"]) == 0
    result = ff.load("out/spectrum.npz")
    assert result.count == 2 and result.shape == (3, 16, 16) and result.kind == "power"
    assert main(["spectrum", "--data", "photos", "--crop", "16", "--against", "photos", "--out", "out"]) == 0
    assert ff.load("out/spectrum-photos.npz").map.max() == 0


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
    words = ["corruptions", *MODEL, "--folder", "corrupted", "--severities", "1", "5"]
    assert main([*words, "--baseline", "nets.py:adversarial", "--out", "out"]) == 0
    said = capsys.readouterr().out
    report = ff.load("out/corruptions.npz")
    assert report.corruptions == ("darker", "noisy") and report.severities == (1, 5)
    assert f"slope k {report.fit().slope:.3f}" in said and report.details["baseline"] == "nets.py:adversarial"
    assert Path("out/corruptions.png").exists()


def test_a_channel_that_cannot_be_fitted_is_said_and_drawn(job, capsys):
    assert main(["channel", *MODEL, "--bands", "2", "--deviations", "0.001", "--out", "out"]) == 0
    assert "no channel: expected noise that brings" in capsys.readouterr().out
    assert Path("out/channel.png").exists()


def test_an_attack_that_fools_nobody_is_said(job, capsys):
    digits = np.load("digits.npz")
    with torch.inference_mode():
        seen = ff.load_model("nets.py:natural").model(torch.from_numpy(digits["images"])).argmax(dim=1).numpy()
    right = seen == digits["labels"]
    np.savez("right.npz", images=digits["images"][right], labels=seen[right])
    words = ["--model", "nets.py:natural", "--data", "right.npz", "--eps", "1e-7", "--limit", "2", "--out", "out"]
    assert main(["attack", "fgsm", *words]) == 0
    assert "no image was fooled" in capsys.readouterr().out
    assert ff.load("out/attack-fgsm.npz").count == 0


def test_mistakes_end_in_one_line(job, capsys):
    for words, message in (
        (["filter", *MODEL, "--kind", "lo"], "expected a mask of"),
        (["filter", *MODEL, "--kind", "low", "yin_low"], "each family of masks once"),
        (["filter", *MODEL, "--kind", "low", "--bandwidths", "9"], "bandwidth from 0 to 8 for images of 8 x 8"),
        (["noise", *MODEL, "--norm", "-1"], "expected a positive `norm`"),
        (["components", *MODEL, "--shard", "x"], "--shard as I/N"),
        (["classes", *MODEL, "--share", "0"], "--share above 0"),
        (["corruptions", *MODEL, "--baseline-weights", "x"], "--baseline with --baseline-weights"),
        (["corruptions", *MODEL, "--folder", "photos", "--limit", "3"], "no --limit with --folder"),
        (["spectrum", "--data", "photos"], "one shape"),
        (["spectrum", "--data", "nets.py"], "expected a folder of images or an .npz"),
        (["spectrum", "--data", "photos", "--corruption", "fog", "--against", "photos"], "got both"),
        (["spectrum", "--data", "photos", "--against", "digits.npz"], "as many images"),
        (["attack", "pgd", *MODEL, "--eps", "0"], "positive radius"),
    ):
        assert main(words) == 2, words
        error = capsys.readouterr().err
        assert message in error and error.splitlines()[-1].startswith("fastfreq ") and "Traceback" not in error
    with pytest.raises(SystemExit):
        main(["attack", "pgd", *MODEL, "--eps", "8/x"])
    assert "fraction such as 8/255" in capsys.readouterr().err
