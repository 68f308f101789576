"""`checkpoint=path`: nothing is lost, nothing is done twice, and no other request gets the answer."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contract import subjects
from tests.contract.subjects import EVENTS
from tests.contract.table import BY_NAME, Row, rows, rows_and, rows_and_settings

NEEDS = ("images", "checkpoint")


def images_of(row: Row) -> torch.Tensor:
    """The 12 images, or 96 where no network can stop the run but the images themselves have to."""
    return subjects.many().float() / 255 if "model" in row.cannot else subjects.images()


def run(row: Row, model: torch.nn.Module | None = None, **options: Any) -> Any:
    """The request that is interrupted and goes on."""
    return row.measure(model or subjects.network(), images_of(row), subjects.labels(), **{"batch_size": 4, **options})


def stopping(images: torch.Tensor) -> Iterator[torch.Tensor]:
    """Batches of which the last but two never comes."""
    yield from images.split(4)[:-2]
    raise KeyboardInterrupt


@functools.cache
def uninterrupted(name: str) -> tuple[int, dict[str, Any]]:
    """(forward passes, figures) of the whole request, made once."""
    EVENTS.reset()
    figures = BY_NAME[name].numbers(run(BY_NAME[name]))
    return EVENTS.calls, figures


def interrupted(row: Row, path: Path, model: torch.nn.Module | None = None) -> int:
    """Leave a checkpoint of a part of the images at `path`; how many forward passes the whole takes."""
    total, _ = uninterrupted(row.name)
    EVENTS.reset()
    if model is not None and row.name == "fourier_attack":  # another model may be fooled by fewer queries
        run(row, model)
        total = EVENTS.calls
        EVENTS.reset()
    with pytest.raises(KeyboardInterrupt):
        if "model" in row.cannot:
            row.measure(None, stopping(images_of(row)), batch_size=4, checkpoint=path)
        else:
            EVENTS.stop_after = total * 5 // 6
            run(row, model, checkpoint=path)
    EVENTS.reset()
    assert path.exists(), "expected the images that were finished to be kept"
    return total


@functools.cache
def files(name: str) -> tuple[bytes, bytes]:
    """(a half-finished checkpoint, a finished one) of a row, made once."""
    row = BY_NAME[name]
    with tempfile.TemporaryDirectory() as folder:
        half, full = Path(folder) / "half.npz", Path(folder) / "full.npz"
        interrupted(row, half)
        run(row, checkpoint=full)
        return half.read_bytes(), full.read_bytes()


def assert_refused(row: Row, folder: Path, **options: Any) -> None:
    """Another request takes neither a half-finished nor a finished checkpoint, and leaves both as they were."""
    images, labels = options.pop("images", images_of(row)), options.pop("labels", subjects.labels())
    for name, content in zip(("half", "full"), files(row.name), strict=True):
        path = folder / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="expected"):
            row.measure(subjects.network(), images, labels, batch_size=4, checkpoint=path, **options)
        assert path.read_bytes() == content


@rows(*NEEDS)
def test_an_interrupted_run_goes_on_to_the_same_figures(row, tmp_path):
    total = interrupted(row, tmp_path / "c.npz")
    resumed = run(row, checkpoint=tmp_path / "c.npz")
    assert EVENTS.calls < total or not total, "expected what was finished not to be done again"
    subjects.assert_same(row.numbers(resumed), uninterrupted(row.name)[1])


@rows(*NEEDS)
def test_another_batch_size_may_go_on(row, tmp_path):
    interrupted(row, tmp_path / "c.npz")
    resumed = run(row, batch_size=3, checkpoint=tmp_path / "c.npz")
    subjects.assert_same_outcomes(row.numbers(resumed), uninterrupted(row.name)[1])


@rows(*NEEDS)
def test_a_finished_checkpoint_answers_the_same_request(row, tmp_path):
    path = tmp_path / "c.npz"
    finished = run(row, checkpoint=path)
    calls, content = EVENTS.calls, path.read_bytes()
    EVENTS.reset()
    again = run(row, checkpoint=path)
    assert EVENTS.calls < calls or not calls
    subjects.assert_same(row.numbers(again), row.numbers(finished))
    assert path.read_bytes() == content


@rows_and("change", tuple(subjects.MODEL_CHANGES), *NEEDS, "model")
def test_another_model_is_refused(row, tmp_path, change):
    model, other = subjects.MODEL_CHANGES[change]()
    half, full = tmp_path / "half.npz", tmp_path / "full.npz"
    interrupted(row, half, model)
    run(row, model, checkpoint=full)
    for path in (half, full):
        with pytest.raises(ValueError, match="expected"):
            run(row, other, checkpoint=path)


@rows_and_settings(*NEEDS)
def test_other_settings_are_refused(row, tmp_path, other):
    assert_refused(row, tmp_path, **other)


def one_other_pixel(images: torch.Tensor) -> torch.Tensor:
    """A pixel of an image that was finished is a little brighter."""
    images[1, 1, 4, 5] += 0.1
    return images


REQUESTS: dict[str, Callable[[torch.Tensor], dict[str, Any]]] = {
    "another pixel": lambda images: {"images": one_other_pixel(images)},
    "fewer images": lambda images: {"images": images[:2], "labels": subjects.labels()[:2]},
    "shuffled images": lambda images: {"images": images.flip(0), "labels": subjects.labels().flip(0)},
    "a shard": lambda _: {"shard": (0, 2)},
    "first_image": lambda _: {"first_image": 12},
}
OPTIONS = {"precision": {"precision": "bf16"}, "fold_batch_norm": {"fold_batch_norm": True}}


@rows_and("other", REQUESTS, *NEEDS)
def test_other_images_are_refused(row, tmp_path, other):
    assert_refused(row, tmp_path, **other(images_of(row)))


@rows(*NEEDS, "labels")
def test_other_labels_are_refused(row, tmp_path):
    labels = subjects.labels()
    labels[1] = (labels[1] + 1) % 5
    assert_refused(row, tmp_path, labels=labels)


@rows_and("option", OPTIONS, *NEEDS)
def test_other_rounding_is_refused(row, tmp_path, option):
    assert_refused(row, tmp_path, **option)


@rows(*NEEDS)
def test_a_file_that_is_no_checkpoint_is_refused_and_kept(row, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("my notes")
    with pytest.raises(ValueError, match="expected"):
        row.plain(checkpoint=path)
    assert path.read_text() == "my notes" and EVENTS.calls == 0


@rows(*NEEDS)
def test_an_unwritable_checkpoint_is_refused_before_the_first_pass(row, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises((ValueError, OSError), match="checkpoint"):
        run(row, checkpoint=tmp_path / "file" / "c.npz")
    assert EVENTS.calls == 0


@rows(*NEEDS)
def test_a_save_that_fails_later_warns_and_loses_nothing(row, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()

    def vanish() -> None:
        if folder.is_dir():
            shutil.rmtree(folder)
            folder.write_text("a file where the folder was")

    def batches() -> Iterator[torch.Tensor]:
        yield from images_of(row).split(4)
        vanish()

    images: Any = batches() if "model" in row.cannot else images_of(row)
    EVENTS.on_call = vanish
    with pytest.warns((UserWarning, RuntimeWarning), match="checkpoint"):
        result = row.measure(subjects.network(), images, subjects.labels(), batch_size=4, checkpoint=folder / "c.npz")
    EVENTS.reset()
    subjects.assert_same(row.numbers(result), uninterrupted(row.name)[1])


@rows(*NEEDS)
def test_nothing_but_the_checkpoint_is_left_in_its_folder(row, tmp_path):
    interrupted(row, tmp_path / "c.npz")
    run(row, checkpoint=tmp_path / "c.npz")
    assert [file.name for file in tmp_path.iterdir()] == ["c.npz"]
