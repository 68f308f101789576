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
        ({8: 1.0, 16: 1.0, 32: 1.0, 64: 1.0}, 544, 8),  # 27 passes of 544 are for timing: 16 and more are not timed
        ({8: 1.0, 16: 1.0, 32: 1.0, 64: 1.0}, 100, 16),  # none is timed
    ],
)
def test_the_fastest_batch_is_chosen_and_none_that_was_not_timed(seconds, passes, chosen, monkeypatch, tmp_path):
    monkeypatch.setenv("FASTFREQ_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tuning, "_REMEMBERED", {})
    clock = [0.0]
    network = Network(subjects.network(), precision="fp32", channels_last=True, device=None)

    def run(batch):
        if seconds[len(batch)] == INFINITE:
            raise MemoryError
        clock[0] += seconds[len(batch)] * len(batch)
        return torch.zeros(len(batch), 5)

    monkeypatch.setattr(Network, "__call__", lambda _self, batch: run(batch))
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: clock[0])
    found = tuning.pace(network, (3, 224, 224), Run(), torch.rand(2, 3, 5, 5), passes)
    assert found.batch_size == chosen
