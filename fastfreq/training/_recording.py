"""Records of a training as they come: in memory, in a file all or nothing, gone on with after a restart."""

from __future__ import annotations

import atexit
import time
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from fastfreq.engine.contexts import callers_level
from fastfreq.results import registry, store
from fastfreq.vocabulary import numbers

Record = TypeVar("Record")
_SHARE = 20  # a file is written again after this many times the seconds that writing took


class Recording(Generic[Record]):
    """Records by step.

    Args:
        path: of the file; None for memory alone.
        result: (records by step) -> the result that is written.
        kind: of that result.
        restore: what a file holds -> records by step.

    Attributes:
        records: by step, ascending.

    Raises:
        ValueError: a file of something else.
        OSError: a path that cannot be written.
    """

    def __init__(
        self,
        path: str | Path | None,
        *,
        kind: str,
        result: Callable[[dict[int, Record]], Any],
        restore: Callable[[Any], dict[int, Record]],
    ) -> None:
        self.path = None if path is None else Path(path).absolute()  # programs change their folder
        self._result = result
        self.records: dict[int, Record] = {}
        self._restored = False
        self._unsaved, self._next = False, 0.0
        _OPEN.add(self)
        if self.path is None:
            return
        store.check_writable(self.path, kind=kind)
        if self.path.exists():
            self.records = restore(registry.load(self.path))
            self._restored = True

    @property
    def last(self) -> int | None:
        """The last step recorded."""
        return max(self.records, default=None)

    def check(self, step: int) -> int:
        """`step`, which follows the last one; the first after a restart may go back, and what it leaves is put aside.

        Raises:
            TypeError: no integer.
            ValueError: it does not follow.
        """
        step = numbers.as_int("step", step)
        last = self.last
        if last is None or step > last:
            return step
        if not self._restored:
            raise ValueError(
                f"expected a step after {last}, the last one recorded, got {step}; count steps over the whole training"
            )
        assert self.path is not None
        aside = self.path.with_name(f"{self.path.stem}-until-{last}{self.path.suffix}")
        self._result(self.records).save(aside)
        left = sum(1 for known in self.records if known >= step)
        warnings.warn(
            f"training goes on from before step {step}, {self.path} holds records up to {last}: the {left} from "
            f"{step} on are of a past that was left; the whole of it is kept as {aside}",
            stacklevel=callers_level(),
        )
        self.records = {known: record for known, record in self.records.items() if known < step}
        return step

    def add(self, step: int, record: Record) -> None:
        """Take in a record, and write the file where that is due: it costs at most a twentieth of the time."""
        self.records[step] = record
        self._restored, self._unsaved = False, True
        if self.path is not None and time.monotonic() >= self._next:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet; on the first of several ranks alone."""
        if self.path is None or not self._unsaved or not _is_first():
            return
        start = time.monotonic()
        self._result(self.records).save(self.path)
        self._unsaved = False
        now = time.monotonic()
        self._next = now + _SHARE * (now - start)

    def __del__(self) -> None:
        if getattr(self, "_unsaved", False):
            self.flush()

    def kept(self) -> str:
        """What is safe, for messages."""
        if self.last is None:
            return "nothing was recorded before"
        where = "" if self.path is None else f" in {self.path}"
        return f"the {len(self.records)} records up to step {self.last} are kept{where}"


def _flush_all() -> None:
    for recording in list(_OPEN):
        recording.flush()


_OPEN: weakref.WeakSet[Recording[Any]] = weakref.WeakSet()
atexit.register(_flush_all)  # what is gone before has written itself


def _is_first() -> bool:
    """Whether this is the only process, or the first of several."""
    import torch.distributed as dist

    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
