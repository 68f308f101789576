"""A DataLoader's worker that died is told of where its batches are read, not wherever a measurement happens to be.

torch raises from the handler of SIGCHLD: in the middle of a save, too, or between an error and what keeps the images
that are finished. While a measurement runs, that handler is asked only where images are read.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class _Handler:
    """Stands before torch's handler; the main thread's alone, as signals are."""

    def __init__(self) -> None:
        self.measurements = 0
        self.reading = self.missed = False
        self._torchs: Any = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.measurements and not self.reading:
            self.missed = True
        elif callable(self._torchs):
            self._torchs(number, frame)

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
        RuntimeError: torch says that a worker died, now or since the last item.
    """
    if not _heard_here():
        return next(items)
    try:
        _handler.reading = True  # set in this frame: no signal is heard between what it says and the next line
        if _handler.missed:
            _handler.missed = False
            _handler(signal.SIGCHLD, None)
        return next(items)
    finally:
        _handler.reading = False
        _handler.stand()
