"""Processes that measure together: who is missed, what is kept, what the command line makes of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastfreq as ff
from fastfreq.engine import checkpoint, ranks
from fastfreq.training.measurement_history import Watch
from tests.contract import in_ranks, subjects

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.contract.in_ranks"])
LIMIT = 60  # seconds; each of these takes a few
SILENT = 3.0  # seconds after which a rank is given up


def measure(checkpoint: Path | None = None, **options: Any) -> Any:
    """What all of these ask for: six batches of two images."""
    images, labels = subjects.images(), subjects.labels()
    given = {"checkpoint": checkpoint, "batch_size": 2, "channels_last": False, **options}
    return ff.heatmap(subjects.network(), images, labels, eps=1.0, size=(3, 3), metrics=("error", "loss"), **given)


def play(rank: int, size: int, folder: Path, what: str) -> None:
    """One rank of a scene; leaves what it ends with in `folder`."""
    in_ranks.join(rank, size, folder)
    ranks.SILENT, checkpoint._SAVE_EVERY = SILENT if what in ("dying", "hanging", "map_dying") else 30.0, 0.0
    ranks.MEETING = 2.0 if what == "absent" else 60.0
    try:
        SCENES[what](rank, folder).save(folder / f"result-{rank}.npz")
    except Exception as error:
        (folder / f"{rank}.txt").write_text(f"{type(error).__name__}: {error}")


def struck(rank: int, folder: Path, blow: signal.Signals) -> Any:
    """Rank 1 is sent a signal in its second batch."""
    subjects.EVENTS.reset()
    subjects.EVENTS.pause = 0.0 if rank == 1 else 0.05  # rank 1 comes to a second batch
    if rank == 1:
        calls = subjects.EVENTS
        calls.on_call = lambda: calls.calls > 12 and os.kill(os.getpid(), blow)
    return measure(folder / "c.npz")


def dying(rank: int, folder: Path) -> Any:
    """Rank 1 is killed."""
    return struck(rank, folder, signal.SIGKILL)


def hanging(rank: int, folder: Path) -> Any:
    """Rank 1 is stopped for good, which no connection tells."""
    return struck(rank, folder, signal.SIGSTOP)


def failing(rank: int, folder: Path) -> Any:
    """Rank 1 meets an error of the model's own."""
    subjects.EVENTS.reset()
    subjects.EVENTS.pause = 0.0 if rank == 1 else 0.05
    if rank == 1:
        subjects.EVENTS.stop_after, subjects.EVENTS.error = 12, ZeroDivisionError
    return measure(folder / "c.npz")


def absent(rank: int, _folder: Path) -> Any:
    """Rank 0 alone asks, as scripts of training do; then by itself."""
    if rank == 0:
        with pytest.raises(RuntimeError, match=r"expected all 2 ranks to ask for the heat map, ranks \[1\] did not"):
            measure()
        with ranks.apart():
            subjects.assert_same(subjects.numbers(measure()), subjects.numbers(measure(distributed=False)))
        watch = Watch("one rank looks", lambda _network: measure())
        watch.step(subjects.network(), 0)
        assert watch.history.steps.tolist() == [0]
        return measure(distributed=False)
    time.sleep(4)
    return measure(distributed=False)


def others(rank: int, folder: Path) -> Any:
    """Each rank has its own part of the images, as a sampler for training makes it."""
    images, labels = subjects.images()[rank::2], subjects.labels()[rank::2]
    return ff.heatmap(subjects.network(), images, labels, eps=1.0, size=(3, 3))


def later(rank: int, folder: Path) -> Any:
    """The same first 64 images, then others on one rank: of its own folder, of files that it could not read."""
    images, other = subjects.many(), subjects.many()
    other[64:] = other[64:].flip(0)
    labels = torch.arange(96) % 5
    given: dict[str, Any] = {
        "images": (other if rank else images, labels),
        "labels": (images, labels.flip(0) if rank else labels),
        "number of images": (iter([(images, labels), (images, labels)][: 2 - rank]), None),
    }
    given["labels"][1][:64] = labels[:64]
    for name, (pixels, classes) in given.items():
        with pytest.raises(ValueError, match=f"expected the same {name} on every rank"):
            ff.heatmap(subjects.network(), pixels, classes, eps=1.0, size=(1, 3), batch_size=8,
                       checkpoint=folder / "c.npz")  # fmt: skip
    assert not list(folder.glob("c.npz"))
    with pytest.raises(ValueError if rank else RuntimeError, match="all images of one shape, got"):
        ff.image_spectrum([images[:9], images[:9, :, rank:]])
    return measure(distributed=False)


def going_on(_rank: int, folder: Path) -> Any:
    """With what others have left."""
    return measure(folder / "c.npz")


