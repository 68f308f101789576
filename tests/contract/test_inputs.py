"""Whatever form images, numbers and networks come in: the same figures, and the caller's tensors as they were."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from tests.contract import subjects
from tests.contract.subjects import EVENTS
from tests.contract.table import BY_NAME, rows, rows_and, whole


# ---------------------------------------------------------------- tensors as they were
def spread(images: torch.Tensor) -> torch.Tensor:
    """The same values, every second column of a wider tensor."""
    wide = torch.zeros(*images.shape[:-1], 2 * images.shape[-1], dtype=images.dtype)
    wide[..., ::2] = images
    return wide[..., ::2]


LAYOUTS: dict[str, Callable[[], torch.Tensor]] = {
    "contiguous": subjects.images,
    "channels_last images": lambda: subjects.images().contiguous(memory_format=torch.channels_last),
    "non-contiguous": lambda: spread(subjects.images()),
    "uint8": subjects.pixels,
    "expanded": lambda: subjects.images()[:1].expand(subjects.N, -1, -1, -1),
}


SAME_VALUES = (LAYOUTS["channels_last images"], LAYOUTS["non-contiguous"])  # as contiguous ones


@functools.cache
def of_plain_images(
    name: str, layout: Callable[[], torch.Tensor], kind: type[subjects.Net] = subjects.Net
) -> dict[str, Any]:
    """The figures of the values of a layout as contiguous float32, found once."""
    if layout in SAME_VALUES:
        return of_plain_images(name, subjects.images, kind)
    row, images = BY_NAME[name], layout()
    plain = (images.float() / 255 if images.dtype == torch.uint8 else images).contiguous().clone()
    return row.numbers(row.measure(subjects.network(kind), plain, subjects.labels(), batch_size=4))


def by_fours(name: str) -> dict[str, Any]:
    """The figures of the images as they are, in batches of four."""
    return of_plain_images(name, subjects.images)


@rows_and("layout", LAYOUTS, "images")
def test_every_layout_gives_the_same_figures(row, layout):
    images, labels = layout(), subjects.labels()
    before = subjects.surroundings(subjects.network(), images, labels)
    found = row.measure(subjects.network(), images, labels, batch_size=4)
    assert subjects.surroundings(subjects.network(), images, labels) == before
    subjects.assert_same(row.numbers(found), of_plain_images(row.name, layout))


@rows_and("layout", LAYOUTS, "images", "model")
def test_a_network_that_changes_its_input_in_place_changes_nothing_else(row, layout):
    images, labels = layout(), subjects.labels()
    before = subjects.surroundings(subjects.network(), images, labels)
    found = row.measure(subjects.network(subjects.InPlace), images, labels, batch_size=4)
    assert subjects.surroundings(subjects.network(), images, labels) == before
    subjects.assert_same(row.numbers(found), of_plain_images(row.name, layout, subjects.Normalising))


@rows("in_place")
def test_functions_of_the_callers_may_work_in_place(row):
    plain, in_place = row.in_place or ({}, {})
    images, labels = subjects.images(), subjects.labels()
    before = subjects.surroundings(subjects.network(), images, labels)
    found = row.measure(subjects.network(), images, labels, **in_place)
    assert subjects.surroundings(subjects.network(), images, labels) == before
    expected = row.numbers(row.plain(**plain))
    found = {path.replace("_in_place", ""): value for path, value in row.numbers(found).items()}
    subjects.assert_same(found, expected)


# ---------------------------------------------------------------- forms
class Samples(Dataset):
    """(image, label) by index."""

    def __len__(self) -> int:
        return subjects.N

    def __getitem__(self, i: int) -> Any:
        return subjects.images()[i], int(subjects.labels()[i])


def dicts(image: str, label: str) -> Callable[[], Any]:
    """Batches as dicts."""
    return lambda: [{image: x, label: y} for x, y in subjects.batches(5)]


FORMS: dict[str, Callable[[], Any]] = {
    "generator": lambda: subjects.batches(5),
    "list of batches": lambda: list(subjects.batches(5)),
    "DataLoader": lambda: DataLoader(TensorDataset(subjects.images(), subjects.labels()), batch_size=5),
    "uint8 batches": lambda: [(subjects.pixels()[i : i + 6], subjects.labels()[i : i + 6]) for i in (0, 6)],
    "Dataset": Samples,
    "TensorDataset": lambda: TensorDataset(subjects.images(), subjects.labels()),
    "dict of image and label": dicts("image", "label"),
    "dict of images and labels": dicts("images", "labels"),
    "dict of pixel_values and labels": dicts("pixel_values", "labels"),
}
ARRAYS: dict[str, Callable[[], Any]] = {
    "float array": lambda: subjects.images().numpy(),
    "uint8 array": lambda: subjects.pixels().numpy(),
    "(n, h, w, c) uint8 array": lambda: subjects.pixels().numpy().transpose(0, 2, 3, 1),
    "(n, h, w, c) contiguous": lambda: np.ascontiguousarray(subjects.pixels().numpy().transpose(0, 2, 3, 1)),
    "read-only array": lambda: _read_only(subjects.images().numpy()),
}


def _read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


@rows_and("form", FORMS, "images", "loaders")
def test_batches_of_every_form_give_the_same_figures(row, form):
    found = row.measure(subjects.network(), form(), batch_size=4)
    subjects.assert_same(row.numbers(found), by_fours(row.name))


@rows_and("form", ARRAYS, "images", "loaders")
def test_arrays_give_the_same_figures(row, form):
    found = row.measure(subjects.network(), form(), subjects.labels().numpy(), batch_size=4)
    subjects.assert_same(row.numbers(found), by_fours(row.name))


def as_numpy(value: Any) -> Any:
    """Plain numbers, also inside tuples, as NumPy's scalars."""
    if isinstance(value, tuple):
        return tuple(map(as_numpy, value))
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, int):
        return np.int64(value)
    if isinstance(value, float):
        return np.float32(value) if float(np.float32(value)) == value else np.float64(value)
    return value


