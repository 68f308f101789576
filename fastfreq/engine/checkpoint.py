"""Finished images on disk: saved as they come, checked before they are believed."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from fastfreq.results import folds, registry, result, store
from fastfreq.results.result import ImagesResult

from .images import Chunk

_SAVE_EVERY = 30  # seconds between two saves


class Checkpoint:
    """The file of a run that may be interrupted, or nothing.

    Attributes:
        before: what an earlier run left, or None.

    Raises:
        ValueError: a file that is no result of this kind.
        OSError: a path that cannot be written to, said before anything is computed.
    """

    def __init__(self, path: str | Path | None, kind: type[ImagesResult]) -> None:
        self._path = None if path is None else Path(path)
        self.before: Any = None
        self._saved = time.monotonic()
        self._verified = 0
        self._written: tuple[int, int] | None = None
        if self._path is None:
            return
        store.check_writable(self._path)
        self._written = self._stamp()
        if self._path.exists():
            self.before = registry.load(self._path)
            if type(self.before) is not kind:
                raise ValueError(f"expected a {kind.kind} as checkpoint, {path} holds a {self.before.kind}")

    def check(self, settings: dict[str, Any], keys: dict[str, list[str]]) -> None:
        """Refuse a file of another request, naming what differs.

        Args:
            settings: fields that must be the same.
            keys: names that dicts must have.

        Raises:
            ValueError: it is of another request.
        """
        if self.before is None:
            return
        held = {name: sorted(getattr(self.before, name)) for name in keys}
        for name, value in [*settings.items(), *((name, sorted(names)) for name, names in keys.items())]:
            try:
                result.conflict(name, value, held[name] if name in held else getattr(self.before, name))
            except ValueError as error:
                raise ValueError(
                    f"expected a checkpoint of this very request, {self._path} is of another: {error}; name another "
                    f"file"
                ) from error

    def left(self, chunk: Chunk, *, predicted: bool) -> Chunk:
        """The images of a chunk that are not finished yet; the finished ones must be the same images.

        Raises:
            ValueError: another image or label under an id that is finished.
        """
        if self.before is None:
            return chunk
        ids = chunk.ids.numpy()
        known = self.before.image_ids
        at = np.searchsorted(known, ids)
        done = (at < len(known)) & (known[np.minimum(at, len(known) - 1)] == ids) if len(known) else ids < 0
        rows = at[done]
        same = self.before.image_hashes[rows] == chunk.hashes.numpy().view(np.uint64)[done]
        if hasattr(self.before, "labels") and not predicted:
            same &= self.before.labels[rows] == chunk.labels.cpu().numpy()[done]
        if not same.all():
            raise ValueError(
                f"expected a checkpoint of these images, image {ids[done][~same][0]} of {self._path} is another, or "
                f"has another label; were they shuffled?"
            )
        self._verified += len(rows)
        return chunk.part(np.flatnonzero(~done))

    @property
    def _believed(self) -> bool:
        """Whether every image of the file was seen to be one of this run's; until then nothing is written to it."""
        return self.before is None or self._verified == len(self.before.image_ids)

    def check_all_seen(self) -> None:
        """Refuse a file that holds images which this run does not have.

        Raises:
            ValueError: it does.
        """
        if not self._believed:
            raise ValueError(
                f"expected a checkpoint of these images, {self._path} holds "
                f"{len(self.before.image_ids) - self._verified} that this run does not have; was it made with another "
                f"`shard`, `first_image` or more images?"
            )

    def due(self) -> bool:
        """Whether it is time to save."""
        return self._path is not None and self._believed and time.monotonic() - self._saved > _SAVE_EVERY

    def save(self, value: Any) -> None:
        """Save; where that fails, warn: what was computed is not lost for it."""
        if self._path is None or value is None or not self._believed:
            return
        try:
            if self._is_of_another_run(value):
                warnings.warn(
                    f"another run writes the checkpoint {self._path} too: this one goes on without; give each run a "
                    f"file of its own",
                    stacklevel=2,
                )
                self._path = None
                return
            value.save(self._path)
            self._written = self._stamp()
        except (OSError, MemoryError) as error:
            reason = str(error) or type(error).__name__
            warnings.warn(f"the checkpoint {self._path} could not be written ({reason}); the run goes on", stacklevel=2)
        self._saved = time.monotonic()

    def _stamp(self) -> tuple[int, int] | None:
        """What changes when the file is written; None where there is none."""
        try:
            found = Path(str(self._path)).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def _is_of_another_run(self, value: Any) -> bool:
        """Whether the file was written meanwhile, with anything that `value` does not hold."""
        now = self._stamp()
        if now is None or now == self._written:
            return False
        try:
            there = registry.load(str(self._path))
        except ValueError:  # not even a result
            return True
        if type(there) is not type(value) or not np.isin(there.image_ids, value.image_ids).all():
            return True
        asked = [name for name, fold in folds.folds(value).items() if fold.how in ("same", "condition")]
        return not all(folds.equal(getattr(there, name), getattr(value, name)) for name in asked)
