"""A worker that dies, an image or a batch that fails, Ctrl-C: what was finished is kept, and the error says so."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastfreq as ff
from fastfreq import demo
from fastfreq.cli import main
from fastfreq.engine.sources import batches
from fastfreq.engine.workers import told_where_read
from tests.contract import failures, subjects
from tests.contract.table import BY_NAME

# one of each engine loop; the soak goes through all of them
MEASURED = ("filter_curve", "gradient_heatmap", "image_spectrum")


# a DataLoader whose worker died opens temporary files, and its own signal may strike there: torch's, not ours
TORCHS = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@TORCHS
@pytest.mark.parametrize("mishap", failures.MISHAPS)
@pytest.mark.parametrize("name", MEASURED)
def test_what_was_finished_is_kept_and_gone_on_from(tmp_path, name, mishap):
    row, path = BY_NAME[name], tmp_path / "c.npz"
    if "model" in row.cannot and mishap in ("the_model_raises", "ctrl_c"):
        pytest.skip("has no model")
    said = failures.notes(failures.MISHAPS[mishap](row, path))
    gc.collect()  # here, where what such files say is not heard
    kept = len(ff.load(path).image_ids)
    assert 0 < kept < 96
    assert f"{kept} images are finished and kept in {path}: the same call goes on from there" in said
    if mishap == "the_model_raises":
        assert f"images {kept} to {kept + 3} were being evaluated" in said
    resumed = failures.run(row, failures.loader(), checkpoint=path)
    subjects.assert_same(row.numbers(resumed), row.numbers(failures.whole(row)))


def test_without_a_checkpoint_the_way_to_keep_images_is_said():
    subjects.EVENTS.stop_after, subjects.EVENTS.error = 60, ValueError
    with pytest.raises(ValueError, match="stopped inside") as caught:
        failures.run(BY_NAME["filter_curve"], failures.loader())
    assert "images are finished and lost: checkpoint=FILE keeps them" in failures.notes(caught.value)


@TORCHS
def test_a_worker_that_died_is_told_of_where_images_are_read():
    """Not in the middle of a pass or of a save, where torch's signal strikes."""
    with told_where_read():
        read = iter(batches(failures.loader(failures.dies, workers=1)))
        next(read)
        for child in multiprocessing.active_children():
            child.kill()
            child.join()
        sum(range(1000))  # where Python hears signals
        with pytest.raises(RuntimeError, match="workers to live, one died"):
            list(read)
    assert signal.getsignal(signal.SIGCHLD).__module__ == "torch.utils.data._utils.signal_handling"


@TORCHS
def test_a_worker_of_a_loader_that_was_given_up_ends_nobody_elses_images():
    given_up = iter(failures.loader(failures.dies, workers=1))
    next(given_up)
    (worker,) = multiprocessing.active_children()
    with told_where_read():
        read = iter(batches(failures.loader(workers=1)))
        next(read)
        worker.kill()
        os.waitid(os.P_PID, worker.pid or 0, os.WEXITED | os.WNOWAIT)
        assert sum(1 for _ in read) == 23


NETS = """
from pathlib import Path
import torch
from torch import nn

class Net(nn.Sequential):
    def forward(self, x):
        left = Path("passes")
        if left.exists():
            if left.read_text() == "0":
                left.unlink()
                raise {error}("the model does not like this batch")
            left.write_text(str(int(left.read_text()) - 1))
        return super().forward(x)

def build():
    torch.manual_seed(0)
    return Net(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
"""


@pytest.mark.parametrize("error", ["OSError", "ZeroDivisionError"])
def test_the_command_line_says_what_was_kept_and_goes_on(tmp_path, monkeypatch, capsys, error):
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS.format(error=error))
    images, labels = demo.load_digits()
    np.savez("digits.npz", images=images[:48].numpy(), labels=labels[:48].numpy())
    words = ["filter-curve", "--model", "nets.py:build", "--data", "digits.npz", "--kind", "low", "--bandwidths", "2"]
    words += ["--batch-size", "4", "--no-channels-last", "--out", "out", "--quiet"]
    Path("passes").write_text("18")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is no good: its weights are random
        if error == "OSError":
            assert main(words) == 2
            said = capsys.readouterr().err
        else:
            with pytest.raises(ZeroDivisionError) as caught:
                main(words)
            said = failures.notes(caught.value)
        assert "finished images are in" in said and "with --resume goes on from there" in said
        assert main([*words, "--resume"]) == 0
    assert len(ff.load(next(Path("out").glob("*.npz"))).image_ids) == 48