def mapped(checkpoint: Path | None = None, **options: Any) -> Any:
    """A map to a precision, of several rounds."""
    images = torch.cat([subjects.many(), 255 - subjects.many()])
    with torch.no_grad():
        labels = subjects.network()(images / 255).argmax(dim=1)
    labels[::4] = (labels[::4] + 1) % 5
    subjects.EVENTS.calls = 0
    given = {"eps": 8.0, "precision_goal": 0.05, "batch_size": 16, "channels_last": False, **options}
    return ff.adaptive_heatmap(subjects.network(), images, labels, size=(3, 5), checkpoint=checkpoint, **given)


def mapping(_rank: int, folder: Path) -> Any:
    """A map to a precision; with what others have left."""
    subjects.EVENTS.reset()
    found = mapped(folder / "c.npz")
    (folder / f"calls-{_rank}").write_text(str(subjects.EVENTS.calls))
    return found


def map_dying(rank: int, folder: Path) -> Any:
    """Rank 1 is killed in the third round."""
    subjects.EVENTS.reset()
    subjects.EVENTS.pause = 0.01
    if rank == 1:
        subjects.EVENTS.on_call = lambda: len(rounds(folder)) > 1 and os.kill(os.getpid(), signal.SIGKILL)
    return mapped(folder / "c.npz")


def rounds(folder: Path) -> list[Path]:
    """What is kept of the rounds of a map."""
    return sorted((folder / "c.npz.parts").glob("round-*.npz"))


SCENES = {f.__name__: f for f in (dying, hanging, failing, absent, others, later, going_on, mapping, map_dying)}


def scene(what: str, size: int, folder: Path, *, stopped: int | None = None) -> list[str]:
    """What each rank ended with; "" where it is a result."""
    meeting = folder / f"meeting-{size}"
    meeting.unlink(missing_ok=True)
    group: list[Any] = [
        CONTEXT.Process(target=play, args=(rank, size, folder, what), daemon=True) for rank in range(size)
    ]
    for process in group:
        process.start()
    try:
        for rank, process in enumerate(group):
            if rank != stopped:
                process.join(LIMIT)
                assert process.exitcode is not None, "expected every rank to end by itself"
    finally:
        for process in group:
            process.kill()
            process.join()
    files = [folder / f"{rank}.txt" for rank in range(size)]
    said = [file.read_text() if file.exists() else "" for file in files]
    for file in files:
        file.unlink(missing_ok=True)
    return said


@pytest.mark.parametrize("what", ["dying", "hanging", "failing"])
def test_the_rest_stops_and_another_number_of_ranks_goes_on(what, tmp_path):
    said = scene(what, 3, tmp_path, stopped=1 if what == "hanging" else None)
    reasons = {
        "dying": "rank 1 has not been heard of for 3 seconds",
        "hanging": "rank 1 has not been heard of for 3 seconds",
        "failing": "rank 1 stopped: ZeroDivisionError: stopped inside the network",
    }
    for text in (said[0], said[2]):
        assert (
            text.startswith("RuntimeError: expected all 3 ranks of the heat map to finish, ") and reasons[what] in text
        )
    kept = [ff.load(file) for file in sorted((tmp_path / "c.npz.parts").glob("*.npz"))]
    finished = sum(part.n_images for part in kept)
    assert 2 <= finished < 12, "expected some images to be kept"
    expected = subjects.numbers(measure())
    if what == "dying":  # one process alone takes them together
        alone = measure(tmp_path / "c.npz")
        subjects.assert_same(subjects.numbers(alone), expected)
    else:
        assert scene("going_on", 2, tmp_path) == ["", ""]
        for rank in range(2):
            subjects.assert_same(subjects.numbers(ff.load(tmp_path / f"result-{rank}.npz")), expected)
    subjects.assert_same(subjects.numbers(ff.load(tmp_path / "c.npz")), expected)
    assert not (tmp_path / "c.npz.parts").exists()


def test_ranks_share_the_rounds_of_a_map_and_another_number_of_them_goes_on(tmp_path):
    subjects.EVENTS.reset()
    expected, calls = subjects.numbers(mapped()), subjects.EVENTS.calls
    for text in scene("map_dying", 3, tmp_path, stopped=None)[::2]:
        assert "all 3 ranks of the heat map to finish, rank 1 has not been heard of for 3 seconds" in text
    assert len(rounds(tmp_path)) == 2 and (tmp_path / "c.npz").exists() and not (tmp_path / "result-0.npz").exists()
    for size in (2, 3):  # the first goes on, the second begins anew
        assert scene("mapping", size, tmp_path) == [""] * size
        assert [file.name for file in tmp_path.glob("c.npz*")] == ["c.npz"]
        for file in (*tmp_path.glob("result-*.npz"), tmp_path / "c.npz"):
            subjects.assert_same(subjects.numbers(ff.load(file)), expected)
        made = [int((tmp_path / f"calls-{rank}").read_text()) for rank in range(size)]
        assert sum(made) < calls if size == 2 else max(made) < 0.6 * calls and min(made) > 0.15 * calls
        (tmp_path / "c.npz").unlink()


