"""Hours of measurements with everything going wrong around them: what a process holds must stay what it was.

    python -m tests.proofs.soak --minutes 120 --log soak.jsonl --json soak.json

In one thread, round after round: every measurement of the contract's table, saved, loaded and said, the same figures
each time; batches that run out of memory; a DataLoader worker that dies, an image that cannot be read, a model that
raises, Ctrl-C, each gone on from; folders that take no files, before the first pass and in the middle; a picture. After
each round: resident memory, open files, threads, child processes, temporary files, shared memory.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import json
import os
import platform
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch

import fastfreq as ff
from tests.contract import failures, subjects
from tests.contract.subjects import EVENTS
from tests.contract.table import TABLE, Row

WARM_UP = 600.0  # seconds: caches of compiled code, fonts, allocators
BOUND = 0.02  # of resident memory at the end of the warm-up
KEEP = [row for row in TABLE if not {"images", "checkpoint", "loaders"} & set(row.cannot)]


# ---------------------------------------------------------------- what a process holds
def held(folder: Path) -> dict[str, int]:
    """Now, after what is free was let go."""
    gc.collect()
    own = Path("/proc/self")
    pages = int((own / "statm").read_text().split()[1])
    children = (own / f"task/{os.getpid()}/children").read_text().split()
    # a DataLoader whose worker died opens temporary files to see whether any can be; its own signal may strike there
    probes = [path for path in folder.glob("tmp*") if path.is_file() and not path.stat().st_size]
    return {
        "rss": pages * os.sysconf("SC_PAGE_SIZE"),
        "files": len(list((own / "fd").iterdir())) - len(probes),
        "threads": len(list((own / "task").iterdir())),
        "python threads": threading.active_count(),
        "children": len(children),
        # a worker that is killed leaves the socket folder of its own multiprocessing behind, whatever it works for
        "temporary": sum(1 for path in folder.rglob("*") if "pymp-" not in str(path)) - len(probes),
        "shared memory": sum(1 for file in Path("/dev/shm").glob(f"*{os.getpid()}*")),
    }


# ---------------------------------------------------------------- one round
class Round:
    """Everything once; figures are compared with those of the first time."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._first = folder, {}
        self.done: dict[str, int] = {}

    def run(self, number: int, until: float) -> bool:
        """All of it, or what fits until then; whether it was all."""
        for step in self._steps(number):
            if time.monotonic() > until:
                return False
            shutil.rmtree(self._folder / "now", ignore_errors=True)
            (self._folder / "now").mkdir()
            step()
            EVENTS.reset()
        shutil.rmtree(self._folder / "now")
        return True

    def _steps(self, number: int) -> list[Callable[[], object]]:
        steps: list[Callable[[], object]] = [lambda row=row: self._measured(row) for row in TABLE]
        row = KEEP[number % len(KEEP)]
        models = [row for row in KEEP if "model" not in row.cannot]
        with_model = models[number % len(models)]
        steps += [
            lambda: self._starved(with_model),
            lambda: self._gone_on(row, "a_worker_dies"),
            lambda: self._gone_on(row, "an_image_cannot_be_read"),
            lambda: self._gone_on(with_model, "the_model_raises"),
            lambda: self._gone_on(with_model, "ctrl_c"),
            lambda: self._unwritable(with_model),
            lambda: self._drawn(TABLE[number % len(TABLE)]),
        ]
        return steps

    def _same(self, what: str, row: Row, result: Any) -> None:
        digest = hashlib.sha256()
        for name, value in sorted(row.numbers(result).items()):
            digest.update(f"{name} {value.dtype} {value.shape}".encode() + value.tobytes())
        first = self._first.setdefault(what, digest.hexdigest())
        assert digest.hexdigest() == first, f"expected the figures of the first time of {what}"
        self.done[what.partition(" ")[0]] = self.done.get(what.partition(" ")[0], 0) + 1

    def _measured(self, row: Row) -> None:
        fixed = {"batch_size": 4, "channels_last": False}
        result = row.plain(**{k: v for k, v in fixed.items() if k not in row.cannot})
        file = self._folder / "now" / "r.npz"
        result.save(file)
        loaded = ff.load(file)
        assert repr(loaded) and loaded.summary() is not None
        self._same(f"measured {row.name}", row, loaded)

    def _starved(self, row: Row) -> None:
        self._same(f"starved {row.name}", row, failures.out_of_memory(row))

    def _gone_on(self, row: Row, mishap: str) -> None:
        path = self._folder / "now" / "c.npz"
        failures.MISHAPS[mishap](row, path)
        assert path.exists(), f"expected images that were finished to be kept: {row.name}, {mishap}"
        self._same(f"{mishap} {row.name}", row, failures.run(row, failures.loader(), checkpoint=path))

    def _unwritable(self, row: Row) -> None:
        folder = self._folder / "now" / "folder"
        folder.write_text("a file where the folder should be")
        with pytest.raises(OSError, match="checkpoint|folder"):
            failures.run(row, failures.loader(), checkpoint=folder / "c.npz")
        folder.unlink()
        folder.mkdir()

        def vanish() -> None:
            if folder.is_dir():
                shutil.rmtree(folder)
                folder.write_text("a file where the folder was")

        EVENTS.on_call = vanish
        with pytest.warns(UserWarning, match="checkpoint"):
            result = failures.run(row, failures.loader(), checkpoint=folder / "c.npz")
        self._same(f"unwritable {row.name}", row, result)

    def _drawn(self, row: Row) -> None:
        figure = row.plain().plot()
        figure.savefig(self._folder / "now" / "r.png")
        self.done["drawn"] = self.done.get("drawn", 0) + 1


