from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import fastfreq as ff
from fastfreq.cli import main

NETS = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 9, 4))
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A folder with a model file, its weights and data that it classifies without error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    net = ff.load_model("nets.py:build").model
    save_file(net.state_dict(), "weights.safetensors")
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 8, 8), dtype=np.uint8)
    with torch.inference_mode():
        labels = net((torch.from_numpy(images) / 255 - 0.5) / 0.25).argmax(dim=1)
    np.savez("data.npz", images=images, labels=labels.numpy())
    return ["--model", "nets.py:build", "--weights", "weights.safetensors", "--data", "data.npz",
            "--mean", "0.5", "0.5", "0.5", "--std", "0.25", "0.25", "0.25"]  # fmt: skip


def test_heatmap_writes_the_result_the_pictures_and_the_page(job, tmp_path, capsys):
    assert main(["heatmap", *job, "--eps", "2", "--size", "5", "--metrics", "loss", "--out", "out"]) == 0
    result = ff.load("out/map.npz")
    assert result.clean_error == 0 and result.error.shape == (5, 5) and result.metrics == ("error", "loss")
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    assert list((tmp_path / "out").glob("*.png"))
    assert "clean error 0.000" in capsys.readouterr().out


def test_shards_of_several_runs_merge(job):
    main(["heatmap", *job, "--eps", "2", "--size", "5", "--out", "whole"])
    for i in range(2):
        assert main(["heatmap", *job, "--eps", "2", "--size", "5", "--shard", f"{i}/2", "--out", "parts"]) == 0
    assert main(["merge", "parts/map-1-of-2.npz", "parts/map-0-of-2.npz", "--out", "merged.npz"]) == 0
    np.testing.assert_array_equal(ff.load("merged.npz").wrong, ff.load("whole/map.npz").wrong)
    assert main(["report", "merged.npz", "--out", "page"]) == 0


def test_photographs_are_resized_and_cropped(job, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i, size in enumerate([(20, 31), (25, 17)]):
            pixels = np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    words = [*job, "--eps", "3", "--resize", "10", "--crop", "8", "--data", "photos", "--out", "out"]
    assert main(["heatmap", *words]) == 2  # two folders cannot be matched to four classes
    for name in ("c", "d"):
        shutil.copytree(tmp_path / "photos" / "a", tmp_path / "photos" / name)
    assert main(["heatmap", *words]) == 0
    assert ff.load("out/map.npz").shape == (3, 8, 8)


def test_gradient(job, tmp_path):
    assert main(["gradient", *job, "--eps", "2", "--out", "out"]) == 0
    assert ff.load("out/gradient.npz").predicted_error.shape == (8, 8)
    assert (tmp_path / "out" / "gradient.png").exists()


def test_the_built_in_example(tmp_path, capsys):
    assert main(["report", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert all(name in page for name in ("natural", "gaussian", "adversarial"))
    assert ff.load(tmp_path / "natural.npz").n_images == 797
    assert str(tmp_path / "report.html") in capsys.readouterr().out


def test_mistakes_end_in_one_line(job, capsys):
    for words, message in (
        (["heatmap", *job, "--eps", "2", "--size", "9"], "map `size` from 1 to the image's 8 x 8"),
        (["heatmap", *job, "--eps", "2", "--shard", "3"], "--shard as I/N"),
        (["heatmap", *job, "--eps", "2", "--share-stem"], "clip=False"),
        (["heatmap", *job, "--eps", "2", "--fold-batch-norm"], "it has no batch norm"),
        (["heatmap", *job, "--eps", "2", "--layers", "9"], "expected a layer named as in"),
        (["heatmap", *job, "--eps", "2", "--resize", "9"], "--crop with --resize"),
        (["report", "missing.npz"], "found no file"),
        (["heatmap", *job[:-4], "--eps", "2"], "--mean and --std together"),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert message in error and error.startswith("fastfreq ") and "Traceback" not in error
