"""Machine facts, and one JSON of results: pytest benchmarks --results benchmarks/results/NAME.json."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

torch.set_num_threads(min(2, os.cpu_count() or 1))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results", type=Path, help="merge the figures of this run into this JSON file")


def machine() -> dict[str, Any]:
    """What the figures belong to; no host names."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        named = {key.strip(): value.strip() for key, value in lines.items()}
        cpu = f"{named.get('model name', cpu)} (family {named.get('cpu family')}, model {named.get('model')})"
    return {
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


_rows: dict[str, dict[str, Any]] = {}


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[..., None]:
    """record(**figures): keep the figures of this benchmark under its name, and print them."""

    def keep(**figures: Any) -> None:
        rounded = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in figures.items()}
        _rows[request.node.name] = rounded
        print(f"\n{request.node.name}: {rounded}")

    return keep


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--results")
    if path is None or not _rows:
        return
    old = json.loads(path.read_text()) if path.exists() else {}
    rows = {**old.get("rows", {}), **_rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "rows": dict(sorted(rows.items()))}
    path.write_text(json.dumps(text, indent=2) + "\n")


_SHORT, _WARM = 0.2, 0.1  # seconds


@pytest.fixture
def paired(benchmark: Any) -> Callable[..., tuple[float, float, float]]:
    """paired(ours, theirs, rounds): medians in seconds and the median of the ratios, taken in turn in one run.

    A short call is timed after a tenth of a second of its own, untimed: caches hold the other side's data before, and
    its OpenMP threads spin on.
    """

    def run(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int = 5) -> tuple[float, float, float]:
        ours(), theirs()  # warm up
        a, b = [], []

        def timed(side: Callable[[], Any], seconds: list[float]) -> None:
            start = time.perf_counter()
            side()
            seconds.append(time.perf_counter() - start)

        def before() -> None:
            warm(theirs, b)
            timed(theirs, b)
            warm(ours, a)

        def warm(side: Callable[[], Any], seconds: list[float]) -> None:
            until = time.perf_counter() + _WARM
            while (not seconds or seconds[-1] < _SHORT) and time.perf_counter() < until:
                side()

        benchmark.pedantic(lambda: timed(ours, a), setup=before, rounds=rounds, iterations=1)
        ratios = [x / y for x, y in zip(a, b, strict=True)]
        return statistics.median(a), statistics.median(b), statistics.median(ratios)

    return run
