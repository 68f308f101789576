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

_SHARE = 0.05  # of the passes of a job that may go into timing
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
    timer = _Timer(network, example, budget=_SHARE * passes)
    found = timer.best(sizes, layouts)
    if timer.complete:
        _remember(key, found)
    return found


class _Timer:
    """Seconds per image of batch sizes and layouts, within a budget of images."""

    def __init__(self, network: Network, example: Tensor, *, budget: float) -> None:
        self._network, self._example, self._left = network, example, budget
        self.complete = True

    def seconds(self, size: int, channels_last: bool) -> float:
        """Of one image; infinite where it does not fit in memory or the budget is spent."""
        if 2 * size > self._left:
            self.complete = False
            return float("inf")
        network, device = self._network, self._network.device
        network.lay_out(channels_last)
        repeated = self._example[torch.arange(size, device=device) % len(self._example)]
        spent = []
        try:
            for _ in range(3 if 3 * size <= self._left / 4 else 2):  # the first warms up
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
            return float("inf")
        return min(spent[1:]) / size

    def best(self, sizes: list[int], layouts: list[bool]) -> Pace:
        """Layouts at the first size, then sizes while they gain."""
        times = {layout: self.seconds(sizes[0], layout) for layout in layouts} if len(layouts) > 1 else {}
        layout = min(times, key=lambda each: times[each]) if times else layouts[0]
        best = Pace(sizes[0], layout, times[layout] if times else self.seconds(sizes[0], layout))
        larger, smaller = (sorted(s for s in sizes if s > sizes[0]), sorted(s for s in sizes if s < sizes[0])[::-1])
        for direction in (larger, smaller):
            for size in direction:
                seconds = self.seconds(size, layout)
                if not seconds < 0.98 * best.seconds:  # ties, and what was not timed, change nothing
                    break
                best = Pace(size, layout, seconds)
            if best.batch_size != sizes[0]:
                break
        self._network.lay_out(best.channels_last)
        seconds = best.seconds if best.seconds < float("inf") else float("nan")
        return dataclasses.replace(best, seconds=seconds)


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
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _remembered(key: str) -> tuple[int, bool, float] | None:
    if key not in _REMEMBERED:
        match _read().get(key):
            case [int(size), bool(layout), float(seconds)] if 0 < size <= 4096:
                _REMEMBERED[key] = (size, layout, seconds)
    return _REMEMBERED.get(key)


def _remember(key: str, found: Pace) -> None:
    _REMEMBERED[key] = (found.batch_size, found.channels_last, found.seconds)
    _write({key: list(_REMEMBERED[key])})


def _write(found: dict[str, Any]) -> None:
    kept = dict(list(_read().items())[-999:]) | found
    try:
        store.write_text(_file(), json.dumps(kept))
    except OSError:  # a read-only home: timed again next time
        return