# ---------------------------------------------------------------- hours of them
def soak(seconds: float, warm_up: float, log: Path | None = None) -> dict[str, Any]:
    """Rounds for so long: what was held after each, and how far it moved since the warm-up."""
    samples: list[dict[str, Any]] = []
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fastfreq-soak-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        before, tempfile.tempdir = tempfile.tempdir, name  # what is left there is seen
        stack.callback(setattr, tempfile, "tempdir", before)
        todo = Round(folder)
        number = 0
        while time.monotonic() < start + seconds and todo.run(number, start + seconds):
            sample = {"round": number, "seconds": round(time.monotonic() - start, 1), **held(folder)}
            samples.append(sample)
            if log is not None:
                with log.open("a") as file:
                    file.write(json.dumps(sample) + "\n")
            number += 1
    return verdict(samples, warm_up) | {"did": todo.done, "samples": len(samples)}


def verdict(samples: list[dict[str, Any]], warm_up: float) -> dict[str, Any]:
    """How far each count moved after the warm-up, and whether resident memory stayed within the bound."""
    after = [sample for sample in samples if sample["seconds"] >= warm_up]
    assert len(after) >= 2, f"expected two rounds after the warm-up of {warm_up} s, got {len(after)}"
    reference = after[0]["rss"]
    names = [name for name in after[0] if name not in ("round", "seconds")]
    ranges = {name: [min(s[name] for s in after), max(s[name] for s in after)] for name in names}
    moved = max(abs(edge - reference) for edge in ranges["rss"]) / reference
    return {
        "seconds": after[-1]["seconds"],
        "warm_up": after[0]["seconds"],
        "rss_at_warm_up": reference,
        "rss_at_end": after[-1]["rss"],
        "ranges_after_warm_up": ranges,
        "rss_moved": round(moved, 5),
        "bound": BOUND,
        "constant": moved <= BOUND,
        # threads of libraries' pools come when they are first needed
        "nothing_left": all(ranges[name][0] == ranges[name][1] for name in names if name not in ("rss", "threads")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--warm-up", type=float, default=WARM_UP, metavar="SECONDS")
    parser.add_argument("--log", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    matplotlib.use("agg")
    subjects.EVENTS.reset()
    found = soak(60 * options.minutes, options.warm_up, options.log)
    found |= {"python": platform.python_version(), "torch": str(torch.__version__), "threads": 1}
    print(json.dumps(found, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
