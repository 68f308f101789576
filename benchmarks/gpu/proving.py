"""What the commands of this folder share: a budget for each phase, rows that are written after each, timing, NaN.

A row is a name and figures. `ok` of a row is False where an answer is wrong; `met` is False where a target of speed is
missed. The exit code tells: 0 all well, 1 a wrong answer or a phase that failed, 2 a phase without time left, 3 nothing
worse than a target that is missed.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import math
import platform
import signal
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from fastfreq.results.atomic import write_text

AHEAD = 1 << 23  # cycles, some 4 ms
FLUSH = 1 << 28  # bytes written between two timings, more than any cache holds
PREDICTED = "predicted, not yet measured"


@dataclasses.dataclass
class Proof:
    """A run of phases on one device, and what it found.

    Attributes:
        out: the JSON, written after each phase and as a whole.
        device: "cuda", or "cpu" of a dry run.
        dry: tiny sizes on a CPU: tries the commands, proves nothing of a card.
        seconds: of the whole run.
    """

    out: Path
    device: str
    dry: bool
    seconds: float
    phases: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    rates: dict[str, float] = dataclasses.field(default_factory=dict)
    began: float = dataclasses.field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.patience = 4.0 if self.dry else 1.0  # where others share the machine
        self.seconds *= self.patience

    # ---------------------------------------------------------------- phases
    def phase(self, name: str, seconds: float, run: Callable[[Proof], None]) -> None:
        """Run one phase within its seconds and those that are left; what it raises is kept, and the next one runs."""
        seconds *= self.patience
        begin, left = time.monotonic(), self.seconds - (time.monotonic() - self.began)
        state: dict[str, Any] = {"state": "no time left"}
        if left >= seconds / 3:
            try:
                with _interrupted_at(begin + min(seconds, left)):
                    run(self)
                    self.wait()
                state = {"state": "done"}
            except TimeoutError as error:
                state = {"state": "out of time", "why": str(error)}
            except Exception as error:  # noqa: BLE001 - the other phases are worth more than an early end
                state = {"state": "failed", "why": f"{type(error).__name__}: {error}"[:2000]}
                state["where"] = traceback.format_exc()[-1500:]
        self.phases[name] = {**state, "seconds": round(time.monotonic() - begin, 1)}
        self.release()
        print(f"-- {name}: {self.phases[name]}", flush=True)
        self.save()

    def row(self, name: str, **figures: Any) -> None:
        """Keep and print one row."""
        self.rows[name] = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in figures.items()}
        print(name, self.rows[name], flush=True)

    @property
    def code(self) -> int:
        """The exit code."""
        states = {phase["state"] for phase in self.phases.values()}
        if "failed" in states or any(row.get("ok") is False for row in self.rows.values()):
            return 1
        if states - {"done"}:
            return 2
        return 3 if any(row.get("met") is False for row in self.rows.values()) else 0

    def save(self) -> None:
        """Write what there is, whole or not at all."""
        found = {
            "machine": machine(self.device),
            "date": time.strftime("%Y-%m-%d"),
            "dry": self.dry,
            "seconds": round(time.monotonic() - self.began, 1),
            "phases": self.phases,
            "ceilings": {name: float(f"{rate:.4g}") for name, rate in self.rates.items()},
            "rows": self.rows,
        }
        write_text(self.out, json.dumps(found, indent=1, default=str) + "\n")

    # ---------------------------------------------------------------- the device
    def wait(self) -> None:
        """For the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def release(self) -> None:
        """Give back what a phase held."""
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def poison(self) -> None:
        """Fill memory that the allocator will hand out again with NaN: output that is not written shows."""
        if self.device == "cuda":
            block = torch.full((1 << 28,), math.nan, device="cuda")  # 1 GiB
            small = [torch.full((1 << k,), math.nan, device="cuda") for k in range(8, 20) for _ in range(4)]
            del block, small

    def ms(self, run: Callable[[], Any], *, repeats: int = 20, seconds: float = 1.0) -> float:
        """Median time of a call on the device, which first waits so that the host runs ahead; its caches are cold."""
        run()
        self.wait()
        if self.device != "cuda":
            start = time.perf_counter()
            run()
            return 1e3 * (time.perf_counter() - start)
        flush = torch.empty(FLUSH, dtype=torch.uint8, device="cuda")
        times: list[float] = []
        begin = time.monotonic()
        while len(times) < repeats and (len(times) < 3 or time.monotonic() - begin < seconds):
            flush.zero_()
            torch.cuda._sleep(AHEAD)
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            stop.record()
            stop.synchronize()
            times.append(start.elapsed_time(stop))
        return statistics.median(times)

    def lasting_ms(self, run: Callable[[], Any], seconds: float = 1.5) -> float:
        """Time of one of many calls without a pause, so that the clock of a card under load counts."""
        run()
        self.wait()
        calls, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < (seconds if self.device == "cuda" else 0) or not calls:
            for _ in range(8 if self.device == "cuda" else 1):
                run()
                calls += 1
            self.wait()
        return 1e3 * (time.perf_counter() - begin) / calls

    def parts_ms(self, run: Callable[[], Any], most: int = 12) -> dict[str, float]:
        """Milliseconds of the longest kernels of a call by their names, of all together, and of the call as seen."""
        if self.device != "cuda":
            return {}
        kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=kinds) as profiler:
            begin = time.perf_counter()
            run()
            self.wait()
            seen = 1e3 * (time.perf_counter() - begin)
        events = [e for e in profiler.key_averages() if e.device_type == torch.autograd.DeviceType.CUDA]
        times = {f"{e.key[:60]} x {e.count}": e.self_device_time_total / 1e3 for e in events}
        host = [e for e in profiler.key_averages() if e.device_type == torch.autograd.DeviceType.CPU]
        calls = {f"host {e.key[:40]} x {e.count}": e.self_cpu_time_total / 1e3 for e in host}
        shown = [*_longest(times, most), *_longest(calls, most), ("all kernels", sum(times.values())), ("seen", seen)]
        return {name: float(f"{ms:.4g}") for name, ms in shown}

    def wall_ms(self, run: Callable[[], Any], repeats: int = 3) -> float:
        """Median time of a call as its caller sees it, warmed up."""
        times = []
        for i in range(repeats + 1):
            start = time.perf_counter()
            run()
            self.wait()
            times += [1e3 * (time.perf_counter() - start)] * (i > 0)
        return statistics.median(times)


