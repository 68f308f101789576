"""A DataLoader's worker that died is told of where its batches are read, not wherever a measurement happens to be.

torch raises from the handler of SIGCHLD: in the middle of a save, too, between an error and what keeps the images that
are finished, or for a loader that was given up before. While a measurement runs, that handler is asked only where
images are read, and about the loader that they are read from. What it does not say, torch finds out as it waits.
"""

from __future__ import annotations

import contextlib
import re
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_PID = re.compile(r"worker \(pid (\d+)\)")


class _Handler:
    """Stands before torch's handler; the main thread's alone, as signals are.

    Attributes:
        measurements: that run.
        own: processes of the loader that is being read; empty anywhere else.
        missed: whether a signal came where it was not heard.
    """

    def __init__(self) -> None:
        self.measurements = 0
        self.own: frozenset[int] = frozenset()
        self.missed = False
        self._torchs: Any = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.measurements:
            self.missed = True
            if self.own:
                self.hear()
        elif callable(self._torchs):
            self._torchs(number, frame)

    def hear(self) -> None:
        """Raise what torch says of the loader that is being read; of each it says it once."""
        while self.missed:
            try:
                self.missed = False
                self._torchs(signal.SIGCHLD, None)
            except RuntimeError as error:
                said = _PID.search(str(error))
                if said is None or int(said[1]) in self.own:
                    raise
                self.missed = True

    def stand(self) -> None:
        """Before torch's handler, which its first loader with workers sets; any other is left alone."""
        found = signal.getsignal(signal.SIGCHLD)
        if self.measurements and getattr(found, "__module__", "") == "torch.utils.data._utils.signal_handling":
            self._torchs = found
            signal.signal(signal.SIGCHLD, self)

    def leave(self) -> None:
        """Torch's handler is back, unless another one was set meanwhile."""
        self.missed = False  # nobody reads on from that loader
        if signal.getsignal(signal.SIGCHLD) is self:
            signal.signal(signal.SIGCHLD, self._torchs)


_handler = _Handler()


def _heard_here() -> bool:
    return hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def told_where_read() -> Iterator[None]:
    """Inside, what a signal says of a worker is raised by `read` or not at all."""
    if not _heard_here():
        yield
        return
    _handler.measurements += 1
    _handler.stand()
    try:
        yield
    finally:
        _handler.measurements -= 1
        if not _handler.measurements:
            _handler.leave()


def read(items: Iterator[Any]) -> Any:
    """The next item.

    Raises:
        StopIteration: there is none.
        RuntimeError: torch says that a worker of these items died, now or since the last item.
    """
    if not _heard_here():
        return next(items)
    own = frozenset(worker.pid for worker in getattr(items, "_workers", ()))
    try:
        _handler.own = own  # set in this frame: no signal is heard between what it says and the next line
        if own:
            _handler.hear()
        return next(items)
    finally:
        _handler.own = frozenset()
        _handler.stand()
