"""The script on Wang et al. 2020: its experiments at their thresholds, and once through on a few images."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fastfreq import demo

SCRIPTS = Path(__file__).parents[1] / "benchmarks" / "reproductions"


@pytest.fixture
def script(monkeypatch):
    """The script as a module; threads and denormals as it sets them, put back afterwards."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    yield importlib.import_module("wang2020_batch_norm")
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


def test_script_writes_numbers_and_a_figure(script, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 9, 11, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=rng.integers(0, 3, 40))
    words = ["--data", str(tmp_path / "data.npz"), "--seeds", "1", "2", "--epochs", "1", "--max-epochs", "2"]
    monkeypatch.setattr(sys, "argv", ["wang2020", *words, "--out", str(tmp_path / "out")])
    script.main()
    assert (tmp_path / "out" / "batch_norm.png").stat().st_size > 10_000
    text = json.loads((tmp_path / "out" / "batch_norm.json").read_text())
    assert text["images"] == 40 and len(text["batch norm"]["runs"]) == len(text["labels"]["runs"]) == 2
    assert not text["labels"]["runs"][0]["pass"]  # two epochs teach nothing, and the check sees it


@pytest.mark.slow
def test_batch_norm_takes_more_from_high_parts(script):  # F2
    images, labels = demo.load_digits("train")
    pairs = [script.batch_norm_pair(images, labels, seed, radius=2, epochs=15) for seed in (10, 11, 12)]
    check = script.batch_norm_check(pairs)
    assert check["pass"], check


@pytest.mark.slow
def test_shuffled_labels_are_not_learned_from_low_parts(script):  # F3
    images, labels = demo.load_digits("train")
    natural = script.learned(images, labels, 13, radius=3, most=120)
    random = script.learned(images, script.shuffled(labels, 13), 13, radius=3, most=120)
    check = script.label_check(natural, random)
    assert check["pass"] and check["epochs, shuffled"] > 5 * check["epochs, natural"], check
