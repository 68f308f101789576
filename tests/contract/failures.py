"""What goes wrong around a measurement: each is made to happen, and what it leaves is gone on from."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from tests.contract import subjects
from tests.contract.subjects import EVENTS
from tests.contract.table import Row

FATAL = 91  # of 96 images: well after the 64 that are looked at beforehand, as workers read ahead


@functools.cache
def labels() -> torch.Tensor:
    """(96,) the network's own, but for a few."""
    with torch.no_grad():
        found = subjects.network()(subjects.many().float() / 255).argmax(dim=1)
    found[::10] = (found[::10] + 1) % 5
    return found


class Many(Dataset):
    """The 96 images with labels; at one of them the worker that reads it ends, or the reading fails."""

    def __init__(self, at_fatal: Callable[[], object] = lambda: None) -> None:
        self._images, self._labels, self._at_fatal = subjects.many(), labels(), at_fatal

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, i: int) -> Any:
        if i == FATAL:
            self._at_fatal()
        return self._images[i], self._labels[i]


def dies() -> None:
    """End a worker as the system does when memory runs out; never the process that measures."""
    if get_worker_info() is not None:
        os._exit(1)


def unreadable() -> None:
    """A file that is not there any more."""
    raise OSError("photograph 91 is gone")


def loader(at_fatal: Callable[[], object] = lambda: None, workers: int = 0) -> DataLoader[Any]:
    """The 96 images in batches of four."""
    return DataLoader(Many(at_fatal), batch_size=4, num_workers=workers)


def whole(row: Row) -> Any:
    """The 96 images, measured without any mishap."""
    return run(row, loader())


def run(row: Row, images: Any, **options: Any) -> Any:
    """The request that meets with the mishap and then goes on."""
    fixed = {"batch_size": 4, "channels_last": False}  # what is timed anew may differ
    return row.measure(subjects.network(), images, **{k: v for k, v in fixed.items() if k not in row.cannot}, **options)


def notes(error: BaseException) -> str:
    """What was added to the message."""
    return "; ".join(getattr(error, "__notes__", []))


# ---------------------------------------------------------------- each raises, and returns what was raised
def a_worker_dies(row: Row, path: Path) -> BaseException:
    """A worker of the DataLoader ends without a word: between two batches torch says so, in them fastfreq."""
    said = r"workers to live, one died \(|DataLoader worker \(pid.* exited unexpectedly"
    with pytest.raises(RuntimeError, match=said) as caught:
        run(row, loader(dies, workers=1), checkpoint=path)
    return caught.value


def an_image_cannot_be_read(row: Row, path: Path) -> BaseException:
    """The data set raises for one image."""
    with pytest.raises(OSError, match="photograph 91") as caught:
        run(row, loader(unreadable), checkpoint=path)
    return caught.value


def the_model_raises(row: Row, path: Path, error: type[BaseException] = ValueError) -> BaseException:
    """In one forward pass, late in the run."""
    EVENTS.stop_after, EVENTS.error = _passes(row) * 5 // 6, error
    with pytest.raises(error, match="stopped inside the network") as caught:
        run(row, loader(), checkpoint=path)
    EVENTS.reset()
    return caught.value


def ctrl_c(row: Row, path: Path) -> BaseException:
    """A signal in the middle of a forward pass."""
    stop = _passes(row) * 5 // 6

    def press() -> None:
        if stop == EVENTS.calls:
            signal.raise_signal(signal.SIGINT)

    EVENTS.on_call = press
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            run(row, loader(), checkpoint=path)
    finally:
        signal.signal(signal.SIGINT, before)
    EVENTS.reset()
    return caught.value


MISHAPS = {each.__name__: each for each in (a_worker_dies, an_image_cannot_be_read, the_model_raises, ctrl_c)}


def _passes(row: Row) -> int:
    """Forward passes of the whole run."""
    EVENTS.reset()
    whole(row)
    calls, _ = EVENTS.calls, EVENTS.reset()
    return calls


def out_of_memory(row: Row, largest: int = 8) -> Any:
    """The result where batches of more than 8 images do not fit."""
    EVENTS.largest = largest
    try:
        return row.plain(**({} if "batch_size" in row.cannot else {"batch_size": 64}))
    finally:
        EVENTS.reset()
