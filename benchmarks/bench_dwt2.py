"""dwt2 and idwt2 against PyWavelets, and ptwt where it is installed, on one thread each: CPU time, taken in turn.

pytest benchmarks/bench_dwt2.py --results benchmarks/results/NAME.json
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest
import torch
from fastfreq_kernels import dwt2, idwt2

pywt = pytest.importorskip("pywt")
LEVELS, SHAPE = 3, (64, 3, 224, 224)


def cpu_seconds(runs, rounds=5):
    """name -> CPU seconds of each call, in turn."""
    spent = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            run()
            spent[name].append(time.process_time() - start)
    return spent


def over(spent, name, other):
    """Median ratio of calls made in one round."""
    return statistics.median(a / b for a, b in zip(spent[name], spent[other], strict=True))


@pytest.mark.parametrize("mode", ["symmetric", "periodization"])
def bench_dwt2(mode, record):
    """db4, three levels, 64 x 3 x 224 x 224, float32."""
    wavelet = pywt.Wavelet("db4")
    images = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))
    pixels = images.numpy()

    def ours():
        return dwt2(images, wavelet.dec_lo, wavelet.dec_hi, mode=mode, levels=LEVELS)

    def theirs():
        return pywt.wavedec2(pixels, wavelet, mode, level=LEVELS)

    approximation, details = ours()
    wanted = theirs()
    np.testing.assert_allclose(approximation, wanted[0], atol=5e-6)
    for level, three in zip(details, wanted[1:], strict=True):
        np.testing.assert_allclose(level, np.stack(three, axis=2), atol=5e-6)

    def back():
        return idwt2(approximation, details, wavelet.rec_lo, wavelet.rec_hi, mode=mode, shape=SHAPE[2:])

    np.testing.assert_allclose(back(), pixels, atol=5e-6)
    runs = {
        "ours": ours, "pywavelets": theirs, "ours_back": back,
        "pywavelets_back": lambda: pywt.waverec2(wanted, wavelet, mode), "copy": images.clone,
    }  # fmt: skip
    if mode != "periodization":  # which ptwt has not
        ptwt = pytest.importorskip("ptwt")
        runs["ptwt"] = lambda: ptwt.wavedec2(images, "db4", mode=mode, level=LEVELS)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            spent = cpu_seconds(runs)
    finally:
        torch.set_num_threads(threads)
    figures = {f"{name}_ms": 1e3 * statistics.median(seconds) for name, seconds in spent.items()}
    figures |= {"over_pywavelets": over(spent, "pywavelets", "ours"), "copies": over(spent, "ours", "copy")}
    figures["back_over_pywavelets"] = over(spent, "pywavelets_back", "ours_back")
    if "ptwt" in spent:
        figures["over_ptwt"] = over(spent, "ptwt", "ours")
    record(**figures, threads=1, date=time.strftime("%Y-%m-%d"))
