"""The scripts of Rahaman et al. 2019 for a few steps each, and their claims as committed."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

SCRIPTS = Path(__file__).parents[1] / "benchmarks" / "reproductions"
SHORT = {
    "sinusoids": (["--steps", "2", "--seeds", "1"], 2),
    "robustness": (["--steps", "2", "--seeds", "1", "--directions", "2"], 1),
    "manifolds": (["--steps", "2", "--class_steps", "2", "--width", "8", "--seeds", "1"], 2),
    "label_noise": (["--steps", "2", "--seeds", "1", "--training", "20", "--validation", "10", "--width", "8"], 3),
    "kernel": (["--steps", "3", "--seeds", "1", "--samples", "40", "--width", "8"], 1),
    "delta": (["--steps", "2", "--seeds", "1"], 1),
    "neighbours": (["--steps", "2", "--seeds", "1", "--width", "8"], 1),
}
MNIST = ("label_noise", "kernel")


@pytest.fixture
def script(monkeypatch):
    """A script as a module; the threads and subnormal numbers that it sets are put back."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("name", SHORT)
def test_scripts_write_claims_results_and_pictures(name, script, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (400, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "mnist.npz", images=images, labels=rng.integers(0, 10, 400))
    words, pictures = SHORT[name]
    words = [*words, *(["--mnist", str(tmp_path / "mnist.npz")] if name in MNIST else [])]
    module, first, again = script(f"rahaman2019_{name}"), tmp_path / "first", tmp_path / "again"
    for out, more in ((first, []), (again, ["--saved", str(first)])):
        monkeypatch.setattr(sys, "argv", [name, *words, "--out", str(out), *more])
        module.main()
    found = [json.loads((out / f"rahaman2019_{name}.json").read_text()) for out in (first, again)]
    assert found[0] == found[1]
    assert len(list(first.glob("*.png"))) == len(list(first.glob("*.npz"))) == pictures


@pytest.mark.parametrize("name", SHORT)
def test_committed_claims_are_of_the_script_as_it_is(name):
    """Same claims in the JSON as in the script, and a row that does not hold is there for all to see."""
    found = json.loads((SCRIPTS / "results" / f"rahaman2019_{name}.json").read_text())
    assert found["claims"] and all(set(row) == {"claim", "asked", "measured", "holds"} for row in found["claims"])
    assert found["scaled"] and found["published"] and all(int(s) > 0 for s in found["processor seconds"].values())
