"""A training that may be interrupted: where it stands and what was recorded, on disk, gone on with bit for bit."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastfreq.engine.contexts import callers_level
from fastfreq.results import atomic

_SAVE_EVERY = 30.0  # seconds between two files
_KEEP_EVERY = 1.0  # seconds between two copies in memory, which is what an interruption may cost
_FORMAT, _REQUEST, _AT = "training 2", "request", "at"


class Checkpoint:
    """The file of one training in a folder of them, named by all that the training depends on; or nothing.

    Args:
        folder: None for no file.
        request: what the training is: texts, numbers, arrays, tensors, and lists and dicts of them.
        parts: keys of its state.
        way: how users ask for a checkpoint, for messages.

    Raises:
        TypeError: no folder.
        OSError: a folder that takes no files, said before anything is computed.
    """

    def __init__(
        self, folder: str | Path | None, request: Any, *, parts: Collection[str], way: str = "checkpoint=FOLDER"
    ) -> None:
        self._path: Path | None = None
        self._state: dict[str, Any] | None = None
        self._kept, self._saved = 0.0, time.monotonic()
        self._unsaved = self._readable = False
        self._parts, self._way, self._request, self._begun = set(parts), way, "", False
        check_folder(folder)
        if folder is None:
            return
        self._request = digest_of(request)
        self._path = Path(folder).absolute() / f"{self._request}.pt"  # programs change their folder
        self._path.parent.mkdir(parents=True, exist_ok=True)
        atomic.probe(self._path)

    def before(self) -> dict[str, Any] | None:
        """What an earlier run of this very training left.

        Raises:
            ValueError: a file that cannot be read, or that another training has left under this name.
        """
        if self._path is None or not self._path.exists():
            return None
        self._state = self._read(self._path)
        self._begun = True
        return self._state

    def keep(self, state: Callable[[], dict[str, Any]], *, at: str, last: bool) -> None:
        """Where a training stands now: copied if a second has passed, written if it is time."""
        now, self._begun = time.monotonic(), True
        if self._path is None or not (last or now - self._kept >= _KEEP_EVERY):
            return
        self._state = copy.deepcopy(state()) | {_REQUEST: self._request, _AT: at}
        self._unsaved = True
        self._kept = time.monotonic()
        if last or now - self._saved >= _SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Write what was kept last; where that fails, warn: the training goes on."""
        if self._path is None or not self._unsaved:
            return
        try:
            with atomic.atomic_path(self._path) as temporary:
                torch.save(self._state, temporary)
                if not self._readable:  # optimisers and schedules of others may keep what no reader of ours takes
                    self._read(temporary)
                    self._readable = True
            self._unsaved = False
        except (OSError, RuntimeError, ValueError, MemoryError, TypeError, AttributeError) as error:
            warnings.warn(
                f"the checkpoint {self._path} could not be written ({error}); the training goes on without",
                stacklevel=callers_level(),
            )
            self._path = None
        self._saved = time.monotonic()

    def said(self) -> str:
        """What is safe, for messages."""
        if self._path is None:
            return f"nothing of the training is kept; `{self._way}` lets one go on after an interruption"
        if self._state is None:
            return "the training had not begun"
        return f"{self._state[_AT]} is kept in {self._path}: the same call goes on from there"

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """What ends a training that has begun, Ctrl-C or an error, saves it and says where."""
        try:
            yield
        except BaseException as error:
            self.save()
            if self._begun:
                error.add_note(self.said())
            raise

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # what unpickling raises is anything
            said = (str(error) or type(error).__name__).partition(".")[0]
            raise ValueError(
                f"expected a checkpoint of a training, {path} cannot be read: {said}; remove it"
            ) from error
        if not isinstance(state, dict) or not self._parts | {_REQUEST, _AT} <= set(state):
            raise ValueError(f"expected a checkpoint of a training, {path} is none; remove it")
        if state[_REQUEST] != self._request:
            raise ValueError(
                f"expected the checkpoint of this training ({self._request}), {path} is another's "
                f"({state[_REQUEST]!s:.40}): of other data or arguments; give another folder, or remove it"
            )
        return state


def check_folder(folder: str | Path | None) -> None:
    """Raise a TypeError for what is no folder's name."""
    if folder is not None and not isinstance(folder, (str, Path)):
        raise TypeError(f"expected `checkpoint` as a folder, got {type(folder).__name__}")


def digest_of(value: Any) -> str:
    """Sixteen letters by which texts, numbers, arrays, tensors, and lists and dicts of them are known."""
    digest = hashlib.blake2b(_FORMAT.encode(), digest_size=8)
    _take_in(digest, value)
    return digest.hexdigest()


def _take_in(digest: Any, value: Any) -> None:
    """Add to a hash what a value is; objects by their type alone, since their addresses change."""
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        digest.update(f"{plain.dtype} {tuple(plain.shape)}".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        _take_in(digest, [part for key in sorted(value, key=str) for part in (str(key), value[key])])
    elif isinstance(value, (list, tuple)):
        digest.update(f"{len(value)} of".encode())
        for each in value:
            _take_in(digest, each)
    else:
        plain_kinds = (bool, int, float, str, type(None))
        digest.update((repr(value) if isinstance(value, plain_kinds) else type(value).__name__).encode() + b";")
