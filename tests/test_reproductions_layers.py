"""The scripts on networks of which one layer is trained, once through in small, and their claims as committed."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

SCRIPTS = Path(__file__).parents[1] / "benchmarks" / "reproductions"
SMALL = {
    "raghu2017_single_layer": ["--samples", "60", "40", "--epochs", "1", "--width", "9", "--depth", "4"],
    "transfer_last_layer": ["--training", "120", "--tested", "80", "--samples", "10", "20", "--epochs", "1"],
}


@pytest.mark.parametrize("name", SMALL)
def test_script_writes_claims_and_pictures(name, tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (400, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "mnist.npz", images=images, labels=rng.integers(0, 10, 400))
    monkeypatch.syspath_prepend(str(SCRIPTS))
    words = ["--mnist", str(tmp_path / "mnist.npz"), "--seeds", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [name, *SMALL[name], *words])
    threads = torch.get_num_threads()
    try:
        importlib.import_module(name).main()
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
    text = json.loads((tmp_path / f"{name}.json").read_text())
    assert len(text["claims"]) >= 6 and not all(row["holds"] for row in text["claims"])  # noise teaches nothing
    assert len(list(tmp_path.glob("*.png"))) == len(list(tmp_path.glob("*.npz"))) - 1 >= 1
    assert "claim" in capsys.readouterr().out


@pytest.mark.parametrize("name", SMALL)
def test_committed_claims_are_of_the_script_as_it_is(name):
    """What was asked for stands there with what was measured, held or not."""
    found = json.loads((SCRIPTS / "results" / f"{name}.json").read_text())
    assert found["claims"] and all(set(row) == {"claim", "asked", "measured", "holds"} for row in found["claims"])
    assert len(found["settings"]["seeds"]) >= 3