def machine(device: str) -> dict[str, Any]:
    """What the figures belong to; no host names."""
    facts: dict[str, Any] = {"torch": torch.__version__, "python": platform.python_version(), "triton": None}
    try:
        import triton

        facts["triton"] = triton.__version__
    except ImportError:
        pass
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        facts |= {"gpu": properties.name, "multiprocessors": properties.multi_processor_count}
    else:
        facts |= {"gpu": None, "cpu": platform.machine()}
    return facts


def _longest(times: dict[str, float], most: int) -> list[tuple[str, float]]:
    return sorted(times.items(), key=lambda item: -item[1])[:most]


class _interrupted_at:  # noqa: N801 - read as a word in `with`
    """TimeoutError in the main thread at a time of the monotonic clock: between two steps, not inside one."""

    def __init__(self, end: float) -> None:
        self.end = end

    def __enter__(self) -> None:
        def stop(_signal: int, _frame: Any) -> None:
            raise TimeoutError("the phase's seconds are over")

        self.before = signal.signal(signal.SIGALRM, stop)
        # again and again: Python swallows what is raised while it cleans up
        signal.setitimer(signal.ITIMER_REAL, max(0.1, self.end - time.monotonic()), 1.0)

    def __exit__(self, *_error: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


def relative(found: torch.Tensor, truth: torch.Tensor) -> float:
    """||found - truth|| / ||truth||; NaN where anything is not a number."""
    found, truth = found.detach().cpu().double(), truth.detach().cpu().double()
    return float((found - truth).norm() / truth.norm().clamp_min(1e-300))


def lines(rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The table for people: one line per row."""
    for name, row in rows.items():
        verdict = "WRONG" if row.get("ok") is False else "missed" if row.get("met") is False else ""
        figures = "  ".join(f"{key} {value}" for key, value in row.items() if key not in ("ok", "met"))
        yield f"{name:58} {verdict:7}{figures}"
