"""What two processes of one thread gain by measuring together, against two that have nothing to do with each other.

pytest benchmarks/bench_ranks.py --results benchmarks/results/NAME.json

Two independent processes share caches and memory, so that they do less than twice the work of one: what they reach is
all there is to reach. Each round takes one process alone, two independent ones with all the images each, and two that
share the images; shares are medians over rounds. Processor time tells what the sharing itself costs, whatever else the
machine does.
"""

from __future__ import annotations

import os
import statistics

from two_processes import TwoProcesses

ROUNDS = 5
ALLOWED = 0.95


def bench_two_ranks(benchmark, record):
    seconds: dict[str, list[float]] = {"alone": [], "independent": [], "together": []}
    processor: dict[str, list[float]] = {"alone": [], "independent": [], "together": []}
    load = os.getloadavg()[0]
    with TwoProcesses() as two:
        found = {each for how in seconds for each in two.measure(how)[2]}  # warms up, too
        assert len(found) == 1, "expected the same outcomes and sums of losses, bit for bit"

        def one_round() -> None:
            for how in seconds:
                elapsed, used, _ = two.measure(how)
                seconds[how].append(elapsed)
                processor[how].append(used)

        benchmark.pedantic(one_round, rounds=ROUNDS, iterations=1)
    ranks = zip(seconds["independent"], seconds["together"], strict=True)
    share = statistics.median(two / (2 * shared) for two, shared in ranks)
    costs = zip(processor["independent"], processor["together"], strict=True)
    record(
        speedup=statistics.median(a / b for a, b in zip(seconds["alone"], seconds["together"], strict=True)),
        independent=statistics.median(2 * a / b for a, b in zip(seconds["alone"], seconds["independent"], strict=True)),
        share_of_independent=share,
        share_by_processor_time=statistics.median(two / (2 * shared) for two, shared in costs),
        load_before=load,
        **{f"seconds_{how}": statistics.median(values) for how, values in seconds.items()},
    )
    assert share >= ALLOWED, f"expected {ALLOWED} of what independent processes reach, got {share:.3f}"
