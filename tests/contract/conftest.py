"""Shared by the contract: one thread, nothing happening inside networks, one job for the command line."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.contract import subjects


def pytest_collection_modifyitems(items):
    """Twelve images and a handful of frequencies may well give a flat map."""
    for item in items:
        if "tests.contract" in item.module.__name__:
            item.add_marker(pytest.mark.filterwarnings("ignore:the map is flat"))


@pytest.fixture(autouse=True)
def quiet(one_thread):
    """Forward passes that nobody counted, one thread for such small networks, and random states of nobody's making."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 - the global one is watched
    torch.manual_seed(20231)
    np.random.seed(20231)  # noqa: NPY002
    random.seed(20231)
    subjects.EVENTS.reset()
    yield
    subjects.EVENTS.reset()
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    random.setstate(states[2])


@pytest.fixture(scope="session")
def job(tmp_path_factory) -> Path:
    """A folder with the network's file, its weights, the images and what the command line needs."""
    folder = tmp_path_factory.mktemp("job")
    source = Path(subjects.__file__).parents[1] / "conftest.py"
    text = source.read_text().partition("class TinyNet")[2].partition("@pytest.fixture")[0]
    lines = ["import torch", "from torch import nn", "", f"class TinyNet{text}", "def build():"]
    (folder / "nets.py").write_text("\n".join([*lines, "    return TinyNet(3, 5)", ""]))
    save_file(subjects.network().state_dict(), folder / "weights.safetensors")
    pixels, labels = subjects.pixels().numpy(), subjects.labels().numpy()
    np.savez(folder / "data.npz", images=pixels, labels=labels)
    np.savez(folder / "darker.npz", images=pixels // 2, labels=labels)
    (folder / "corrupted").mkdir()
    five = np.concatenate([pixels.transpose(0, 2, 3, 1) // (1 + severity) for severity in range(5)])
    np.save(folder / "corrupted" / "darker.npy", five)
    return folder


@pytest.fixture
def in_job(job, tmp_path, monkeypatch) -> Path:
    """A fresh folder from which the job's files are reached by their plain names."""
    for file in job.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    return tmp_path
