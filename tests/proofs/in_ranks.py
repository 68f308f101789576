"""Processes that measure together and may be killed, at any moment or at a chosen step of a save."""

from __future__ import annotations

import os
import signal
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from fastfreq.engine import checkpoint, ranks
from fastfreq.results import atomic
from tests.proofs import measurements

SILENT = 5.0  # seconds after which a rank is given up
STEPS = ("written", "synced", "renamed")


def die_at(step: str, number: int) -> None:
    """Kill this process at a step of the `number`-th file that it saves."""
    saved = [0]

    def at(name: str) -> None:
        if name == step and saved[0] >= number:
            os.kill(os.getpid(), signal.SIGKILL)

    fsync, replace = os.fsync, Path.replace

    def dying_fsync(handle: int) -> None:
        at("written")
        fsync(handle)
        at("synced")

    def dying_replace(self: Path, target: Any) -> Path:
        found = replace(self, target)
        at("renamed")
        saved[0] += 1
        return found

    atomic.os = type("os", (), {**vars(os), "fsync": staticmethod(dying_fsync)})  # pyright: ignore
    Path.replace = dying_replace


def run(name: str, path: Path, rank: int, size: int, meeting: str, dies: tuple[str, int] | None = None) -> None:
    """One rank: go on from the checkpoint at `path`; the first saves what comes back, and why one stops is saved."""
    folder = path.parent
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    os.environ["FASTFREQ_CACHE_DIR"] = str(folder.parent)
    checkpoint._SAVE_EVERY, ranks.SILENT = measurements.SAVE_EVERY, SILENT
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/{meeting}", rank=rank, world_size=size)
    if dies is not None:
        die_at(*dies)
    try:
        result = measurements.run(name, checkpoint=path, channels_last=False)  # not as timing finds it
    except RuntimeError as error:
        (folder / f"{meeting}-{rank}.txt").write_text(f"{time.monotonic()} {error}")
        return
    if rank == 0:
        result.save(folder / "result.npz")
