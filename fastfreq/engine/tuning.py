"""How many images to a forward pass, and in which layout: timed once per model and machine, then remembered."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
import platform
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastfreq.results import store

from .memory import is_out_of_memory
from .network import Network
from .run import Run

_SHARE = 0.05  # of the passes of a job that may go into timing, where the job is over soon
_LONG_SHARE = 0.02  # of those of a job that takes long
_SOON = 0.1  # seconds of timing that nobody minds
_FEW = 8  # images on which precisions are compared
_SLOWER = 1.1  # times: below, noise
_MEASURABLE = 4e-3  # seconds: shorter passes are mostly overhead
_REMEMBERED: dict[str, tuple[int, bool, float]] = {}
_FASTER: dict[str, str] = {}


@dataclasses.dataclass(frozen=True)
class Pace:
    """How a network is run.

    Attributes:
        batch_size: images in one forward pass.
        channels_last: the layout.
        seconds: of one image in such a pass; NaN where none was timed.
    """

    batch_size: int
    channels_last: bool
    seconds: float


def candidates(shape: tuple[int, int, int], device: torch.device) -> list[int]:
    """Batch sizes worth trying for images of a shape, ascending; the first is taken where nothing is timed."""
    small = shape[1] * shape[2] <= 64 * 64
    if device.type == "cuda":
        return [256, 512, 1024, 128, 64] if small else [64, 128, 256, 32, 16]
    return [64, 128, 256, 32] if small else [16, 32, 64, 8]


def pace(network: Network, shape: tuple[int, int, int], run: Run, example: Tensor, passes: float) -> Pace:
    """The fastest batch size and layout of those asked for.

    Args:
        network: cast to its precision, hooks in place.
        shape: (c, h, w) of the images.
        run: whose `batch_size` and `channels_last` are taken where they are given.
        example: (n, c, h, w) pixels to run, on the device.
        passes: forward passes of the whole job, so that timing stays a small part of it.
    """
    layouts = [True, False] if run.channels_last is None and network.convolutional else [bool(run.channels_last)]
    layouts = [layout and network.convolutional for layout in layouts]
    sizes = candidates(shape, network.device) if run.batch_size is None else [run.batch_size]
    if len(sizes) * len(layouts) == 1:
        return Pace(sizes[0], layouts[0], float("nan"))
    key = _key(network, shape, run)
    if (known := _remembered(key)) is not None:
        return Pace(*known)
    timer = _Timer(network, example, passes=passes)
    found = timer.best(sizes, layouts)
    if timer.complete:
        _remember(key, found)
    return found


class _Timer:
    """Seconds per image of batch sizes and layouts, within a budget of images."""

    def __init__(self, network: Network, example: Tensor, *, passes: float) -> None:
        self._network, self._example, self._passes = network, example, passes
        self._left = _SHARE * passes
        self.complete = True

    def seconds(self, size: int, channels_last: bool) -> float:
        """Of one image; infinite where it does not fit in memory or the budget is spent."""
        if 2 * size > self._left:
            self.complete = False
            return float("inf")
        spent = self._spent(size, channels_last, 3 if 3 * size <= self._left / 4 else 2)  # the first warms up
        return min(spent[1:], default=float("inf")) / size

    def _spent(self, size: int, channels_last: bool, rounds: int) -> list[float]:
        """Seconds of each pass; fewer than asked for where one does not fit into memory."""
        network, device = self._network, self._network.device
        network.lay_out(channels_last)
        repeated = self._example[torch.arange(size, device=device) % len(self._example)]
        spent = []
        try:
            for _ in range(rounds):
                batch = network.clean_batch(repeated)
                _wait(device)
                start = time.perf_counter()
                network(batch)
                _wait(device)
                spent.append(time.perf_counter() - start)
                self._left -= size
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return []
        return spent

    def best(self, sizes: list[int], layouts: list[bool]) -> Pace:
        """Layouts at the first size, or at fewer images where that takes too long; then sizes while they gain."""
        first = sizes[0]
        self._be_short(first, layouts[0])
        layout, seconds, at = self._layout(first, layouts)
        best = Pace(first, layout, seconds)
        if at == first and self.complete:
            best = self._size(sizes, best)
        self.complete &= at == first
        self._network.lay_out(best.channels_last)
        return best if best.seconds < float("inf") else dataclasses.replace(best, seconds=float("nan"))

    def _layout(self, size: int, layouts: list[bool]) -> tuple[bool, float, int]:
        """(the faster one, seconds of an image, images of the passes that told)."""
        if len(layouts) == 1:
            return layouts[0], self.seconds(size, layouts[0]), size
        few = next((n for n in (size, size // 2, size // 4) if n and 2 * len(layouts) * n <= self._left), 0)
        times = {layout: self.seconds(few, layout) if few else float("inf") for layout in layouts}
        layout = min(times, key=lambda each: times[each])
        return layout, times[layout], few

    def _size(self, sizes: list[int], best: Pace) -> Pace:
        """Larger ones, then smaller ones, while they gain."""
        first = sizes[0]
        larger, smaller = (sorted(s for s in sizes if s > first), sorted(s for s in sizes if s < first)[::-1])
        for direction in (larger, smaller):
            for size in direction:
                seconds = self.seconds(size, best.channels_last)
                if not seconds < 0.98 * best.seconds:  # ties, and what was not timed, change nothing
                    break
                best = dataclasses.replace(best, batch_size=size, seconds=seconds)
            if best.batch_size != first:
                break
        return best

    def _be_short(self, size: int, channels_last: bool) -> None:
        """Keep to a smaller part of a job that takes long, by what a small batch takes."""
        few = max(1, size // 8)
        if 4 * few > self._left:
            self._left = 0
            return
        seconds = min(self._spent(few, channels_last, 2), default=0.0) / few * self._passes
        share = max(_LONG_SHARE, _SOON / seconds) if seconds else _SHARE
        self._left -= max(0, _SHARE - share) * self._passes


def warn_if_slower(network: Network, example: Tensor) -> None:
    """Warn where the precision asked for is slower than float32 on this processor, with both figures.

    Called before `Network.cast`.
    """
    if network.dtype == torch.float32 or network.device.type != "cpu":
        return
    seconds = _seconds(network, example, ("fp32", network.precision))
    if seconds is None:
        return
    if seconds[1] > _SLOWER * seconds[0] and _FEW * seconds[0] > _MEASURABLE:
        warnings.warn(
            f"precision={network.precision!r} takes {1e3 * seconds[1]:.3g} ms an image on this processor, 'fp32' "
            f"{1e3 * seconds[0]:.3g} ms: it has no fast instructions for it",
            stacklevel=6,
        )


PRECISIONS = ("fp32", "bf16")
"""That `faster_precision` chooses from: both keep the range of float32."""


def faster_precision(network: Network, example: Tensor) -> str:
    """What takes less: "bf16" if it is by a tenth on this machine, else "fp32"; timed once, then remembered.

    Called before `Network.cast`.
    """
    key = "precision " + _key(network, (0, 0, 0), Run())
    known = _FASTER.get(key) or _read().get(key)
    if known in PRECISIONS:
        return known
    seconds = _seconds(network, example, PRECISIONS, rounds=6)
    found = PRECISIONS[int(seconds is not None and _SLOWER * seconds[1] < seconds[0])]
    _FASTER[key] = found
    _write({key: found})
    return found


def _seconds(network: Network, example: Tensor, precisions: tuple[str, ...], *, rounds: int = 2) -> list[float] | None:
    """Of one image in each precision, the least of some rounds in turn; None where a few do not fit into memory."""
    few = example[torch.arange(_FEW, device=example.device) % len(example)]
    networks, seconds = [], [float("inf")] * len(precisions)
    try:
        for precision in precisions:
            net = copy.copy(network)
            if precision != "fp32":
                net.net = copy.deepcopy(network.net)
                net.take_precision(precision)
                net.cast()
            networks.append(net)
        for i in range(rounds + 1):  # the first warms up
            for j, net in enumerate(networks):
                batch = net.clean_batch(few)
                _wait(net.device)
                start = time.perf_counter()
                net(batch)
                _wait(net.device)
                seconds[j] = min(seconds[j], (time.perf_counter() - start) / _FEW) if i else seconds[j]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# ---------------------------------------------------------------- memory of choices
def _key(network: Network, shape: tuple[int, int, int], run: Run) -> str:
    machine = f"{platform.processor() or platform.machine()} {torch.get_num_threads()} {torch.__version__}"
    if network.device.type == "cuda":
        machine = f"{torch.cuda.get_device_name(network.device)} {torch.__version__}"
    text = f"{network.weights} {shape} {run.precision} {run.channels_last} {run.batch_size} {run.fold_batch_norm}"
    return hashlib.sha256(f"{text} {machine}".encode()).hexdigest()[:24]


def _file() -> Path:
    own = os.environ.get("FASTFREQ_CACHE_DIR")
    if own:
        return Path(own) / "pace.json"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastfreq" / "pace.json"


def _read() -> dict[str, Any]:
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # deeply nested, or of a user who has no home
        return {}
    return found if isinstance(found, dict) else {}


def _remembered(key: str) -> tuple[int, bool, float] | None:
    if key not in _REMEMBERED:
        match _read().get(key):
            case [int(size), bool(layout), float(seconds)] if size is not True and 0 < size <= 4096:
                _REMEMBERED[key] = (size, layout, seconds)
    return _REMEMBERED.get(key)


def _remember(key: str, found: Pace) -> None:
    _REMEMBERED[key] = (found.batch_size, found.channels_last, found.seconds)
    _write({key: list(_REMEMBERED[key])})


def _write(found: dict[str, Any]) -> None:
    kept = dict(list(_read().items())[-999:]) | found
    try:
        store.write_text(_file(), json.dumps(kept))
    except (OSError, RuntimeError):  # a home that is read-only, or none at all: timed again next time
        return
