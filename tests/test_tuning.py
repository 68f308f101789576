"""The batch size and layout of a default call, by a timer that knows what each takes."""

import pytest
import torch

from fastfreq.engine import tuning
from fastfreq.engine.network import Network
from fastfreq.engine.run import Run
from tests.contract import subjects

INFINITE = float("inf")


@pytest.mark.parametrize(
    ("seconds", "passes", "chosen"),
    [
        ({8: 5.0, 16: 4.0, 32: 3.0, 64: 2.0}, 1e6, 64),  # larger ones gain
        ({8: 5.0, 16: 4.0, 32: 3.0, 64: 3.0}, 1e6, 32),  # a tie goes to the smaller
        ({8: 1.0, 16: 2.0, 32: 3.0, 64: 4.0}, 1e6, 8),  # smaller ones gain
        ({8: 2.0, 16: 1.0, 32: INFINITE, 64: INFINITE}, 1e6, 16),  # memory
        ({8: 1e-6, 16: 2e-6, 32: 3e-6, 64: 4e-6}, 2600, 8),  # 130 passes of a job that is over soon
        ({8: 1.0, 16: 2.0, 32: 3.0, 64: 4.0}, 2600, 16),  # 52 of one that takes long: they tell the layout
        ({8: 1.0, 16: 1.0, 32: 1.0, 64: 1.0}, 100, 16),  # none is timed
    ],
)
def test_the_fastest_batch_is_chosen_and_none_that_was_not_timed(seconds, passes, chosen, monkeypatch, tmp_path):
    found, _ = timed(seconds, {}, passes, monkeypatch, tmp_path)
    assert found.batch_size == chosen


@pytest.mark.parametrize(("slower", "passes"), [(True, 1568), (False, 1568), (True, 3300), (False, 3300)])
def test_a_job_that_takes_long_is_timed_in_a_fiftieth_of_it(slower, passes, monkeypatch, tmp_path):
    """1,568 passes: the layouts of 4 images are compared; 3,300: of 16."""
    even = dict.fromkeys((8, 16, 32, 64), 1.0)
    found, images = timed(even, {slower: 2.0}, passes, monkeypatch, tmp_path)
    assert found.channels_last is not slower and found.batch_size == 16
    assert 16 <= images <= 0.02 * passes


def test_a_user_without_a_home_is_timed_each_time(monkeypatch):
    """As in containers that run under a number of nobody's."""

    def nobody():
        raise RuntimeError("Could not determine home directory.")

    for name in ("FASTFREQ_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tuning.Path, "home", nobody)
    monkeypatch.setattr(tuning, "_REMEMBERED", {})
    network = Network(subjects.network(), precision="fp32", channels_last=True, device=None)
    assert tuning.pace(network, (3, 11, 14), Run(), torch.rand(2, 3, 11, 14), 1e6).batch_size in (32, 64, 128, 256)


def timed(seconds, layouts, passes, monkeypatch, tmp_path):
    """(what is chosen, images that were run for it); a layout takes so many times the seconds of an image."""
    monkeypatch.setenv("FASTFREQ_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tuning, "_REMEMBERED", {})
    clock, images = [0.0], [0]
    network = Network(subjects.network(), precision="fp32", channels_last=True, device=None)

    def run(batch):
        each = seconds.get(len(batch), seconds[8]) * layouts.get(network.channels_last, 1.0)  # of 2 or 4: as of 8
        if each == INFINITE:
            raise MemoryError
        clock[0] += each * len(batch)
        images[0] += len(batch)
        return torch.zeros(len(batch), 5)

    monkeypatch.setattr(Network, "__call__", lambda _self, batch: run(batch))
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: clock[0])
    return tuning.pace(network, (3, 224, 224), Run(), torch.rand(2, 3, 5, 5), passes), images[0]
