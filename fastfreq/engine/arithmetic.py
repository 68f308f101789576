"""What float32 means while something is measured: IEEE arithmetic, or TF32 where that was asked for by name.

Unless it is told otherwise, torch lets cuDNN round the factors of float32 convolutions to the ten bits of TF32, and
callers may allow the same, or bfloat16, for matrix products. The switches are the whole process's. So the first to
measure sets them, and the last puts back what it found; who wants the other arithmetic meanwhile waits.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import backends

Float32 = Literal["ieee", "tf32"]
_Switch = tuple[str, str]

# (backend, operation): what a switch does not say itself, that of its backend says, and else the one of all
_ABOVE: tuple[_Switch, ...] = (("generic", "all"), ("cuda", "all"), ("mkldnn", "all"))
_ON_GPU: tuple[_Switch, ...] = (("cuda", "conv"), ("cuda", "rnn"), ("cuda", "matmul"))
_ON_CPU: tuple[_Switch, ...] = (("mkldnn", "conv"), ("mkldnn", "rnn"), ("mkldnn", "matmul"))
# behind torch.backends, whose mkldnn.fp32_precision reads one switch and sets another (torch 2.13)
_get: Callable[[str, str], str] = torch._C._get_fp32_precision_getter
_put: Callable[[str, str, str], object] = torch._C._set_fp32_precision_setter


@contextlib.contextmanager
def float32(how: Float32) -> Iterator[None]:
    """Float32 is `how` on every GPU, and IEEE on CPUs; what a thread is in already is suspended within."""
    held, _HELD.how = _HELD.how, how
    if held != how:
        _SWITCHES.leave(held)
        _SWITCHES.enter(how)
    try:
        yield
    finally:
        _HELD.how = held
        if held != how:
            _SWITCHES.leave(how)
            _SWITCHES.enter(held)


class _Held(threading.local):
    how: Float32 | None = None  # what this thread is in


class _Switches:
    """Who uses them, all in one arithmetic."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._users, self._how = 0, None
        self._put_back: Callable[[], None] = lambda: None

    def enter(self, how: Float32 | None) -> None:
        """Wait until nobody needs another arithmetic, then set this one."""
        if how is None:
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._users or self._how == how)
            if not self._users:
                self._put_back, self._how = _found(), how
                _set(how)
            self._users += 1

    def leave(self, how: Float32 | None) -> None:
        """Put back what was found, if nobody else is left."""
        if how is None:
            return
        with self._changed:
            self._users -= 1
            if not self._users:
                self._put_back()
                self._changed.notify_all()


_HELD, _SWITCHES = _Held(), _Switches()


def _found() -> Callable[[], None]:
    """What puts every switch back as it stands; all of them are left open.

    A switch that follows another one is told from one that says the same by reading it twice. One reading is lost:
    torch starts with convolutions in TF32 unless a switch above them says otherwise, which cannot be set again, so
    that afterwards they are in TF32 by their own switch.
    """
    leaves = (*_ON_GPU, *_ON_CPU)
    seen = {switch: _get(*switch) for switch in leaves}
    said: dict[_Switch, str] = {}
    for switch in _ABOVE:
        said[switch] = _get(*switch)
        _put(*switch, "none")
    said |= {switch: value if _get(*switch) == value else "none" for switch, value in seen.items()}
    for switch in leaves:
        _put(*switch, "none")
    # the older switches beside them, which torch refuses to read where they contradict the newer ones
    convolutions, products = _read(lambda: backends.cudnn.allow_tf32, True), torch.get_float32_matmul_precision()

    def put_back() -> None:
        backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)
        for switch, value in said.items():
            _put(*switch, value)

    return put_back


def _read(switch: Callable[[], bool], contradicted: bool) -> bool:
    try:
        return switch()
    except RuntimeError:
        return contradicted


def _set(how: Float32) -> None:
    """Older and newer switches in agreement, so that networks may read either."""
    backends.cudnn.allow_tf32 = how == "tf32"
    torch.set_float32_matmul_precision("high" if how == "tf32" else "highest")
    for switch in _ON_GPU:
        _put(*switch, how)
    for switch in _ON_CPU:
        _put(*switch, "ieee")