def test_an_interrupted_map_goes_on_and_no_other_from_it(tmp_path):
    subjects.EVENTS.reset()
    expected, calls = subjects.numbers(mapped()), subjects.EVENTS.calls
    subjects.EVENTS.reset()
    subjects.EVENTS.stop_after = calls - 3
    with pytest.raises(KeyboardInterrupt):
        mapped(tmp_path / "c.npz")
    subjects.EVENTS.reset()
    early = ff.load(tmp_path / "c.npz")
    for other in ({"eps": 4.0}, {"precision_goal": 0.04}, {"seed": 1}):
        with pytest.raises(ValueError, match="expected a checkpoint of this very request"):
            mapped(tmp_path / "c.npz", **other)
    found = mapped(tmp_path / "c.npz")
    assert subjects.EVENTS.calls < calls and early.passes < found.passes
    subjects.assert_same(subjects.numbers(found), expected)
    assert [file.name for file in tmp_path.iterdir()] == ["c.npz"]
    with pytest.raises(ValueError, match="exists and is finished"):
        mapped(tmp_path / "c.npz")


def test_a_rank_that_asks_alone_is_told_so(tmp_path):
    assert scene("absent", 2, tmp_path) == ["", ""]


def test_ranks_with_other_images_are_refused(tmp_path):
    for text in scene("others", 2, tmp_path):
        assert text.startswith("ValueError: expected the same images on every rank")


def test_ranks_whose_later_images_are_others_are_refused(tmp_path):
    assert scene("later", 2, tmp_path) == ["", ""]


# ---------------------------------------------------------------- what ranks have left
def left_by_ranks(path: Path, **shards: Any) -> None:
    """Three images a rank, by two ranks of a run that is gone."""
    folder = Path(f"{path}.parts")
    folder.mkdir(exist_ok=True)
    for name, (first, options) in shards.items():
        images, labels = subjects.images()[first : first + 3], subjects.labels()[first : first + 3]
        measure_part = {"first_image": first, "batch_size": 2, "channels_last": False, **options}
        ff.heatmap(
            subjects.network(), images, labels, eps=1.0, size=(3, 3), metrics=("error", "loss"), **measure_part
        ).save(folder / f"{name}.npz")


A, B = "a" * 16, "b" * 16


def test_parts_that_share_images_count_once_and_refused_runs_not_at_all(tmp_path):
    path = tmp_path / "c.npz"
    left_by_ranks(path, **{f"{A}-0": (0, {}), f"{A}-1": (2, {}), f"{B}-0": (6, {})})
    (tmp_path / "c.npz.parts" / f"{B}.refused").touch()
    (tmp_path / "c.npz.parts" / f".{A}-1.npz.host-1.99-99.tmp").touch()
    held = checkpoint.Checkpoint(path, type(measure()))
    np.testing.assert_array_equal(held.before.image_ids, [0, 1, 2])
    subjects.EVENTS.reset()
    found = measure(path)
    subjects.assert_same_outcomes(subjects.numbers(found), subjects.numbers(measure()))
    assert [file.name for file in tmp_path.iterdir()] == ["c.npz"]


def test_parts_of_another_request_are_refused_and_kept(tmp_path):
    path = tmp_path / "c.npz"
    left_by_ranks(path, **{f"{A}-0": (0, {}), f"{A}-1": (6, {"precision": "bf16"})})
    with pytest.raises(ValueError, match="expected checkpoints of one request"):
        measure(path)
    assert len(list((tmp_path / "c.npz.parts").iterdir())) == 2 and not path.exists()


def test_ranks_take_every_chunk_once_in_whatever_order():
    """Three ranks at different speeds, of which one is stuck in its first chunk."""
    taken = iter(range(100))
    group = [ranks.Ranks() for _ in range(3)]
    for each in group:
        each._take = lambda _finished: next(taken)
    got: dict[int, list[int]] = {0: [], 1: [], 2: []}
    at = [0, 0, 0]
    rng = np.random.default_rng(0)
    while min(at[1:]) < 20:
        rank = int(rng.choice([1, 1, 1, 2])) if got[0] else 0
        if at[rank] < 20:
            got[rank] += [at[rank]] if group[rank].turn(False) else []
            at[rank] += 1
    assert sorted(sum(got.values(), [])) == list(range(20)) and len(got[0]) == 1


def test_true_without_a_launcher_is_refused(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match="expected processes that torchrun started, RANK"):
        measure(distributed=True)


@pytest.mark.parametrize("costs", [[], [3.0], [5, 1, 1, 1, 1, 1], [2] * 7])
def test_items_are_dealt_once_and_evenly(costs):
    hands = []
    for rank in range(3):
        group = ranks.Ranks()
        group.rank, group.size = rank, 3
        hands.append(group.dealt(costs))
    assert sorted(item for hand in hands for item in hand) == list(range(len(costs)))
    loads = [sum(costs[item] for item in hand) for hand in hands]
    assert max(loads) <= max([*costs, 0]) + sum(costs) / 3