@rows()
def test_numpy_scalars_are_numbers(row):
    options = {"batch_size": 4} if "batch_size" not in row.cannot else {}
    given = {name: as_numpy(value) for name, value in {**row.arguments, **options}.items()}
    found = row.measure(subjects.network(), subjects.images(), subjects.labels(), **given)
    subjects.assert_same(row.numbers(found), by_fours(row.name) if options else row.numbers(whole(row.name)))


@rows("images")
def test_a_numpy_side_and_seed_are_numbers(row, tmp_path):
    plain: dict[str, Any] = {"size": 3} if "size" in row.arguments else {}
    plain |= {"seed": 1} if "seed" in row.others else {}
    if not plain:
        pytest.skip(f"{row.name}: has neither")
    found = row.plain(**{name: np.int64(value) for name, value in plain.items()})
    subjects.assert_same(row.numbers(found), row.numbers(row.plain(**plain)))
    found.save(tmp_path / "a.npz")


@rows("images", "loaders")
def test_a_shuffling_loader_is_refused(row):
    loader = DataLoader(TensorDataset(subjects.images(), subjects.labels()), batch_size=5, shuffle=True)
    with pytest.raises(ValueError, match="shuffl"):
        row.measure(subjects.network(), loader)
    assert EVENTS.calls == 0


@rows("images")
def test_no_images_are_refused(row):
    with pytest.raises(ValueError, match="expected at least one image|at least one"):
        row.measure(subjects.network(), subjects.images()[:0], subjects.labels()[:0])


@rows("images", "pixels")
def test_pixels_outside_the_unit_interval_are_refused(row):
    images = subjects.images()
    for bad in (-0.5, 1.5, math.nan):
        images[4, 0, 1, 2] = bad
        with pytest.raises(ValueError, match="expected"):
            row.measure(subjects.network(), images, subjects.labels())


# ---------------------------------------------------------------- batches and memory
@rows_and("size", {"1": 1, "5": 5, "64": 64}, "images", "batch_size")
def test_the_batch_size_changes_no_outcome(row, size):
    found = row.plain(batch_size=size)
    subjects.assert_same_outcomes(row.numbers(found), row.numbers(whole(row.name)))


@rows("images", "model")
def test_a_network_that_runs_out_of_memory_changes_nothing(row):
    for options in ({}, {"batch_size": 64}):
        EVENTS.largest = 8
        found = row.plain(**options)
        EVENTS.reset()
        subjects.assert_same_outcomes(row.numbers(found), row.numbers(whole(row.name)))


# ---------------------------------------------------------------- modes of torch
MODES = {"inference_mode": torch.inference_mode, "no_grad": torch.no_grad, "enable_grad": torch.enable_grad}


@rows_and("mode", MODES)
def test_the_callers_grad_mode_changes_nothing(row, mode):
    with mode():
        found = row.plain()
    subjects.assert_same(row.numbers(found), row.numbers(whole(row.name)))


@rows()
def test_tensors_made_in_inference_mode_are_taken(row):
    with torch.inference_mode():
        images, labels, model = subjects.images(), subjects.labels(), subjects.network()
    found = row.measure(model, images, labels)
    subjects.assert_same(row.numbers(found), row.numbers(whole(row.name)))


@rows()
def test_autocast_around_the_call_changes_nothing(row):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = row.plain()
    subjects.assert_same(row.numbers(found), row.numbers(whole(row.name)))


@rows("images")
def test_images_that_ask_for_gradients_are_taken(row):
    images = subjects.images().requires_grad_()
    found = row.measure(subjects.network(), images, subjects.labels())
    assert images.grad is None
    subjects.assert_same(row.numbers(found), row.numbers(whole(row.name)))
