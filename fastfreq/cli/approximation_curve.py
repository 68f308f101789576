"""`fastfreq approximation-curve`: how few numbers of a fixed frame give images again."""

from __future__ import annotations

import argparse
from typing import Any

from ._measure import Measure, Subject


class _ApproximationCurve(Measure):
    kind, model, data, run_words = "approximation_curve", False, "unlabelled", ("shard", "checkpoint")

    def add(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--frame", choices=["fourier", "wavelet", "curvelet"], default="fourier", help="default: fourier"
        )
        parser.add_argument("--wavelet", metavar="NAME", help="of PyWavelets, orthogonal; default: db4")
        parser.add_argument("--counts", nargs="+", type=int, metavar="N", help="numbers of terms; default: 25 of them")

    def arguments(self, options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
        return {"frame": options.frame, "wavelet": options.wavelet, "counts": options.counts}


VERB = _ApproximationCurve()
