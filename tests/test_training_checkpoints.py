"""Trainings that are interrupted and called again: the same bits, and no file of another request's is taken."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff
from fastfreq.training import _checkpoint, _stems
from fastfreq.training.single_layer_training import _SingleLayers

pytestmark = pytest.mark.usefixtures("one_thread")
RNG = np.random.default_rng(0)
LABELS = np.arange(60) % 3
IMAGES = RNG.random((60, 9, 7)) + LABELS[:, None, None] / 4
TEST = IMAGES[::2], LABELS[::2]
HALVES = nn.Sequential(nn.Flatten(), nn.Linear(63, 4))


def single(**words):
    words = {"depth": 3, "width": 6, "epochs": 3, "batch_size": 17, "seeds": (3, 4)} | words
    return ff.training.single_layer_training(IMAGES, LABELS, test=TEST, **words)


def transfer(**words):
    words = {"source": (np.tile(IMAGES, (5, 1, 1)), np.tile(LABELS, 5)), "samples": (10, 50), "channels": 2} | words
    words = {"epochs": 3, "seeds": (3, 4), "stems": {"mine": HALVES}} | words
    return ff.training.transfer_learning(IMAGES, LABELS, test=TEST, **words)


def share(**words):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(1, 9), nn.Tanh(), nn.Linear(9, 1))
    words = {"steps": 12, "records": 5, "optimizer": functools.partial(torch.optim.Adam, lr=1e-2)} | words
    return ff.training.high_frequency_share(net, np.sin, size=128, cutoffs=(0.3, 0.6), **words)


TRAININGS = {"single_layer_training": single, "transfer_learning": transfer, "high_frequency_share": share}
# where each is interrupted, the how-many-th call, how many calls it has in all and after that, and what is said
PLACES = [
    ("single_layer_training", _SingleLayers, "_step", 30, 48, 19, "epoch 1 of 3, batch 1 of seed 4 at variance 1 is"),
    ("transfer_learning", _stems.FilterStem, "forward", 7, None, None, "epoch 1 of 3, batch 2 of the stem learned"),
    ("transfer_learning", _stems, "last_layer", 15, 20, 6, "what seed 4 makes of pixels, random is kept"),
    ("high_frequency_share", torch.optim.Adam, "step", 8, 12, 5, "step 7 is kept"),
]


@pytest.mark.parametrize(("name", "owner", "call", "at", "whole", "rest", "said"), PLACES)
def test_an_interrupted_training_goes_on_bit_for_bit(name, owner, call, at, whole, rest, said, tmp_path, monkeypatch):
    expected, calls, own = TRAININGS[name](), [], getattr(owner, call)

    def counted(*given, **words):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return own(*given, **words)

    monkeypatch.setattr(_checkpoint, "_KEEP_EVERY", 0.0)
    monkeypatch.setattr(owner, call, counted)
    with pytest.raises(KeyboardInterrupt) as caught:
        TRAININGS[name](checkpoint=tmp_path)
    assert said in caught.value.__notes__[0] and str(tmp_path) in caught.value.__notes__[0]
    found = TRAININGS[name](checkpoint=tmp_path)
    assert len(calls) == at + rest if rest else len(calls) > at
    assert whole is None or at - 1 + rest == whole
    calls[:] = [1] * at
    finished = TRAININGS[name](checkpoint=tmp_path)
    assert whole is None or len(calls) == at  # all of it was there
    for again in (found, finished):
        assert again.table() == expected.table() and again.steps.tolist() == expected.steps.tolist()
    if name == "high_frequency_share":
        assert all(np.array_equal(getattr(found, k), getattr(expected, k)) for k in ("loss", "rate_share", "gradient"))


@pytest.mark.parametrize("name", TRAININGS)
def test_another_request_takes_nothing_and_a_file_under_its_name_is_refused(name, tmp_path):
    TRAININGS[name](checkpoint=tmp_path)
    first = set(tmp_path.iterdir())
    other = {"epochs": 2} if name != "high_frequency_share" else {"steps": 11}
    expected = TRAININGS[name](**other)
    assert TRAININGS[name](checkpoint=tmp_path, **other).table() == expected.table()
    new = set(tmp_path.iterdir()) - first
    assert len(new) == len(first)
    for path in new:  # under the names of the first request's
        path.replace(first.pop())
    with pytest.raises(ValueError, match=r"expected (the checkpoint of this training|a checkpoint of a training)"):
        TRAININGS[name](checkpoint=tmp_path)
    with pytest.raises(TypeError, match="`checkpoint` as a folder, got int"):
        TRAININGS[name](checkpoint=3)


def test_more_seeds_take_over_those_that_are_there_and_other_stems_do_not(tmp_path):
    both = transfer(checkpoint=tmp_path)
    count = len([*tmp_path.iterdir()])
    assert transfer(checkpoint=tmp_path, seeds=(4,)).runs.keys() == {4} and len([*tmp_path.iterdir()]) == count
    other = nn.Sequential(nn.Flatten(), nn.Linear(63, 4))
    found = transfer(checkpoint=tmp_path, stems={"mine": other})
    assert found.table()[:8] == both.table()[:8] and len([*tmp_path.iterdir()]) == count + 2  # one more of each seed
    assert found.table() == transfer(stems={"mine": other}).table()


def test_without_a_checkpoint_an_interruption_says_the_way_out(monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_SingleLayers, "_step", stop)
    with pytest.raises(KeyboardInterrupt) as caught:
        single()
    assert "nothing of the training is kept; `checkpoint=FOLDER`" in caught.value.__notes__[0]
